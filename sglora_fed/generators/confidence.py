"""How sure to be that a generated adapter beats what a client would fall back to.

The experts tell: for each, an adapter is generated without it (:func:`trial`), and the expert
says whether that adapter is better than the fall-back on its own data, equal or worse. A regression
on what is known before use gives the probability of being better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr, ndtr

from sglora_fed.config.schema import GeneratorConfig
from sglora_fed.errors import GeneratorError
from sglora_fed.generators.base import Generated, Generator, is_federated
from sglora_fed.generators.registry import fit_generator
from sglora_fed.seeds import derive_seed
from sglora_fed.zoo import Search, Zoo

FOLDS = 4
MOST_JUDGES = 512
"""Experts that are asked, whatever the size of the zoo: more would tell little more."""

STRANGERS = (
    "The train to the coast leaves at nine.",
    "Two plus two is four.",
    "My grandmother planted these apple trees.",
    "It rained all night and the street is still wet.",
    "The quick brown fox jumps over the lazy dog.",
    "This page was left blank on purpose.",
    "He closed the window and went back to sleep.",
    "Copper conducts electricity better than iron.",
    "Once upon a time there was a king with three sons.",
    "The second half was better than the first.",
    "Hello, is anybody there?",
    "She painted the fence green.",
)
"""Sentences that describe no task: what a client may send by mistake."""

FEATURES = 3
PENALTY = 4.0
"""Prior precision of a slope, on features of unit spread; that of the intercept is one."""

STEPS, TOLERANCE = 100, 1e-10
"""Of Newton's method, which needs about six steps."""

SURE = 0.5
"""A client adopts the generated adapter from this confidence on."""


@dataclass(frozen=True)
class Confidence:
    """How likely an adapter is to beat the fall-back: a probit regression's weights, normal.

    Attributes:
        weights: [1 + FEATURES] of (1, features).
        covariance: [1 + FEATURES, 1 + FEATURES] of the weights.

    Raises:
        GeneratorError: when a number is not finite or a shape is another.
    """

    weights: np.ndarray
    covariance: np.ndarray

    def __post_init__(self) -> None:
        count, shapes = 1 + FEATURES, (self.weights.shape, self.covariance.shape)
        numbers = [*self.weights.ravel(), *self.covariance.ravel()]
        if shapes != ((count,), (count, count)) or not np.isfinite(numbers).all():
            raise GeneratorError(
                f"a confidence has {count} finite weights and their covariance; found shapes"
                f" {shapes} and {numbers}"
            )

    def of(self, made: Generated, fallback: np.ndarray) -> np.ndarray:
        """[n] probability that each client's first adapter beats the fall-back [D]."""
        return self.chances(features(made, fallback))

    def chances(self, inputs: np.ndarray) -> np.ndarray:
        """[n] probability of being better, for features [n, FEATURES].

        The mean of Phi(w x) over the weights w, in closed form (Bishop 2006, eq. 4.152).
        """
        design = np.hstack([np.ones((len(inputs), 1)), inputs])
        doubt = np.maximum(np.einsum("ni,ij,nj->n", design, self.covariance, design), 0.0)
        ratios = design @ self.weights / np.sqrt(1 + doubt)
        return np.asarray(ndtr(ratios))


def features(made: Generated, fallback: np.ndarray) -> np.ndarray:
    """[n, FEATURES]: nearest similarity, weight entropy, and the step away from the fall-back.

    The step is ln(1 + |adapter - fall-back| / |fall-back|): a generator that knows nothing of a
    description stays near the adapter for everybody.
    """
    length = float(np.linalg.norm(fallback.astype(np.float64))) or 1.0
    steps = np.linalg.norm((made.adapters[:, 0] - fallback).astype(np.float64), axis=1) / length
    return np.stack([made.similarity, made.entropy, np.log1p(steps)], axis=1)


def fit_confidence(inputs: np.ndarray, outcomes: np.ndarray, judges: np.ndarray) -> Confidence:
    """Bayesian probit regression with Laplace's approximation (Bishop 2006, sections 4.4 and 4.5).

    Judgements of one judge are not independent: they share its task and its examples. How much they
    share is not known, so the worst is assumed: together they count as one.

    Args:
        inputs: [n, FEATURES] of held-out adapters.
        outcomes: [n] 1 where the adapter was better than the fall-back, 0.5 equal, 0 worse.
        judges: [n] who judged; equal for judgements of one judge.
    """
    _, places, counts = np.unique(judges, return_inverse=True, return_counts=True)
    shares = 1 / counts[places]
    centre = np.average(inputs, axis=0, weights=shares)
    spread = np.sqrt(np.average((inputs - centre) ** 2, axis=0, weights=shares))
    spread[spread < 1e-9] = 1.0
    design = np.hstack([np.ones((len(inputs), 1)), (inputs - centre) / spread])
    weights, covariance = _probit(design, outcomes, shares)
    # From features of unit spread back to features as they are.
    scaled = np.diag([1.0, *(1 / spread)])
    scaled[1:, 0] = -centre / spread
    return Confidence(scaled.T @ weights, scaled.T @ covariance @ scaled)


def _probit(
    design: np.ndarray, outcomes: np.ndarray, shares: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The posterior's mode, and the inverse of its curvature there.

    The logarithm of the posterior is concave: Newton's method finds its maximum.
    """
    prior = np.diag([1.0, *np.full(FEATURES, PENALTY)])
    weights = np.zeros(1 + FEATURES)
    for _ in range(STEPS):
        values = design @ weights
        up, down = _mills(values), _mills(-values)
        slopes = shares * (outcomes * up - (1 - outcomes) * down)
        bends = outcomes * up * (up + values) + (1 - outcomes) * down * (down - values)
        curvature = (design.T * (shares * bends)) @ design + prior
        step = np.linalg.solve(curvature, design.T @ slopes - prior @ weights)
        weights = weights + step
        if np.abs(step).max() < TOLERANCE:
            break
    return weights, np.linalg.inv(curvature)


def _mills(values: np.ndarray) -> np.ndarray:
    """The normal density over its distribution function, far into the tails."""
    tails = log_ndtr(values)
    made: np.ndarray = np.exp(-(values**2) / 2 - np.log(2 * np.pi) / 2 - tails)
    return made


@dataclass(frozen=True)
class Trial:
    """What some experts judge.

    Attributes:
        rows: [m] the experts.
        made: one or more times m adapters, in the order of the rows.
    """

    rows: np.ndarray
    made: list[Generated]


def trial(
    generator: Generator,
    config: GeneratorConfig,
    zoo: Zoo,
    strangers: np.ndarray,
    retrain: Callable[[Zoo], Generator],
    seed: int,
) -> Trial:
    """Adapters made without the experts that judge them, and for sentences of no task.

    A generator that is fitted to the zoo is fitted again without each of some groups of experts:
    once random quarters, once groups of similar descriptions, which leave nobody near. One that
    the federation trains is trained again without one random quarter. To leave experts out of its
    last step alone would not do: their updates have moved all others', and it looks far too sure.
    The shared LoRA that it starts from has seen them, as the fall-back has: what is held out is
    what the generator adds. Of a large zoo, ``MOST_JUDGES`` random experts judge.

    Args:
        generator: fitted to the zoo.
        config: that it was made with.
        zoo: of E experts, at least two.
        strangers: [S, d] embeddings of sentences that describe no task.
        retrain: a generator that the federation trains, for fewer experts.
        seed: of the folds and the wordings.
    """
    rng = np.random.default_rng(derive_seed(seed, "trial"))
    spoken = rng.integers(zoo.wordings.shape[1], size=len(zoo.ids))
    order = rng.permutation(len(zoo.ids))[:MOST_JUDGES]
    judges = np.sort(order)
    queries = zoo.wordings[judges][np.arange(len(judges)), spoken[judges]]
    strange = strangers[judges % len(strangers)]
    if is_federated(generator):
        rows = np.sort(order[: max(1, len(order) // FOLDS)])
        other = retrain(zoo.select(np.setdiff1d(np.arange(len(zoo.ids)), rows)))
        some = np.searchsorted(judges, rows)
        return Trial(rows, [other.generate(texts[some], 1, seed) for texts in (queries, strange)])
    random = np.array_split(order, min(FOLDS, len(order)))
    made = [
        _without_folds(generator.name, config, zoo, folds, judges, queries, seed)
        for folds in (random, _alike(zoo.embeddings, judges) or random)
    ]
    return Trial(judges, [*made, generator.generate(strange, 1, seed)])


def _alike(embeddings: np.ndarray, judges: np.ndarray) -> list[np.ndarray]:
    """Rows of experts in at most FOLDS groups of similar descriptions; empty if all are equal.

    Complete linkage: groups are far apart rather than of one size, because every expert near one
    that judges would tell what its adapter is to be. Who does not judge is in the group of the
    nearest that does.
    """
    from scipy.cluster.hierarchy import fcluster, linkage  # the server's alone

    tree = linkage(embeddings[judges].astype(np.float64), "complete")
    groups = fcluster(tree, min(FOLDS, len(judges)), "maxclust")
    if len(names := np.unique(groups)) < 2:
        return []
    of_all = groups[Search(embeddings[judges]).nearest(embeddings, 1).rows[:, 0]]
    of_all[judges] = groups
    return [np.flatnonzero(of_all == name) for name in names]


def _without_folds(
    name: str,
    config: GeneratorConfig,
    zoo: Zoo,
    folds: Sequence[np.ndarray],
    judges: np.ndarray,
    queries: np.ndarray,
    seed: int,
) -> Generated:
    """Adapters for the judges' [m, d] queries, each made without its group of experts."""
    adapters = np.empty((len(judges), 1, zoo.size), np.float32)
    similarity, entropy = np.empty(len(judges)), np.empty(len(judges))
    for fold in folds:
        here = np.isin(judges, fold)
        rest = np.setdiff1d(np.arange(len(zoo.ids)), fold)
        made = fit_generator(config, name, zoo.select(rest), seed).generate(queries[here], 1, seed)
        adapters[here], similarity[here] = made.adapters, made.similarity
        entropy[here] = made.entropy
    return Generated(adapters, similarity, entropy)
