"""A generator that is trained through the experts' losses instead of on their parameters.

Every expert has coordinates, a vector like an adapter. The generator smooths them: the adapter for
a description is a weighted sum of the coordinates, with the weights of ridge regression over the
experts' wordings. In each federated round the experts start from the adapter that the generator
makes for *their* description, train a few steps on their own data and return the difference, which
is added to their coordinates. This is boosting in function space (Friedman 2001) with a linear
smoother as base learner (Buehlmann & Yu 2003); with equal weights for everybody it is FedAvg.
``docs/decisions/0004-functional-generator.md`` says what was tried beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

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
from sglora_fed.generators.ridge import left_out_residuals, ridge_map
from sglora_fed.zoo import Zoo, trusted
from sglora_fed.zoo.screening import voices, weighted_median

AXES = {"embeddings": "Ed", "centre": "d", "map": "dk", "basis": "kD", "offset": "D"}

CLIP = 3.0
"""An update longer than this many times the round's median is scaled down to it."""

MOST_DIRECTIONS = 32
"""They travel to the nodes in each round."""


@dataclass(frozen=True)
class Factors:
    """The experts' coordinates: row e is ``offset + scores[e] @ basis``.

    Attributes:
        offset: [D] their mean.
        scores: [E, k].
        basis: [k, D] orthonormal rows.
    """

    offset: np.ndarray
    scores: np.ndarray
    basis: np.ndarray

    def select(self, rows: np.ndarray) -> Factors:
        """Some experts' coordinates."""
        return Factors(self.offset, self.scores[rows], self.basis)

    def coordinates(self) -> np.ndarray:
        """[E, D] float32."""
        made: np.ndarray = self.offset + self.scores.astype(np.float32) @ self.basis
        return made


@dataclass(frozen=True)
class LinearGenerator:
    """An adapter is ``offset + (x - centre) @ map @ basis``.

    Attributes:
        centre: [d] mean of the experts' description embeddings.
        map: [d, k].
        basis: [k, D].
        offset: [D].
    """

    centre: np.ndarray
    map: np.ndarray
    basis: np.ndarray
    offset: np.ndarray

    def adapters(self, descriptions: np.ndarray) -> np.ndarray:
        """[n, d] description embeddings to [n, D] float32."""
        scores = (descriptions.astype(np.float64) - self.centre) @ self.map
        # The offset as one more direction: a sum afterwards would pass over the result again.
        weights = np.pad(scores.astype(np.float32), ((0, 0), (0, 1)), constant_values=1)
        made: np.ndarray = weights @ np.vstack([self.basis, self.offset])
        return made

    def padded(self) -> LinearGenerator:
        """The same with at least one direction: a file holds no array without numbers."""
        missing = int(len(self.basis) == 0)
        return replace(
            self,
            map=np.pad(self.map, ((0, 0), (0, missing))),
            basis=np.pad(self.basis, ((0, missing), (0, 0))),
        )


def first_factors(start: np.ndarray, experts: int) -> Factors:
    """All experts at one vector [D]: the generator makes it for every description."""
    empty = np.zeros((0, start.size), np.float32)
    return Factors(start.astype(np.float32), np.zeros((experts, 0)), empty)


def completed(zoo: Zoo, penalty: float, rows: np.ndarray, updates: np.ndarray) -> np.ndarray:
    """Updates of all experts: who took no part gets what the others' tell for its description.

    Left where they are, those experts would hide every direction that the others have found.

    Args:
        zoo: of E experts.
        penalty: of the smoother.
        rows: [n] distinct experts that took part.
        updates: [n, D] differences that they returned.

    Returns:
        [E, D].
    """
    centre, weights = ridge_map(zoo.wordings[rows], penalty)
    mean = updates.mean(axis=0)
    made = mean + (zoo.embeddings - centre) @ weights @ (updates - mean)
    made[rows] = updates
    return np.asarray(made)


def advance(factors: Factors, updates: np.ndarray) -> Factors:
    """Add updates to the experts' coordinates.

    Args:
        factors: of E experts.
        updates: [E, D].

    Returns:
        All directions of the sum, the strongest first.
    """
    deviations = factors.scores @ factors.basis.astype(np.float64) + updates
    mean = deviations.mean(axis=0)
    deviations -= mean
    # E << D: the eigenvectors of the small Gram matrix give the directions.
    values, vectors = np.linalg.eigh(deviations @ deviations.T)
    kept = np.argsort(-values)
    kept = kept[values[kept] > values.max(initial=0.0) * 1e-10]
    lengths = np.sqrt(values[kept])
    basis = vectors[:, kept].T @ deviations / lengths[:, None]
    return Factors(
        (factors.offset + mean).astype(np.float32),
        vectors[:, kept] * lengths,
        basis.astype(np.float32),
    )


def predicted(factors: Factors, zoo: Zoo, penalty: float, rows: np.ndarray) -> Factors:
    """Keep the directions that descriptions predict, at most ``MOST_DIRECTIONS``.

    A direction stays when the experts' coordinates along it are told better by the ridge regression
    of all *other* experts than by their mean (leave-one-expert-out R^2 above 0). What is cut off is
    the training noise of single experts; that is what lets the rounds go on improving, and it needs
    no rank to be chosen. One expert has no others: it cuts nothing.

    Args:
        factors: of the zoo's experts.
        zoo: whose descriptions are smoothed over.
        penalty: of the smoother.
        rows: the experts to judge by: what the others were given is predicted by construction.
    """
    scores = factors.scores[rows] - factors.scores[rows].mean(axis=0)
    residuals = left_out_residuals(zoo.wordings[rows], penalty, scores)
    told = (residuals**2).mean(axis=1).sum(axis=0) < (scores**2).sum(axis=0)
    kept = np.flatnonzero(told | (len(rows) < 2))[:MOST_DIRECTIONS]
    return Factors(factors.offset, factors.scores[:, kept], factors.basis[kept])


def smoothed(factors: Factors, zoo: Zoo, penalty: float) -> LinearGenerator:
    """The generator that smooths the experts' coordinates over their descriptions."""
    centre, weights = ridge_map(zoo.wordings, penalty)
    return LinearGenerator(centre, weights @ factors.scores, factors.basis, factors.offset)


def mended(factors: Factors, zoo: Zoo, layout: Layout, penalty: float) -> Factors:
    """Set experts that contradict all others to what the others predict for their descriptions.

    So what a poisoned expert sends does not add up over the rounds, and one that was suspected
    wrongly is judged anew in the next.
    """
    kept = trusted(zoo.embeddings, factors.coordinates(), layout, zoo.owners)
    if kept.all():
        return factors
    rows = np.flatnonzero(kept)
    others = smoothed(factors.select(rows), zoo.select(rows), penalty)
    scores = factors.scores.copy()
    scores[~kept] = (zoo.embeddings[~kept].astype(np.float64) - others.centre) @ others.map
    mean = scores.mean(axis=0)
    offset = (factors.offset + mean @ factors.basis).astype(np.float32)
    return Factors(offset, scores - mean, factors.basis)


def boosted(
    factors: Factors,
    zoo: Zoo,
    layout: Layout,
    penalty: float,
    rows: np.ndarray,
    updates: np.ndarray,
) -> tuple[Factors, np.ndarray]:
    """The coordinates after a round.

    Experts are screened before the cut: poison hides directions that descriptions do predict, and
    what is cut off is lost.

    Args:
        factors: of the zoo's E experts, before the round.
        zoo: whose descriptions are smoothed over.
        layout: of the adapters.
        penalty: of the smoother.
        rows: [n] distinct experts that took part.
        updates: [n, D] what they returned.

    Returns:
        The coordinates, and [n] False for experts whose updates contradict the others'.
    """
    # Poison must not spread to those who wait: `mended` looks at the poisoned alone.
    own, owners = factors.coordinates()[rows], [zoo.owners[row] for row in rows]
    sound = trusted(zoo.embeddings[rows], own + updates, layout, owners, before=own)
    every = completed(zoo, penalty, rows[sound], updates[sound])
    every[rows] = updates
    moved = mended(advance(factors, every), zoo, layout, penalty)
    return predicted(moved, zoo, penalty, rows), sound


def clipped(updates: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Updates [n, D] with none much longer than the others, and [n] which were scaled down.

    What is usual is the median with the weights [n] of sum one.
    """
    norms = np.linalg.norm(updates.astype(np.float64), axis=1)
    bound = CLIP * float(weighted_median(norms, weights))
    factors = np.minimum(1.0, bound / np.maximum(norms, 1e-12))
    return updates * factors[:, None], norms > bound


@dataclass(frozen=True)
class Training:
    """Where the rounds are.

    Attributes:
        zoo: of the E experts.
        layout: of the adapters.
        factors: the experts' coordinates.
    """

    zoo: Zoo
    layout: Layout
    factors: Factors


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
        self._arrive(Training(zoo, layout, first_factors(start, len(zoo.ids))))

    def starts(self, rows: np.ndarray, descriptions: np.ndarray) -> np.ndarray:
        """What the generator makes for the descriptions [n, d]: [n, D] float32.

        Raises:
            GeneratorError: before training, or for unusable descriptions.
        """
        return self.generate(descriptions, 1, 0).adapters[:, 0]

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
        penalty = self._config.smoothing
        factors, sound = boosted(at.factors, at.zoo, at.layout, penalty, rows, short)
        self._arrive(replace(at, factors=factors))
        return int((scaled | ~sound).sum())

    def _arrive(self, training: Training) -> None:
        self._training = training
        linear = smoothed(training.factors, training.zoo, self._config.smoothing).padded()
        self._state = {"embeddings": training.zoo.embeddings, **vars(linear)}

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
        embeddings = self.state()["embeddings"]
        queries = check_request(descriptions, embeddings.shape[1], samples)
        adapters = self.linear().adapters(queries)
        near = neighbourhood(queries, embeddings, self._config)
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
        self._training = None
