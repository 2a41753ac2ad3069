"""Layers of transformers as NumPy arithmetic, and their weights as a file has them.

Flower starts a process for every message to a node. To import torch and transformers, and to load a
model with them, takes seconds of CPU and hundreds of megabytes; the arithmetic of some examples
takes hundredths of a second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from sglora_fed.adapters.layout import Layout
from sglora_fed.errors import BackboneFileError

_ERF = np.frompyfunc(math.erf, 1, 1)

Linear = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Adapter:
    """What is added to some weights.

    Attributes:
        layout: of the vector.
        vector: [D] float32.
    """

    layout: Layout
    vector: np.ndarray

    @cached_property
    def factors(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Module name -> (A [1, rank, d_in], B [1, d_out, rank])."""
        return self.layout.unpack(self.vector[None])

    def added(self, weight: np.ndarray, module: str) -> np.ndarray:
        """[d_out, d_in] a module's weight with what the adapter adds to it."""
        if module not in self.factors:
            return weight
        a, b = self.factors[module]
        made: np.ndarray = weight + np.float32(self.layout.scaling) * (b[0] @ a[0])
        return made


class Weights:
    """A checkpoint's weights in float32, read when they are asked for and not kept.

    Args:
        file: open.
        adapter: what is added to them.
    """

    def __init__(self, file: Any, adapter: Adapter | None = None) -> None:
        self._file, self._adapter = file, adapter

    def array(self, name: str) -> np.ndarray:
        """One array as it is in the file."""
        made: np.ndarray = np.asarray(self._file.get_tensor(name), np.float32)
        return made

    def rows(self, name: str, numbers: Sequence[int]) -> np.ndarray:
        """[n, ...] some rows of an array; no other row is read."""
        table = self._file.get_slice(name)
        return np.concatenate([np.asarray(table[n : n + 1], np.float32) for n in numbers])

    def linear(self, name: str) -> Linear:
        """A module that maps [..., d_in] to [..., d_out]."""
        weight, bias = self.array(f"{name}.weight"), self.array(f"{name}.bias")
        if self._adapter is not None:
            weight = self._adapter.added(weight, name)

        def mapped(rows: np.ndarray) -> np.ndarray:
            flat = rows.reshape(-1, rows.shape[-1]) @ weight.T + bias
            made: np.ndarray = flat.reshape(*rows.shape[:-1], -1)
            return made

        return mapped

    def norm(self, name: str, tiny: float) -> Linear:
        """A normalisation of the last axis (Ba et al. 2016)."""
        scale, shift = self.array(f"{name}.weight"), self.array(f"{name}.bias")

        def normed(rows: np.ndarray) -> np.ndarray:
            centred = rows - rows.mean(axis=-1, keepdims=True)
            variance = np.square(centred).mean(axis=-1, keepdims=True)
            made: np.ndarray = centred / np.sqrt(variance + tiny) * scale + shift
            return made

        return normed


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A checkpoint's file of weights.

    Raises:
        BackboneFileError: when it cannot be read, or lacks a weight that is asked for.
    """
    try:
        with safe_open(path, "np") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise BackboneFileError(
            f"{path} has not the weights of such a checkpoint ({type(error).__name__}); fetch it"
            " again"
        ) from error


def attended(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, heads: int, causal: bool = False
) -> np.ndarray:
    """[..., tokens, dim]: every token looks at all (Vaswani et al. 2017, eq. 1).

    Args:
        query: [..., tokens, dim].
        key: [..., tokens, dim].
        value: [..., tokens, dim].
        heads: that share out dim.
        causal: a token looks at itself and at those before it alone.
    """
    shape = query.shape
    query, key, value = (
        rows.reshape(*shape[:-1], heads, -1).swapaxes(-3, -2) for rows in (query, key, value)
    )
    scores = query @ key.swapaxes(-1, -2) / math.sqrt(query.shape[-1])
    if causal:
        scores = np.where(np.tri(shape[-2], dtype=bool), scores, np.float32(-np.inf))
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = weights / weights.sum(axis=-1, keepdims=True) @ value
    joined: np.ndarray = mixed.swapaxes(-3, -2).reshape(shape)
    return joined


def gelu(rows: np.ndarray) -> np.ndarray:
    """Each x times the normal distribution function of x (Hendrycks & Gimpel 2016)."""
    made: np.ndarray = rows * (1 + np.asarray(_ERF(rows / math.sqrt(2)), np.float32)) / 2
    return made


def near_gelu(rows: np.ndarray) -> np.ndarray:
    """As :func:`gelu` in a fifth of the time: its error function is off by up to 1.5e-7.

    The approximation is 7.1.26 of Abramowitz & Stegun (1964).
    """
    size = np.abs(rows) * np.float32(math.sqrt(0.5))
    inverse = 1 / (1 + 0.3275911 * size)
    rest = 1.061405429 * inverse
    for factor in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        rest = (rest + factor) * inverse
    rest *= np.exp(-(size**2))
    made: np.ndarray = rows * (1 + np.copysign(1 - rest, rows)) / 2
    return made


def quick_gelu(rows: np.ndarray) -> np.ndarray:
    """Each x times sigmoid(1.702 x), as CLIP has it (Radford et al. 2021)."""
    # Beyond it float32 has no exponential, and the sigmoid is 0 to all its digits.
    made: np.ndarray = rows / (1 + np.exp((-1.702 * rows).clip(max=88)))
    return made


ACTIVATIONS: dict[str, Linear] = {"gelu": near_gelu, "quick_gelu": quick_gelu}
"""As checkpoints call them."""
