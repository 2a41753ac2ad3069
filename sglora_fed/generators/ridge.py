"""Kernel ridge regression from description embeddings to adapters."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sglora_fed.config.schema import GeneratorConfig
from sglora_fed.errors import GeneratorError
from sglora_fed.generators.base import (
    Generated,
    check_request,
    checked_state,
    neighbourhood,
    repeat_samples,
)
from sglora_fed.zoo import Zoo

AXES = {"embeddings": "Ed", "centre": "d", "mean": "D", "map": "Ed", "dual": "ED"}


class Ridge:
    """The linear map W and offset that minimise |Y - X W|^2 + penalty s |W|^2, solved in the dual.

    X and Y are the experts' embeddings and mean adapters less their means over the zoo, s is the
    mean squared norm of the rows of X (so that the penalty does not depend on how alike the
    descriptions are). W = X^T (X X^T + penalty s I)^-1 Y needs an E x E system only; Y needs no
    scaling, because the solution is linear in it. Solved in double precision, kept in single.

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
        # Descriptions that are all equal carry nothing: any scale gives the zoo's mean.
        scale = float((centred**2).sum(axis=1).mean()) or 1.0
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
            GeneratorError: before fit, for samples < 1, or for unusable descriptions.
        """
        state = self.state()
        queries = check_request(descriptions, state["embeddings"].shape[1], samples)
        kernel = ((queries - state["centre"]) @ state["map"].T).astype(np.float32)
        adapters = kernel @ state["dual"]
        adapters += state["mean"]
        near = neighbourhood(queries, state["embeddings"], self._config)
        return Generated(repeat_samples(adapters, samples), near.similarity, near.entropy)

    def state(self) -> Mapping[str, np.ndarray]:
        """The fitted arrays.

        Raises:
            GeneratorError: before fit.
        """
        if not self._state:
            raise GeneratorError("ridge has not been fitted; call fit first")
        return self._state

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """The inverse of :meth:`state`.

        Raises:
            GeneratorError: when the arrays are not those of a ridge regression.
        """
        self._state = checked_state(self.name, state, AXES)
