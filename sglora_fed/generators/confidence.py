"""How sure to be that a generated adapter beats what a client would fall back to.

The experts tell: for each, an adapter is generated without it (:func:`trial`), and the expert
says by how much that adapter beats the fall-back on its own data. A regression from what is known
before use to that gain gives the probability that it is above zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from sglora_fed.config.schema import GeneratorConfig
from sglora_fed.errors import GeneratorError
from sglora_fed.generators.base import Generated, Generator, is_federated
from sglora_fed.generators.registry import fit_generator
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
PENALTY = 4.0
"""Made-up experts that say slope zero, on features of unit spread, and one that says gain zero."""

PRIOR_CASES, PRIOR_SPREAD = 2.0, 0.05
"""Before anybody has judged: as if two gains had been off by five points."""

SURE = 0.5
"""A client adopts the generated adapter from this confidence on."""


@dataclass(frozen=True)
class Confidence:
    """What is expected of the gain of an adapter over the fall-back: normal, for each adapter.

    Attributes:
        weights: [1 + FEATURES] the mean is their product with (1, features).
        covariance: [1 + FEATURES, 1 + FEATURES] of the weights.
        spread: standard deviation of a gain around its mean, in units of the metric.

    Raises:
        GeneratorError: when a number is not finite, a shape is another, or the spread is not above
            zero.
    """

    weights: np.ndarray
    covariance: np.ndarray
    spread: float

    def __post_init__(self) -> None:
        count, shapes = 1 + FEATURES, (self.weights.shape, self.covariance.shape)
        numbers = [*self.weights.ravel(), *self.covariance.ravel(), self.spread]
        if shapes != ((count,), (count, count)) or not np.isfinite(numbers).all():
            raise GeneratorError(
                f"a confidence has {count} finite weights and their covariance; found shapes"
                f" {shapes} and {numbers}"
            )
        if self.spread <= 0:
            raise GeneratorError(f"a confidence has a spread above 0; found {self.spread}")

    def of(self, made: Generated, fallback: np.ndarray) -> np.ndarray:
        """[n] probability that each client's first adapter beats the fall-back [D]."""
        return self.chances(features(made, fallback))

    def chances(self, inputs: np.ndarray) -> np.ndarray:
        """[n] probability that the gain is above zero, for features [n, FEATURES]."""
        design = np.hstack([np.ones((len(inputs), 1)), inputs])
        doubt = np.maximum(np.einsum("ni,ij,nj->n", design, self.covariance, design), 0.0)
        ratios = design @ self.weights / np.sqrt(self.spread**2 + doubt)
        return np.asarray(torch.special.ndtr(torch.from_numpy(ratios)))


def features(made: Generated, fallback: np.ndarray) -> np.ndarray:
    """[n, FEATURES]: nearest similarity, weight entropy, and the step away from the fall-back.

    The step is ln(1 + |adapter - fall-back| / |fall-back|): a generator that knows nothing of a
    description stays near the adapter for everybody.
    """
    length = float(np.linalg.norm(fallback.astype(np.float64))) or 1.0
    steps = np.linalg.norm((made.adapters[:, 0] - fallback).astype(np.float64), axis=1) / length
    return np.stack([made.similarity, made.entropy, np.log1p(steps)], axis=1)


def fit_confidence(inputs: np.ndarray, gains: np.ndarray) -> Confidence:
    """Bayesian linear regression with a conjugate prior (Bishop 2006, section 3.3).

    The variance is one number, not integrated over: with a handful of judges the tails are a little
    light. It contains the sampling noise of the judges' examples, so the gain that is told about is
    one measured on as many.

    Args:
        inputs: [n, FEATURES] of held-out adapters.
        gains: [n] metric of the adapter less that of the fall-back.
    """
    centre, spread = inputs.mean(axis=0), inputs.std(axis=0)
    spread[spread < 1e-9] = 1.0
    design = np.hstack([np.ones((len(inputs), 1)), (inputs - centre) / spread])
    prior = np.diag([1.0, *np.full(FEATURES, PENALTY)])
    covariance = np.linalg.inv(design.T @ design + prior)
    weights = covariance @ (design.T @ gains)
    misfit = float(gains @ gains - weights @ (design.T @ gains))
    variance = (PRIOR_CASES * PRIOR_SPREAD**2 + misfit) / (PRIOR_CASES + len(gains))
    # From features of unit spread back to features as they are.
    scaled = np.diag([1.0, *(1 / spread)])
    scaled[1:, 0] = -centre / spread
    back = scaled.T @ covariance @ scaled
    return Confidence(scaled.T @ weights, variance * back, float(np.sqrt(variance)))


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
    The shared LoRA that it starts from has seen them, as the fall-back has: what is held out is
    what the generator adds.

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
    if is_federated(generator):
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
        other = fit_generator(config, name, zoo.select(np.setdiff1d(order, fold)), seed)
        made = other.generate(queries[fold], 1, seed)
        adapters[fold], similarity[fold] = made.adapters, made.similarity
        entropy[fold] = made.entropy
    return Generated(adapters, similarity, entropy)
