"""A generator that is trained through the experts' losses instead of on their parameters.

Every expert has coordinates, a vector like an adapter. The generator smooths them: the adapter for
a description is a weighted sum of the coordinates, with the weights of ridge regression over the
experts' wordings. In each federated round the experts start from the adapter that the generator
makes for *their* description, train a few steps on their own data and return the difference, which
is added to what is left of their coordinates: these fade towards their mean. This is boosting in
function space (Friedman 2001) with a linear smoother as base learner (Buehlmann & Yu 2003), with
leakage; with equal weights for everybody it is FedAvg.
``docs/decisions/0004-functional-generator.md`` says what was tried beside it,
``docs/decisions/0015-another-author.md`` why the rounds forget, and
``docs/decisions/0016-linear-in-experts.md`` why a round costs what those cost who take part.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sglora_fed.adapters.layout import Layout
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
from sglora_fed.generators.boosting import Training, begun, boosted, smoothed
from sglora_fed.generators.linear import LinearGenerator
from sglora_fed.zoo import Search, Zoo
from sglora_fed.zoo.screening import voices, weighted_median

AXES = {"embeddings": "Ed", "centre": "d", "map": "dk", "basis": "kD", "offset": "D"}

CLIP = 3.0
"""An update longer than this many times the round's median is scaled down to it."""


def clipped(updates: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Updates [n, D] with none much longer than the others, and [n] which were scaled down.

    What is usual is the median with the weights [n] of sum one.
    """
    norms = np.linalg.norm(updates.astype(np.float64), axis=1)
    bound = CLIP * float(weighted_median(norms, weights))
    factors = np.minimum(1.0, bound / np.maximum(norms, 1e-12))
    return updates * factors[:, None], norms > bound


class Functional:
    """The generator that is trained in federated rounds.

    Args:
        config: the smoother's penalty; K and temperature, for the confidence.
    """

    name = "functional"
    settings = ("smoothing", *NEIGHBOURHOOD)

    def __init__(self, config: GeneratorConfig) -> None:
        self._config = config
        self._training: Training | None = None
        self._state: dict[str, np.ndarray] = {}

    def begin(self, zoo: Zoo, layout: Layout, start: np.ndarray) -> None:
        """All experts' coordinates are the start [D]."""
        self._arrive(begun(zoo, layout, self._config.smoothing, start))

    def starts(self, rows: np.ndarray, descriptions: np.ndarray) -> np.ndarray:
        """What the generator makes for the descriptions [n, d]: [n, D] float32.

        Raises:
            GeneratorError: before training, or for unusable descriptions.
        """
        linear = self.linear()
        return linear.adapters(check_request(descriptions, len(linear.centre), 1))

    def learn(self, rows: np.ndarray, updates: np.ndarray) -> int:
        """Add updates [n, D] to the experts' coordinates; the number of clipped or distrusted ones.

        Raises:
            GeneratorError: before training.
        """
        at = self._training
        if at is None:
            raise GeneratorError("functional has no round to learn from; call begin first")
        weights = voices([at.zoo.owners[row] for row in rows])
        short, scaled = clipped(updates.astype(np.float64), weights)
        arrived, sound = boosted(at, rows, short)
        self._arrive(arrived)
        return int((scaled | ~sound).sum())

    def _arrive(self, training: Training) -> None:
        self._training = training
        linear = smoothed(training).padded()
        self._state = {"embeddings": training.zoo.embeddings, **vars(linear)}
        self._search = Search(training.zoo.embeddings)

    def linear(self) -> LinearGenerator:
        """What it has learnt.

        Raises:
            GeneratorError: before training.
        """
        state = self.state()
        return LinearGenerator(
            **{name: state[name] for name in ("centre", "map", "basis", "offset")}
        )

    def generate(self, descriptions: np.ndarray, samples: int, seed: int) -> Generated:
        """The smoothed coordinates for each description; samples are equal.

        Raises:
            GeneratorError: before training, for samples < 1, or for unusable descriptions.
        """
        dim = self.state()["embeddings"].shape[1]
        queries = check_request(descriptions, dim, samples)
        adapters = self.linear().adapters(queries)
        near = neighbourhood(queries, self._search, self._config)
        return Generated(repeat_samples(adapters, samples), near.similarity, near.entropy)

    def state(self) -> Mapping[str, np.ndarray]:
        """The trained arrays.

        Raises:
            GeneratorError: before training.
        """
        if not self._state:
            raise GeneratorError("functional has not been trained; run its federated rounds first")
        return self._state

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """The inverse of :meth:`state`; its rounds cannot go on.

        Raises:
            GeneratorError: when the arrays are not those of this generator.
        """
        self._state = checked_state(self.name, state, AXES)
        self._search = Search(self._state["embeddings"])
        self._training = None
