"""Kernel ridge regression from description embeddings to adapters."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sglora_fed.config.schema import GeneratorConfig
from sglora_fed.errors import GeneratorError
from sglora_fed.generators.base import Generated, check_descriptions, confidence, repeat_samples
from sglora_fed.zoo import Zoo


class Ridge:
    """Linear in the embedding, fitted in the dual: W = (X - x)ᵀ (K + penalty I)⁻¹ (Y - y).

    x and y are the zoo's means; K is the Gram matrix of the centred embeddings, divided by its
    mean diagonal, so that the penalty does not depend on how alike the descriptions are.

    Args:
        config: the penalty, and K and temperature for the confidence.
    """

    name = "ridge"

    def __init__(self, config: GeneratorConfig) -> None:
        self._config = config
        self._state: dict[str, np.ndarray] = {}

    def fit(self, zoo: Zoo, seed: int) -> None:
        """Solve one E x E system."""
        inputs = zoo.embeddings.astype(np.float64)
        centre, mean = inputs.mean(axis=0), zoo.means.mean(axis=0, dtype=np.float64)
        centred = inputs - centre
        scale = max(float((centred**2).sum(axis=1).mean()), np.finfo(np.float64).tiny)
        gram = centred @ centred.T / scale + self._config.ridge * np.eye(len(inputs))
        dual = np.linalg.solve(gram, zoo.means - mean)
        self._state = {
            "embeddings": zoo.embeddings,
            "centre": centre,
            "mean": mean.astype(np.float32),
            "map": centred / scale,
            "dual": dual.astype(np.float32),
        }

    def generate(self, descriptions: np.ndarray, samples: int, seed: int) -> Generated:
        """The regression's value for each description; samples are equal.

        Raises:
            GeneratorError: before fit, or for descriptions of another shape.
        """
        state = self.state()
        queries = check_descriptions(descriptions, state["embeddings"].shape[1])
        kernel = ((queries - state["centre"]) @ state["map"].T).astype(np.float32)
        adapters = state["mean"] + kernel @ state["dual"]
        near = confidence(
            queries, state["embeddings"], self._config.neighbours, self._config.temperature
        )
        return Generated(repeat_samples(adapters, samples), *near)

    def state(self) -> Mapping[str, np.ndarray]:
        """The fitted arrays.

        Raises:
            GeneratorError: before fit.
        """
        if not self._state:
            raise GeneratorError("ridge has not been fitted; call fit first")
        return self._state

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """The inverse of :meth:`state`."""
        self._state = dict(state)
