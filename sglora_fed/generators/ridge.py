"""Kernel ridge regression from description embeddings to adapters."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sglora_fed.config.schema import GeneratorConfig
from sglora_fed.errors import GeneratorError
from sglora_fed.generators.base import (
    NEIGHBOURHOOD,
    Generated,
    check_request,
    checked_state,
    neighbourhood,
    repeat_samples,
)
from sglora_fed.zoo import Zoo

AXES = {"embeddings": "Ed", "centre": "d", "map": "dE", "means": "ED"}


def ridge_map(wordings: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """How much each expert counts for a description, by ridge regression over wordings.

    Args:
        wordings: [E, W, d] unit embeddings.
        penalty: relative to the mean squared norm of the centred embeddings.

    Returns:
        The centre [d] and a map [d, E]: the weights are ``(x - centre) @ map``, plus what they lack
        to a sum of one, in equal parts.
    """
    inputs, centre, scale, system = _system(wordings, penalty)
    owners = np.repeat(np.eye(len(wordings)), wordings.shape[1], axis=0)
    return centre, inputs.T @ np.linalg.solve(system, owners) / scale


def left_out_residuals(wordings: np.ndarray, penalty: float, values: np.ndarray) -> np.ndarray:
    """What the ridge regression of all other experts gets wrong about each expert.

    In closed form, without a regression for each expert: the block of the residuals divided by that
    of ``I - H``, H the hat matrix (Hastie, Tibshirani & Friedman 2009, eq. 7.64, for a group of
    rows). The centre and the scale of the inputs stay those of all experts.

    Args:
        wordings: [E, W, d] unit embeddings.
        penalty: as in :func:`ridge_map`.
        values: [E, k] what is to be told from a wording, means over experts zero.

    Returns:
        [E, W, k].
    """
    experts, each, _ = wordings.shape
    system = _system(wordings, penalty)[3]
    # I - H = penalty each (G + penalty each I)^-1, with the Gram matrix G.
    rest = penalty * each * np.linalg.inv(system)
    residuals = (rest @ np.repeat(values, each, axis=0)).reshape(experts, each, -1)
    rows = np.arange(experts)
    blocks = rest.reshape(experts, each, experts, each)[rows, :, rows]
    made: np.ndarray = np.linalg.solve(blocks, residuals)
    return made


def _system(
    wordings: np.ndarray, penalty: float
) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    """Centred inputs [E W, d], their centre [d] and scale, and the Gram matrix with the penalty."""
    _, each, dim = wordings.shape
    inputs = wordings.reshape(-1, dim).astype(np.float64)
    centre = inputs.mean(axis=0)
    centred = inputs - centre
    # Descriptions that are all equal carry nothing: any scale gives equal weights.
    scale = float((centred**2).sum(axis=1).mean()) or 1.0
    system = centred @ centred.T / scale + penalty * each * np.eye(len(inputs))
    return centred, centre, scale, system


class Ridge:
    """A linear map from descriptions to adapters, fitted to every wording of every expert.

    It minimises sum_e (mean_w |y_e - W^T x_ew|^2) + penalty s |W|^2: y_e is the expert's mean
    adapter and x_ew the embedding of one of its wordings, both less their means over the zoo; s is
    the mean squared norm of the x_ew (so that the penalty does not depend on how alike the
    descriptions are). Since the experts' adapters are the only outputs, every value of W^T x is a
    weighted sum of them; fitting finds these weights, not W, and never touches a matrix with D
    columns.

    Args:
        config: the penalty, and K and temperature for the confidence.
    """

    name = "ridge"
    settings = ("ridge", *NEIGHBOURHOOD)

    def __init__(self, config: GeneratorConfig) -> None:
        self._config = config
        self._state: dict[str, np.ndarray] = {}

    def fit(self, zoo: Zoo, seed: int) -> None:
        """Solve one system with a row for each wording."""
        centre, weights = ridge_map(zoo.wordings, self._config.ridge)
        self._state = {
            "embeddings": zoo.embeddings,
            "centre": centre,
            "map": weights,
            "means": zoo.means,
        }

    def generate(self, descriptions: np.ndarray, samples: int, seed: int) -> Generated:
        """The regression's value for each description; samples are equal.

        Raises:
            GeneratorError: before fit, for samples < 1, or for unusable descriptions.
        """
        state = self.state()
        queries = check_request(descriptions, state["embeddings"].shape[1], samples)
        weights = (queries - state["centre"]) @ state["map"]
        # y_e is a deviation from the mean: what the weights lack to a sum of one is the mean's.
        weights += (1 - weights.sum(axis=1, keepdims=True)) / weights.shape[1]
        adapters = weights.astype(np.float32) @ state["means"]
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
