"""Merges of experts without training: the paper's baselines, and the nearest expert."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, partial

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
from sglora_fed.zoo import Search, Zoo
from sglora_fed.zoo.rows import Rows, chunks

TOGETHER = 256
"""Descriptions whose experts are in memory together."""

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
        self._state: Mapping[str, np.ndarray | Rows] = {}

    def fit(self, zoo: Zoo, seed: int) -> None:
        """Keep the experts; nothing is learnt."""
        self._arrive({"embeddings": zoo.embeddings, "means": zoo.means})

    def generate(self, descriptions: np.ndarray, samples: int, seed: int) -> Generated:
        """The merge for each description; samples are equal.

        Raises:
            GeneratorError: before fit, for samples < 1, or for unusable descriptions.
        """
        state = self._fitted()
        queries = check_request(descriptions, state["embeddings"].shape[1], samples)
        near = neighbourhood(queries, self._search, self._config)
        adapters = self._merged(near, state["means"])
        return Generated(repeat_samples(adapters, samples), near.similarity, near.entropy)

    def _merged(self, near: Neighbourhood, means: np.ndarray | Rows) -> np.ndarray:
        if self.name == "soup":
            return np.tile(self._mean, (len(near.rows), 1))
        if self.name == "nearest":
            return means[near.rows[:, 0]]
        if self.name == "adapter_soup":
            # Not the weights above zero: at a low temperature some of the K round to nothing.
            return _mixed(near.rows, np.full_like(near.weights, 1 / near.rows.shape[1]), means)
        return _mixed(near.rows, near.weights, means)

    @cached_property
    def _mean(self) -> np.ndarray:
        """[D] of all experts."""
        means = self._fitted()["means"]
        total = sum(part.sum(axis=0, dtype=np.float64) for (part,) in chunks(means))
        return np.asarray(total / len(means), np.float32)

    def _arrive(self, state: Mapping[str, np.ndarray | Rows]) -> None:
        self._state = state
        self._search = Search(np.asarray(state["embeddings"]))
        self.__dict__.pop("_mean", None)

    def _fitted(self) -> Mapping[str, np.ndarray | Rows]:
        if not self._state:
            raise GeneratorError(f"{self.name} has not been fitted; call fit first")
        return self._state

    def state(self) -> Mapping[str, np.ndarray]:
        """Embeddings and means.

        Raises:
            GeneratorError: before fit.
            ZooTooLargeError: when the means lie in the zoo's files.
        """
        return {name: np.asarray(array) for name, array in self._fitted().items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """The inverse of :meth:`state`.

        Raises:
            GeneratorError: when the arrays are not those of a merge.
        """
        self._arrive(checked_state(self.name, state, AXES))


def _mixed(rows: np.ndarray, weights: np.ndarray, means: np.ndarray | Rows) -> np.ndarray:
    """[n, D] sums of experts' means, of which those in use are read: [n, K] rows and weights."""
    made = np.empty((len(rows), means.shape[1]), np.float32)
    for start in range(0, len(rows), TOGETHER):
        here = slice(start, start + TOGETHER)
        used, places = np.unique(rows[here], return_inverse=True)
        dense = np.zeros((len(rows[here]), len(used)), np.float32)
        np.put_along_axis(dense, places.reshape(rows[here].shape), weights[here], axis=1)
        np.matmul(dense, means[used], out=made[here])
    return made


soup, nearest, adapter_soup, topk = (
    partial(Merge, name) for name in ("soup", "nearest", "adapter_soup", "topk")
)
