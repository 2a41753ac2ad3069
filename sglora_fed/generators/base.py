"""What a generator is: fit on a zoo, then adapters for descriptions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sglora_fed.errors import GeneratorError
from sglora_fed.zoo import Zoo, entropy, similarities, topk_weights


@dataclass(frozen=True)
class Generated:
    """Adapters and how far to trust them.

    Attributes:
        adapters: [n, samples, D] float32.
        similarity: [n] cosine of the nearest expert's description.
        entropy: [n] of the top-K weights, in nats: 0 when one expert decides.
    """

    adapters: np.ndarray
    similarity: np.ndarray
    entropy: np.ndarray


class Generator(Protocol):
    """Turns description embeddings into adapters.

    Attributes:
        name: what configuration and results call it.
    """

    name: str

    def fit(self, zoo: Zoo, seed: int) -> None:
        """Learn from the experts; a function of the zoo and the seed."""
        ...

    def generate(self, descriptions: np.ndarray, samples: int, seed: int) -> Generated:
        """Adapters for [n, d] description embeddings."""
        ...

    def state(self) -> Mapping[str, np.ndarray]:
        """Arrays from which :meth:`restore` makes the same generator again."""
        ...

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """The inverse of :meth:`state`."""
        ...


def check_descriptions(descriptions: np.ndarray, dim: int) -> np.ndarray:
    """Descriptions as [n, dim] float64.

    Raises:
        GeneratorError: for another shape, NaN or infinity.
    """
    if descriptions.ndim != 2 or descriptions.shape[1] != dim:
        raise GeneratorError(f"descriptions have shape {descriptions.shape}; need [n, {dim}]")
    if not np.isfinite(descriptions).all():
        raise GeneratorError("descriptions hold NaN or infinity")
    return descriptions.astype(np.float64)


def confidence(
    descriptions: np.ndarray, embeddings: np.ndarray, neighbours: int, temperature: float
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest similarity [n] and weight entropy [n], which every generator reports alike."""
    similarity = similarities(descriptions, embeddings)
    weights = topk_weights(similarity, neighbours, temperature)
    return similarity.max(axis=1), entropy(weights)


def repeat_samples(adapters: np.ndarray, samples: int) -> np.ndarray:
    """[n, D] to [n, samples, D] for generators without randomness.

    Raises:
        GeneratorError: for samples < 1.
    """
    if samples < 1:
        raise GeneratorError(f"samples={samples}; at least 1")
    return np.repeat(adapters.astype(np.float32)[:, None], samples, axis=1)
