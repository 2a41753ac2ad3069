"""What a generator is: fit on a zoo, then adapters for descriptions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sglora_fed.config.schema import GeneratorConfig
from sglora_fed.errors import GeneratorError
from sglora_fed.units import off_unit
from sglora_fed.zoo import Zoo, entropy, similarities, topk_weights


@dataclass(frozen=True)
class Generated:
    """Adapters and how far to trust them.

    Attributes:
        adapters: [n, samples, D] float32.
        similarity: [n] cosine of the nearest expert's description.
        entropy: [n] of the top-K weights, in nats: 0 when one expert decides.

    Raises:
        GeneratorError: when the shapes or the type disagree.
    """

    adapters: np.ndarray
    similarity: np.ndarray
    entropy: np.ndarray

    def __post_init__(self) -> None:
        shape, rows = self.adapters.shape, self.adapters.shape[:1]
        if len(shape) != 3 or self.adapters.dtype != np.float32:
            raise GeneratorError(
                f"adapters are {self.adapters.dtype} {list(shape)}; need float32 [n, samples, D]"
            )
        if self.similarity.shape != rows or self.entropy.shape != rows:
            raise GeneratorError(
                f"{shape[0]} adapters, but similarity has shape {list(self.similarity.shape)} and"
                f" entropy {list(self.entropy.shape)}"
            )


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
        """Adapters for [n, d] description embeddings; a function of fit, arguments and seed.

        Raises:
            GeneratorError: before fit, for samples < 1, or for unusable descriptions.
        """
        ...

    def state(self) -> Mapping[str, np.ndarray]:
        """Arrays from which :meth:`restore` makes the same generator again."""
        ...

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """The inverse of :meth:`state`.

        Raises:
            GeneratorError: when the arrays are not those of such a generator.
        """
        ...


def check_request(descriptions: np.ndarray, dim: int, samples: int) -> np.ndarray:
    """Descriptions as [n, dim] float64.

    Raises:
        GeneratorError: for another shape, NaN, infinity, rows that are no unit vectors, or
            samples < 1.
    """
    if samples < 1:
        raise GeneratorError(f"samples={samples}; at least 1")
    if descriptions.ndim != 2 or descriptions.shape[1] != dim:
        raise GeneratorError(f"descriptions have shape {list(descriptions.shape)}; need [n, {dim}]")
    if off_unit(descriptions) is not None:
        raise GeneratorError("a description is no unit vector of finite numbers")
    return descriptions.astype(np.float64)


@dataclass(frozen=True)
class Neighbourhood:
    """The experts near some descriptions.

    Attributes:
        weights: [n, E] of the K nearest, rows sum to 1.
        similarity: [n] cosine of the nearest.
        entropy: [n] of the weights, in nats.
    """

    weights: np.ndarray
    similarity: np.ndarray
    entropy: np.ndarray


def neighbourhood(
    queries: np.ndarray, embeddings: np.ndarray, config: GeneratorConfig
) -> Neighbourhood:
    """Weights and confidence, which all generators compute alike: [n, d] and [E, d]."""
    similarity = similarities(queries, embeddings)
    weights = topk_weights(similarity, config.neighbours, config.temperature)
    return Neighbourhood(weights, similarity.max(axis=1), entropy(weights))


def repeat_samples(adapters: np.ndarray, samples: int) -> np.ndarray:
    """[n, D] to [n, samples, D] for generators without randomness."""
    return adapters[:, None] if samples == 1 else np.repeat(adapters[:, None], samples, axis=1)


def checked_state(
    name: str, state: Mapping[str, np.ndarray], axes: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """The arrays of a generator, if they are exactly those it needs and fit one another.

    Args:
        name: of the generator.
        state: array name -> array.
        axes: array name -> one letter for each axis; equal letters have equal sizes.

    Raises:
        GeneratorError: when an array is missing, unknown, or of another shape.
    """
    shapes = {key: list(array.shape) for key, array in state.items()}
    sizes: dict[str, int] = {}
    fits = shapes.keys() == axes.keys() and all(
        len(shapes[key]) == len(letters)
        and all(sizes.setdefault(a, n) == n for a, n in zip(letters, shapes[key], strict=True))
        for key, letters in axes.items()
    )
    if not fits:
        raise GeneratorError(f"{name} needs arrays with axes {dict(axes)}; found {shapes}")
    return dict(state)
