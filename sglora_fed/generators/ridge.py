"""Ridge regression from description embeddings to adapters."""

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
from sglora_fed.generators.linear import LinearGenerator, moments, smoother
from sglora_fed.zoo import Search, Zoo
from sglora_fed.zoo.rows import chunks

AXES = {"embeddings": "Ed", "centre": "d", "map": "dk", "basis": "kD", "offset": "D"}

PRECISELY = 1024
"""Experts up to which their parameters are summed in double precision."""

NEGLIGIBLE = 1e-13
"""Share of the strongest direction of descriptions, squared, below which one is rounding alone."""


def regression(zoo: Zoo, penalty: float) -> LinearGenerator:
    """Ridge regression of the experts' means on their wordings; the zoo is read in pieces.

    Args:
        zoo: of E experts.
        penalty: as in :func:`smoother`.
    """
    sums = moments(zoo.wordings, zoo.embeddings)
    ridge, mean = smoother(sums, penalty), sums.total / sums.experts
    values, vectors = np.linalg.eigh(sums.means - sums.experts * np.outer(mean, mean))
    axes = vectors[:, values > values.max() * NEGLIGIBLE]
    products, total = np.zeros((axes.shape[1], zoo.size)), np.zeros(zoo.size)
    # The rounding of many experts averages out, and single precision takes half of the time.
    kind = np.dtype(np.float64 if len(zoo.ids) <= PRECISELY else np.float32)
    first = zoo.means[0].astype(kind)
    for texts, adapters in chunks(zoo.wordings, zoo.means):
        # About the first expert: what all adapters have in common does not cancel by rounding.
        outputs: np.ndarray = adapters - first
        along = (texts.mean(axis=1, dtype=np.float64) - ridge.centre) @ axes
        products += along.T.astype(kind) @ outputs
        total += outputs.sum(axis=0, dtype=np.float64)
    offset = first + total / sums.experts
    return LinearGenerator(
        ridge.centre, ridge.fit(axes), products.astype(np.float32), offset.astype(np.float32)
    )


class Ridge:
    """A linear map from descriptions to adapters, fitted to every wording of every expert.

    It minimises sum_e (mean_w |y_e - W^T x_ew|^2) + penalty s |W|^2: y_e is the expert's mean
    adapter and x_ew the embedding of one of its wordings, both less their means over the zoo; s is
    the mean squared norm of the x_ew (so that the penalty does not depend on how alike the
    descriptions are). The experts' parameters are read once and in pieces: what is kept of them are
    as many directions as descriptions have, at most one less than there are experts.

    Args:
        config: the penalty, and K and temperature for the confidence.
    """

    name = "ridge"
    settings = ("ridge", *NEIGHBOURHOOD)

    def __init__(self, config: GeneratorConfig) -> None:
        self._config = config
        self._state: dict[str, np.ndarray] = {}

    def fit(self, zoo: Zoo, seed: int) -> None:
        """Solve one system with a row for each number of an embedding."""
        linear = regression(zoo, self._config.ridge).padded()
        self._arrive({"embeddings": zoo.embeddings, **vars(linear)})

    def _arrive(self, state: dict[str, np.ndarray]) -> None:
        self._state, self._search = state, Search(state["embeddings"])

    def generate(self, descriptions: np.ndarray, samples: int, seed: int) -> Generated:
        """The regression's value for each description; samples are equal.

        Raises:
            GeneratorError: before fit, for samples < 1, or for unusable descriptions.
        """
        state = self.state()
        queries = check_request(descriptions, state["embeddings"].shape[1], samples)
        adapters = self.linear().adapters(queries)
        near = neighbourhood(queries, self._search, self._config)
        return Generated(repeat_samples(adapters, samples), near.similarity, near.entropy)

    def linear(self) -> LinearGenerator:
        """What it has learnt.

        Raises:
            GeneratorError: before fit.
        """
        state = self.state()
        return LinearGenerator(**{name: state[name] for name in AXES if name != "embeddings"})

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
        self._arrive(checked_state(self.name, state, AXES))
