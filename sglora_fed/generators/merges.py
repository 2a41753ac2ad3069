"""Merges of experts without training: soup, nearest and top-K (the paper's baselines)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sglora_fed.config.schema import GeneratorConfig
from sglora_fed.errors import GeneratorError
from sglora_fed.generators.base import Generated, check_descriptions, confidence, repeat_samples
from sglora_fed.zoo import Zoo, similarities, topk_weights


class Merge:
    """A weighted mean of expert means.

    Args:
        name: ``soup`` (all alike, Wortsman et al. 2022), ``nearest`` (one expert) or ``topk``
            (softmax over the K nearest, Li et al. 2025).
        config: K and temperature.
    """

    def __init__(self, name: str, config: GeneratorConfig) -> None:
        self.name = name
        self._config = config
        self._embeddings: np.ndarray | None = None
        self._means = np.empty((0, 0), np.float32)

    def fit(self, zoo: Zoo, seed: int) -> None:
        """Keep the experts; nothing is learnt."""
        self._embeddings, self._means = zoo.embeddings, zoo.means

    def generate(self, descriptions: np.ndarray, samples: int, seed: int) -> Generated:
        """The merge for each description; samples are equal.

        Raises:
            GeneratorError: before fit, or for descriptions of another shape.
        """
        if self._embeddings is None:
            raise GeneratorError(f"{self.name} has not been fitted; call fit first")
        queries = check_descriptions(descriptions, self._embeddings.shape[1])
        adapters = self._weights(queries, self._embeddings) @ self._means
        near = confidence(
            queries, self._embeddings, self._config.neighbours, self._config.temperature
        )
        return Generated(repeat_samples(adapters, samples), *near)

    def _weights(self, queries: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
        if self.name == "soup":
            return np.full((len(queries), len(embeddings)), 1 / len(embeddings))
        neighbours = 1 if self.name == "nearest" else self._config.neighbours
        return topk_weights(similarities(queries, embeddings), neighbours, self._config.temperature)

    def state(self) -> Mapping[str, np.ndarray]:
        """Embeddings and means."""
        if self._embeddings is None:
            raise GeneratorError(f"{self.name} has not been fitted; call fit first")
        return {"embeddings": self._embeddings, "means": self._means}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """The inverse of :meth:`state`."""
        self._embeddings, self._means = state["embeddings"], state["means"]
