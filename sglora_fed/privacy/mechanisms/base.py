"""What every mechanism is: a client's embedding in, what the server sees out, and the promise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from sglora_fed.config.schema import MAX_EPSILON, MECHANISMS, PrivacyConfig
from sglora_fed.errors import PrivacyError
from sglora_fed.units import off_unit

UNIT = "one description, local"
"""What epsilon and delta protect."""

NOTHING_LEFT = 1e-6
"""Length below which what is left of an embedding has no direction."""


@dataclass(frozen=True)
class Form:
    """What one released value is on the wire; its size never depends on the description.

    Attributes:
        dtype: ``float16`` for an embedding, ``uint16`` for places in a catalogue, ``uint64`` for
            numbers of a ring.
        shape: of the array.
    """

    dtype: Literal["float16", "uint16", "uint64"]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes up, without the frame of the message."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


def embedding_form(dim: int) -> Form:
    """Of a released embedding, [d]."""
    return Form("float16", (dim,))


def index_form(count: int) -> Form:
    """Of m released places in a catalogue, [m]."""
    return Form("uint16", (count,))


class Mechanism(Protocol):
    """Releases one embedding; epsilon and delta are None when nothing is promised."""

    @property
    def name(self) -> str:
        """What configuration and results call it."""
        ...

    @property
    def epsilon(self) -> float | None:
        """Of one release."""
        ...

    @property
    def delta(self) -> float | None:
        """Of one release."""
        ...

    @property
    def unit(self) -> str:
        """What they protect."""
        ...

    @property
    def form(self) -> Form:
        """What a release is on the wire."""
        ...

    @property
    def replies(self) -> int:
        """Adapters that the server sends back, m; the client keeps one and does not say which."""
        ...

    def release(self, embedding: np.ndarray) -> np.ndarray:
        """What the server sees of a [d] unit vector, shaped as ``form``; float16 as float32."""
        ...


def checked(embedding: np.ndarray, dim: int) -> np.ndarray:
    """The embedding in double precision, exactly on the unit sphere.

    Raises:
        PrivacyError: when it is no unit vector of ``dim`` numbers; no value is in the message.
    """
    if not isinstance(embedding, np.ndarray):
        raise PrivacyError(f"the embedding is a {type(embedding).__name__}; need an array")
    if embedding.shape != (dim,) or embedding.dtype.kind != "f":
        raise PrivacyError(
            f"the embedding is {embedding.dtype} of shape {embedding.shape}; need floats ({dim},)"
        )
    values = embedding.astype(np.float64)
    if not np.isfinite(values).all():
        raise PrivacyError("the embedding holds NaN or infinity")
    if off_unit(values) is not None:
        raise PrivacyError("the embedding is no unit vector; normalise it first")
    return np.asarray(values / np.linalg.norm(values))


def direction_of(values: np.ndarray) -> np.ndarray:
    """Numbers [r] scaled to length 1.

    Where nothing is left of an embedding it is the first axis: a refusal would tell something.
    """
    length = np.linalg.norm(values)
    if length < NOTHING_LEFT:
        return np.asarray(np.eye(1, len(values))[0])
    return np.asarray(values / length)


def check_epsilon(epsilon: float, most: float = MAX_EPSILON) -> None:
    """Refuse an epsilon that promises nothing or cannot be kept.

    Raises:
        PrivacyError: unless it lies in (0, most].
    """
    if not is_number(epsilon) or not 0 < epsilon <= most:
        raise PrivacyError(f"epsilon={epsilon!r}; need 0 < epsilon <= {most:g}")


def is_number(value: object) -> bool:
    """Whether it can be compared with numbers; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


Factory = Callable[[PrivacyConfig, int], Mechanism]


def register_mechanism(name: str, factory: Factory) -> None:
    """Make a mechanism of your own known by name: ``privacy.mechanism=NAME``.

    Args:
        name: in configuration and results.
        factory: the mechanism for a configuration and a number of dimensions.

    Raises:
        PrivacyError: when the name is taken.
    """
    MECHANISMS.add(name, factory)


def make_mechanism(config: PrivacyConfig, dim: int) -> Mechanism:
    """The configured mechanism for embeddings of ``dim`` numbers.

    Raises:
        PrivacyError: for an unknown name or impossible parameters.
    """
    made: Mechanism = MECHANISMS.get(config.mechanism)(config, dim)
    return made
