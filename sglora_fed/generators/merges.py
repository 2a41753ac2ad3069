"""Merges of experts without training: the paper's baselines, and the nearest expert."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import numpy as np

from sglora_fed.config.schema import GeneratorConfig
from sglora_fed.errors import GeneratorError
from sglora_fed.generators.base import (
    NEIGHBOURHOOD,
    Generated,
    Neighbourhood,
    check_request,
    checked_state,
    neighbourhood,
    repeat_samples,
)
from sglora_fed.zoo import Zoo, similarities, topk_weights

AXES = {"embeddings": "Ed", "means": "ED"}


class Merge:
    """A weighted mean of expert means. Weights in double precision, the sum in single.

    Args:
        name: ``soup`` (all alike, Wortsman et al. 2022), ``nearest`` (one expert),
            ``adapter_soup`` (the K nearest alike, Chronopoulou et al. 2023) or ``topk`` (softmax
            over the K nearest, Li et al. 2025).
        config: K and temperature.
    """

    settings = NEIGHBOURHOOD

    def __init__(self, name: str, config: GeneratorConfig) -> None:
        self.name = name
        self._config = config
        self._state: dict[str, np.ndarray] = {}

    def fit(self, zoo: Zoo, seed: int) -> None:
        """Keep the experts; nothing is learnt."""
        self._state = {"embeddings": zoo.embeddings, "means": zoo.means}

    def generate(self, descriptions: np.ndarray, samples: int, seed: int) -> Generated:
        """The merge for each description; samples are equal.

        Raises:
            GeneratorError: before fit, for samples < 1, or for unusable descriptions.
        """
        state = self.state()
        queries = check_request(descriptions, state["embeddings"].shape[1], samples)
        near = neighbourhood(queries, state["embeddings"], self._config)
        adapters = self._weights(queries, near).astype(np.float32) @ state["means"]
        return Generated(repeat_samples(adapters, samples), near.similarity, near.entropy)

    def _weights(self, queries: np.ndarray, near: Neighbourhood) -> np.ndarray:
        if self.name == "soup":
            return np.full_like(near.weights, 1 / near.weights.shape[1])
        if self.name == "nearest":
            return topk_weights(similarities(queries, self._state["embeddings"]), 1, 1.0)
        if self.name == "adapter_soup":
            # Not the weights above zero: at a low temperature some of the K round to nothing.
            similarity = similarities(queries, self._state["embeddings"])
            return topk_weights(similarity, self._config.neighbours, math.inf)
        return near.weights

    def state(self) -> Mapping[str, np.ndarray]:
        """Embeddings and means.

        Raises:
            GeneratorError: before fit.
        """
        if not self._state:
            raise GeneratorError(f"{self.name} has not been fitted; call fit first")
        return self._state

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """The inverse of :meth:`state`.

        Raises:
            GeneratorError: when the arrays are not those of a merge.
        """
        self._state = checked_state(self.name, state, AXES)


soup, nearest, adapter_soup, topk = (
    partial(Merge, name) for name in ("soup", "nearest", "adapter_soup", "topk")
)
