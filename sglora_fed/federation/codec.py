"""Plain values and arrays in and out of Flower records; everything read is checked first."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from io import BytesIO
from tokenize import TokenError
from typing import Any, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from flwr.common.constant import SType
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    no_object_id_recompute,
)

from sglora_fed.errors import MessageError
from sglora_fed.tasks.types import IDENTIFIER
from sglora_fed.units import off_unit

FIELDS, ARRAYS = "fields", "arrays"

MOST_CLIENTS = 100_000
"""Ids in one message, whatever a roster allows."""

MOST_SEED = 2**62

Word = TypeVar("Word", bound=str)

STATE_TYPES = ("float32", "float64", "int64")
MOST_AXES = 4
"""Of an array of a generator's state."""

INFINITY, MINUS_INFINITY = 0x7C00, 0xFC00
"""Bits in half precision."""

HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
"""Version of NumPy's file format -> what reads its header."""

HEADER_ERRORS = (
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    SyntaxError,
    TokenError,
    RecursionError,
    MemoryError,
)
"""What NumPy's header reader raises for headers that somebody made up."""


def wire_bytes(body: RecordDict) -> int:
    """Bytes of a message body as Flower sends it: every object once, with its headers."""
    # Else every object is packed and hashed again for each one that it lies in.
    with no_object_id_recompute():
        return sum(len(part.deflate()) for part in get_all_nested_objects(body).values())


def array_bytes(body: RecordDict) -> int:
    """Bytes of a message's arrays alone: nearly all of it, and nothing is packed to know them."""
    return sum(len(array.data) for some in body.array_records.values() for array in some.values())


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Embeddings [..., d] as they are; a MessageError unless all are unit vectors."""
    if (norm := off_unit(rows)) is not None:
        raise MessageError(f"an embedding has norm {norm:.4g}; need 1")
    return rows


def pack(fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> RecordDict:
    """One message body: named ints, floats, strings and lists of strings; named arrays."""
    packed = {name: _packed(np.ascontiguousarray(array)) for name, array in arrays.items()}
    return RecordDict({FIELDS: ConfigRecord(dict(fields)), ARRAYS: ArrayRecord(packed)})


def _packed(array: np.ndarray) -> Array:
    """As ``Array(array)``, which copies the numbers three times."""
    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    data = b"".join((header.getvalue(), array.data))
    return Array(str(array.dtype), array.shape, SType.NUMPY, data)


class Reader:
    """Checked access to a message body; every violation is a :class:`MessageError`."""

    def __init__(self, body: RecordDict) -> None:
        fields, arrays = body.get(FIELDS), body.get(ARRAYS)
        if not isinstance(fields, ConfigRecord) or not isinstance(arrays, ArrayRecord):
            raise MessageError(f"the body has {len(body)} records; need {FIELDS!r} and {ARRAYS!r}")
        self._fields = fields
        self._arrays = arrays

    def __contains__(self, name: str) -> bool:
        """Whether there is an array of this name."""
        return name in self._arrays

    def integer(self, name: str, low: int, high: int) -> int:
        """An integer in [low, high]."""
        value = self._fields.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise MessageError(f"{name} is {_shown(value)}; need an integer in [{low}, {high}]")
        return value

    def word(self, name: str, allowed: Collection[Word]) -> Word:
        """One of some words."""
        value = self._fields.get(name)
        for word in allowed:
            if value == word:
                return word
        raise MessageError(f"{name} is {_shown(value)}; need one of {', '.join(allowed)}")

    def identifiers(self, name: str, most: int) -> tuple[str, ...]:
        """Distinct identifiers (letters, digits, ``._-``; 64 characters at most)."""
        values = self.names(name, most)
        if len(set(values)) < len(values):
            raise MessageError(f"{name} holds an identifier twice")
        return values

    def names(self, name: str, most: int) -> tuple[str, ...]:
        """Identifiers that may repeat."""
        values = self._fields.get(name)
        if not isinstance(values, Sequence) or isinstance(values, (str, bytes)):
            raise MessageError(f"{name} is {_shown(values)}; need a list of identifiers")
        if len(values) > most:
            raise MessageError(f"{name} holds {len(values)} identifiers; at most {most}")
        for value in values:
            if not isinstance(value, str) or not IDENTIFIER.fullmatch(value):
                raise MessageError(f"{name} holds something that is no identifier")
        return tuple(str(value) for value in values)

    def state(self, prefix: str, most: int) -> dict[str, np.ndarray]:
        """The arrays of floats or whole numbers whose names begin so, under what follows.

        Args:
            prefix: of the names.
            most: arrays.
        """
        names = [name for name in self._arrays if name.startswith(prefix)]
        if len(names) > most:
            raise MessageError(f"{len(names)} arrays of a state; at most {most}")
        found = {}
        for name in names:
            packed = self._arrays[name]
            if not isinstance(packed, Array) or packed.dtype not in STATE_TYPES:
                raise MessageError(f"an array of a state is none of {STATE_TYPES}")
            shape = (None,) * min(len(packed.shape), MOST_AXES)
            found[name.removeprefix(prefix)] = self.array(name, packed.dtype, shape)
        return found

    def array(self, name: str, dtype: str, shape: tuple[int | None, ...]) -> np.ndarray:
        """An array of exactly this type and shape (None: any length), all values finite."""
        packed = self._arrays.get(name)
        if packed is None:
            raise MessageError(f"array {name!r} is missing; there are {len(self._arrays)} others")
        if not isinstance(packed, Array) or not all(type(n) is int for n in packed.shape):
            raise MessageError(f"{name} is no array of whole numbers of rows and columns")
        if packed.dtype != dtype or not _fits(packed.shape, shape):
            raise MessageError(
                f"{name} claims {packed.dtype}{tuple(packed.shape)}; need {dtype}{shape}"
            )
        array = _decoded(name, packed.data, dtype, tuple(packed.shape))
        if array.dtype.kind == "f" and not finite(array):
            raise MessageError(f"{name} holds NaN or infinity")
        return array


def _decoded(name: str, data: bytes, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """The numbers of a file in NumPy's format, if it holds exactly what it should.

    The header is compared before anything is allocated: it may claim any size.
    """
    file = BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        header = HEADERS[version](file)
    except HEADER_ERRORS as error:
        raise MessageError(f"{name} cannot be decoded: {type(error).__name__}") from None
    if header != (shape, False, np.dtype(dtype)):
        raise MessageError(f"{name} is {header[2]}{header[0]}; need {dtype}{shape}")
    body = memoryview(data)[file.tell() :]
    if len(body) != math.prod(shape) * np.dtype(dtype).itemsize:
        raise MessageError(f"{name} cannot be decoded: {len(body)} bytes for {dtype}{shape}")
    return np.frombuffer(body, dtype).reshape(shape).copy()


def finite(array: np.ndarray) -> bool:
    """Whether all floats are finite; numbers in half precision are compared as whole numbers.

    NumPy looks at them one by one as floats. NaN is what follows the bits of infinity, and with a
    sign those of minus infinity, which are beyond all without a sign.
    """
    if array.dtype != np.float16:
        return bool(np.isfinite(array).all())
    unsigned, signed = array.view(np.uint16), array.view(np.int16)
    return bool(signed.max(initial=0) < INFINITY and unsigned.max(initial=0) < MINUS_INFINITY)


def _fits(shape: Sequence[int], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        want is None or have == want for have, want in zip(shape, wanted, strict=True)
    )


def _shown(value: object) -> str:
    """A value for an error message: type and a short form, never a long or private text."""
    return repr(value) if isinstance(value, (int, float)) else type(value).__name__
