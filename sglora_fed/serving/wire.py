"""What a request and a reply are on the wire. Every byte is checked before anything is made of it.

A request is what a mechanism releases: one embedding or place in a catalogue, which may be read in
several ways, or several places. It is a small JSON object or a safetensors file; a reply is always
a safetensors file of a size that the request's form alone decides.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from sglora_fed.adapters.layout import Layout, check_vectors
from sglora_fed.errors import AdapterValueError, ReplyError, RequestError
from sglora_fed.privacy.mechanisms.base import Form, embedding_form, index_form
from sglora_fed.tensors import header_of
from sglora_fed.units import off_unit

JSON, SAFETENSORS = "application/json", "application/vnd.safetensors"
"""The two types of content."""

LONGEST_BODY = 4096
"""Bytes of a request."""

MOST_PLACES = 64
"""Places in one request, and readings of one embedding or place."""

EMBEDDING, PLACES, CATALOGUE = "embedding", "places", "catalogue"
READINGS = "readings"
TYPES = {EMBEDDING: "F16", PLACES: "U16"}
KEYS = tuple(
    frozenset({*names, *more})
    for names in ({EMBEDDING}, {PLACES, CATALOGUE})
    for more in ((), (READINGS,))
)
"""Of a request as JSON; in a safetensors file what is no array stands in the metadata."""
ADAPTERS, GENERATOR = "adapters", "generator"


@dataclass(frozen=True)
class Accepted:
    """What an endpoint takes.

    Attributes:
        dim: numbers of an embedding, d.
        places: descriptions in its catalogue, k; 0 where it has none.
        catalogue: sha256 of the catalogue; empty where it has none.
    """

    dim: int
    places: int = 0
    catalogue: str = ""


@dataclass(frozen=True, eq=False)
class AdapterRequest:
    """What a client's mechanism has released.

    Attributes:
        released: [d] float16, a unit vector up to rounding; or [m] uint16, places that ascend.
        catalogue: sha256 of the catalogue that the places are of; empty for an embedding.
        readings: adapters that are wanted for an embedding: for the catalogue's entries that are
            nearest to it, nearest first, and for itself. Or for a single place: for the entries
            that are nearest to its own, which is the first of them.
    """

    released: np.ndarray
    catalogue: str = ""
    readings: int = 1

    @property
    def form(self) -> Form:
        """That of a mechanism that releases such things."""
        size = len(self.released)
        return embedding_form(size) if self.released.dtype.kind == "f" else index_form(size)

    @property
    def adapters(self) -> int:
        """That it asks for."""
        things = len(self.released) if self.form.dtype == "uint16" else 1
        return things * self.readings

    def pack(self) -> bytes:
        """The request as a safetensors file."""
        name = EMBEDDING if self.form.dtype == "float16" else PLACES
        told = {CATALOGUE: self.catalogue} if name == PLACES else {}
        told |= {READINGS: str(self.readings)} if self.readings > 1 else {}
        return save({name: self.released.astype(self.form.dtype)}, told or None)


def parse_request(body: bytes, content: str, accepted: Accepted) -> AdapterRequest:
    """Check and read a request.

    Args:
        body: bytes as they came.
        content: type of the content, one of ``JSON`` and ``SAFETENSORS``.
        accepted: what the endpoint takes.

    Raises:
        RequestError: for anything else than one request; it holds nothing of the body.
    """
    if len(body) > LONGEST_BODY:
        raise RequestError(f"{len(body)} bytes; at most {LONGEST_BODY}")
    values: Sequence[Any] | np.ndarray
    if content == JSON:
        name, values, told = _from_json(body)
    elif content == SAFETENSORS:
        name, values, told = _from_safetensors(body)
    else:
        raise RequestError(f"the content is of another type than {JSON} and {SAFETENSORS}")
    wanted = told.get(READINGS, 1)
    if name == EMBEDDING:
        rounded = values if isinstance(values, np.ndarray) else _rounded(values, accepted.dim)
        readings = _readings(wanted, accepted.places + 1)
        return AdapterRequest(_embedding(rounded, accepted.dim), readings=readings)
    catalogue = str(told[CATALOGUE])
    if not accepted.places or catalogue != accepted.catalogue:
        raise RequestError("the catalogue is not the one that the endpoint holds")
    places = values.tolist() if isinstance(values, np.ndarray) else values
    readings = _readings(wanted, accepted.places if len(places) == 1 else 1)
    return AdapterRequest(_places(places, accepted.places), catalogue, readings)


def _from_json(body: bytes) -> tuple[str, Sequence[Any], Mapping[str, Any]]:
    """Name, numbers and what else it says; one object with one list, and nothing within that."""
    if body.count(b"{") != 1 or body.count(b"[") != 1:
        raise RequestError("need one JSON object with one list of numbers")
    try:
        values = json.loads(
            body.decode("ascii"), object_pairs_hook=_different, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        raise RequestError("the body is no JSON of ASCII letters and finite numbers") from error
    if not isinstance(values, dict) or frozenset(values) not in KEYS:
        raise RequestError(
            f"need {EMBEDDING}, or {PLACES} and {CATALOGUE}, alone or with {READINGS}"
        )
    name = EMBEDDING if EMBEDDING in values else PLACES
    numbers = values.pop(name)
    if not isinstance(numbers, list) or not isinstance(values.get(CATALOGUE, ""), str):
        raise RequestError(f"{EMBEDDING} and {PLACES} are lists, {CATALOGUE} is a text")
    return name, numbers, values


def _different(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name comes twice")
    return values


def _no_constant(_: str) -> float:
    raise ValueError("NaN or infinity")


def _from_safetensors(body: bytes) -> tuple[str, np.ndarray, Mapping[str, Any]]:
    try:
        header, metadata = header_of(BytesIO(body), len(body))
        name, *others = header
        kind, shape = header[name]
        known = frozenset({name, *metadata}) in KEYS
        if others or TYPES.get(name) != kind or len(shape) != 1 or not known:
            raise ValueError("other arrays or metadata")
        # The library checks once more, and where in the file the numbers lie.
        return name, load(body)[name], _told(metadata)
    except (ValueError, SafetensorError) as error:
        raise RequestError(
            f"need a safetensors file of {EMBEDDING} (F16), or of {PLACES} (U16) with {CATALOGUE}"
            f" in its metadata, alone or with {READINGS} there"
        ) from error


def _told(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """As it would stand in JSON: metadata are texts."""
    if READINGS not in metadata:
        return metadata
    digits = str(metadata[READINGS])
    if not 1 <= len(digits) <= 2 or not digits.isascii() or not digits.isdigit():
        raise ValueError("no number of readings")
    return {**metadata, READINGS: int(digits)}


def _readings(count: Any, possible: int) -> int:
    """A number of readings, of so many that are possible."""
    most = min(MOST_PLACES, possible)
    if type(count) is not int or not 1 <= count <= most:
        raise RequestError(f"need 1 to {most} readings")
    return count


def _rounded(numbers: Sequence[Any], dim: int) -> np.ndarray:
    """[d] float16 of what was written as JSON."""
    if len(numbers) != dim or not {int, float}.issuperset(map(type, numbers)):
        raise RequestError(f"need {dim} numbers")
    # A number within [-2, 2] is also one for half precision; a whole one may be of any length.
    if not -2 <= min(numbers) <= max(numbers) <= 2:
        raise RequestError("a number is none of a unit vector")
    return np.array(numbers, np.float16)


def _embedding(rounded: np.ndarray, dim: int) -> np.ndarray:
    """[d] float16 of norm 1."""
    if len(rounded) != dim:
        raise RequestError(f"need {dim} numbers")
    if off_unit(rounded) is not None:
        raise RequestError("the embedding is no unit vector")
    return rounded


def _places(numbers: Sequence[Any], most: int) -> np.ndarray:
    """[m] uint16, ascending: another order could tell something."""
    if not 1 <= len(numbers) <= MOST_PLACES:
        raise RequestError(f"need 1 to {MOST_PLACES} places")
    if not all(type(value) is int and 0 <= value < most for value in numbers):
        raise RequestError(f"a place is no whole number below {most}")
    if any(second <= first for first, second in pairwise(numbers)):
        raise RequestError("places that do not ascend")
    return np.array(numbers, np.uint16)


def pack_reply(adapters: np.ndarray, generator: str) -> bytes:
    """Adapters [m, D] in half precision, and which generator made them, as a safetensors file."""
    return save({ADAPTERS: np.ascontiguousarray(adapters, np.float16)}, {GENERATOR: generator})


def reply_bytes(count: int, size: int) -> int:
    """The most bytes of a reply with so many adapters of so many numbers."""
    return 2 * count * size + 512


def parse_reply(body: bytes, count: int, layout: Layout, largest: float) -> tuple[np.ndarray, str]:
    """Check and read a reply.

    Args:
        body: bytes as they came.
        count: adapters that were asked for, m.
        layout: of the adapters.
        largest: norm that an adapter may have.

    Returns:
        [m, D] float32, and the sha256 of the generator's manifest.

    Raises:
        ReplyError: for anything else than so many usable adapters.
    """
    expected = {ADAPTERS: ("F16", (count, layout.size))}
    try:
        header, metadata = header_of(BytesIO(body), len(body))
        if header != expected or set(metadata) != {GENERATOR}:
            raise ValueError(f"it holds {header | metadata}; need {expected}")
        adapters = load(body)[ADAPTERS].astype(np.float32)
        check_vectors(adapters, layout, largest)
    except (ValueError, SafetensorError, AdapterValueError) as error:
        raise ReplyError(f"the reply is refused: {error}") from error
    return adapters, str(metadata[GENERATOR])


def as_json(request: AdapterRequest) -> bytes:
    """The request as JSON, for programs that have no safetensors; never longer than a body may be.

    A number of half precision is written with as many digits as tell it from its neighbours.
    """
    if request.form.dtype == "uint16":
        values: dict[str, Any] = {PLACES: request.released.tolist(), CATALOGUE: request.catalogue}
    else:
        values = {EMBEDDING: [float(str(value)) for value in request.released]}
    values |= {READINGS: request.readings} if request.readings > 1 else {}
    return json.dumps(values, separators=(",", ":")).encode("ascii")
