"""How sure to be that a generated adapter beats what a client would fall back to.

The experts tell: for each, an adapter is generated without it (:func:`trial`), and the expert
says whether that adapter beats the fall-back on its own data. A logistic regression turns
what is known before use into a probability (Platt 1999; Hastie et al. 2009, section 4.4).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sglora_fed.config.schema import GeneratorConfig
from sglora_fed.errors import GeneratorError
from sglora_fed.generators.base import Generated, Generator
from sglora_fed.generators.functional import Functional
from sglora_fed.generators.registry import make_generator
from sglora_fed.seeds import derive_seed
from sglora_fed.zoo import Zoo

FOLDS = 4
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
PENALTY = 1.0
"""On the squared standardised slopes: with few experts the probability stays near the base rate."""

NEWTON_STEPS = 50

SURE = 0.5
"""A client adopts the generated adapter from this confidence on."""


@dataclass(frozen=True)
class Confidence:
    """A fitted logistic regression on features as they are.

    Attributes:
        intercept: of the log odds.
        slopes: [FEATURES].

    Raises:
        GeneratorError: when a number is not finite or the shape is another.
    """

    intercept: float
    slopes: np.ndarray

    def __post_init__(self) -> None:
        if (
            self.slopes.shape != (FEATURES,)
            or not np.isfinite([self.intercept, *self.slopes]).all()
        ):
            raise GeneratorError(f"a confidence has {FEATURES} finite slopes; found {self.slopes}")

    def of(self, made: Generated, fallback: np.ndarray) -> np.ndarray:
        """[n] probability that each client's first adapter beats the fall-back [D]."""
        return _sigmoid(self.intercept + features(made, fallback) @ self.slopes)


def features(made: Generated, fallback: np.ndarray) -> np.ndarray:
    """[n, FEATURES]: nearest similarity, weight entropy, and the step away from the fall-back.

    The step is ln(1 + |adapter - fall-back| / |fall-back|): a generator that knows nothing of a
    description stays near the adapter for everybody.
    """
    length = float(np.linalg.norm(fallback.astype(np.float64))) or 1.0
    steps = np.linalg.norm((made.adapters[:, 0] - fallback).astype(np.float64), axis=1) / length
    return np.stack([made.similarity, made.entropy, np.log1p(steps)], axis=1)


def fit_confidence(inputs: np.ndarray, wins: np.ndarray) -> Confidence:
    """Penalised maximum likelihood by Newton's method.

    Args:
        inputs: [n, FEATURES] of held-out adapters.
        wins: [n] 1 where the adapter was better than the fall-back, 0.5 where equal, else 0.
    """
    # Two made-up cases, a win and a loss: nothing is certain, however few or alike the experts.
    wins = np.concatenate([wins, [0.5, 0.5]])
    inputs = np.vstack([inputs, *[inputs.mean(axis=0, keepdims=True)] * 2])
    centre, spread = inputs.mean(axis=0), inputs.std(axis=0)
    spread[spread < 1e-9] = 1.0
    design = np.hstack([np.ones((len(inputs), 1)), (inputs - centre) / spread])
    penalty = PENALTY * np.diag([0.0, *np.ones(inputs.shape[1])])
    weights = np.zeros(design.shape[1])
    for _ in range(NEWTON_STEPS):
        chances = _sigmoid(design @ weights)
        slope = design.T @ (wins - chances) - penalty @ weights
        curvature = (design.T * (chances * (1 - chances))) @ design + penalty
        step = np.linalg.solve(curvature, slope)
        # A long step in a flat place would run away: Newton's method is local.
        weights += step / max(1.0, float(np.abs(step).max()))
    slopes = weights[1:] / spread
    return Confidence(float(weights[0] - slopes @ centre), slopes)


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1 + np.tanh(values / 2)))


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

    A generator that is fitted to the zoo is fitted again without each quarter of the experts: once
    in random quarters, once in quarters of similar descriptions, which leave nobody near. One that
    the federation trains is trained again without one random quarter. To leave experts out of its
    last step alone would not do: their updates have moved all others', and it looks far too sure.

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
    queries = zoo.wordings[np.arange(len(zoo.ids)), spoken]
    order, everybody = rng.permutation(len(zoo.ids)), np.arange(len(zoo.ids))
    strange = strangers[everybody % len(strangers)]
    if isinstance(generator, Functional):
        rows = np.sort(order[: max(1, len(order) // FOLDS)])
        other = retrain(zoo.select(np.setdiff1d(order, rows)))
        return Trial(rows, [other.generate(texts[rows], 1, seed) for texts in (queries, strange)])
    orders = (order, _along_main_axis(zoo.embeddings))
    made = [_without_folds(generator.name, config, zoo, o, queries, seed) for o in orders]
    return Trial(everybody, [*made, generator.generate(strange, 1, seed)])


def _along_main_axis(embeddings: np.ndarray) -> np.ndarray:
    """[E] experts in the order of their descriptions' first principal component."""
    centred = embeddings.astype(np.float64) - embeddings.mean(axis=0, dtype=np.float64)
    places = np.linalg.svd(centred, full_matrices=False)[0][:, 0]
    # Either direction is an axis; the first expert decides, so that folds are the same everywhere.
    return np.argsort(places if places[0] >= 0 else -places, kind="stable")


def _without_folds(
    name: str, config: GeneratorConfig, zoo: Zoo, order: np.ndarray, queries: np.ndarray, seed: int
) -> Generated:
    adapters = np.empty((len(order), 1, zoo.size), np.float32)
    similarity, entropy = np.empty(len(order)), np.empty(len(order))
    for fold in np.array_split(order, min(FOLDS, len(order))):
        other = make_generator(config, name)
        other.fit(zoo.select(np.setdiff1d(order, fold)), derive_seed(seed, "fit", name))
        made = other.generate(queries[fold], 1, seed)
        adapters[fold], similarity[fold] = made.adapters, made.similarity
        entropy[fold] = made.entropy
    return Generated(adapters, similarity, entropy)
