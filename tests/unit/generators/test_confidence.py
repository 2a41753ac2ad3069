"""Confidence against an optimiser, planted chances and refitting by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import minimize

from sglora_fed.config.schema import GeneratorConfig
from sglora_fed.errors import GeneratorError
from sglora_fed.generators import Generated, Generator, make_generator
from sglora_fed.generators.confidence import (
    FOLDS,
    PENALTY,
    Confidence,
    features,
    fit_confidence,
    trial,
)
from sglora_fed.generators.functional import Functional
from sglora_fed.zoo import Zoo

STRANGE = np.eye(6, dtype=np.float32)[4:]

MakeZoo = Callable[..., Zoo]
Settings = Callable[..., GeneratorConfig]


def never(zoo: Zoo) -> Generator:
    raise AssertionError(zoo.ids)


def planted(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, true chances and drawn wins."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(count, 3)) * [0.1, 1.0, 2.0] + [0.7, 0.5, 1.0]
    odds = -3 + inputs @ np.array([6.0, -1.0, 0.3])
    chances = 1 / (1 + np.exp(-odds))
    return inputs, chances, (rng.uniform(size=count) < chances).astype(float)


def said(found: Confidence, inputs: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-(found.intercept + inputs @ found.slopes)))


def test_the_fit_is_the_penalised_maximum_of_the_likelihood() -> None:
    inputs, _, wins = planted(60)
    wins[:5] = 0.5
    centre = inputs.mean(axis=0)
    rows, targets = np.vstack([inputs, centre, centre]), np.append(wins, [0.5, 0.5])
    scaled = (rows - rows.mean(axis=0)) / rows.std(axis=0)

    def loss(weights: np.ndarray) -> float:
        odds = weights[0] + scaled @ weights[1:]
        each = np.logaddexp(0, odds) - targets * odds
        return float(each.sum() + PENALTY / 2 * (weights[1:] ** 2).sum())

    best = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-9}).x
    wanted = 1 / (1 + np.exp(-(best[0] + scaled[:60] @ best[1:])))
    np.testing.assert_allclose(said(fit_confidence(inputs, wins), inputs), wanted, atol=1e-5)


def test_planted_chances_are_found_on_new_cases() -> None:
    inputs, _, wins = planted(3000)
    fresh, chances, _ = planted(1000, seed=1)
    assert np.abs(said(fit_confidence(inputs, wins), fresh) - chances).mean() < 0.03


@pytest.mark.parametrize("won", [0.0, 1.0])
def test_nothing_is_certain_after_a_few_equal_outcomes(won: float) -> None:
    inputs, _, _ = planted(4)
    chances = said(fit_confidence(inputs, np.full(4, won)), inputs)
    assert np.all(np.abs(chances - won) > 0.05)
    assert np.all(np.abs(chances - won) < 0.5)


def test_features_are_what_they_say() -> None:
    adapters = np.array([[[3.0, 4.0]], [[3.0, 0.0]]], np.float32)
    made = Generated(adapters, np.array([0.9, 0.2]), np.array([0.1, 1.3]))
    found = features(made, np.array([3.0, 0.0], np.float32))
    np.testing.assert_allclose(found, [[0.9, 0.1, np.log(1 + 4 / 3)], [0.2, 1.3, 0.0]])


def test_a_confidence_needs_finite_numbers() -> None:
    with pytest.raises(GeneratorError, match="finite"):
        Confidence(0.0, np.array([1.0, np.nan, 0.0]))
    with pytest.raises(GeneratorError, match="slopes"):
        Confidence(0.0, np.zeros(2))


def test_held_out_adapters_come_from_the_other_experts(
    make_zoo: MakeZoo, settings: Settings
) -> None:
    """With one far expert after another as outlier, its own parameters are never in its adapter."""
    zoo, config = make_zoo(10, 6, seed=2), settings()
    for expert in (0, 7):
        means = zoo.means.copy()
        means[expert] = 1e6
        other = Zoo(zoo.ids, zoo.wordings, means, zoo.variances, zoo.examples)
        generator = make_generator(config, "ridge")
        generator.fit(other, 0)
        for kind in trial(generator, config, other, STRANGE, never, 0).made[:2]:
            largest = np.abs(kind.adapters[:, 0]).max(axis=1)
            assert largest[expert] < 100
            assert np.sum(largest > 1000) >= 10 - 1 - 10 // FOLDS - 1


def test_held_out_folds_of_neighbours_leave_nobody_near(
    make_zoo: MakeZoo, settings: Settings
) -> None:
    """Two clusters of descriptions: without its own cluster an expert has no similar one."""
    zoo, config = make_zoo(16, 6, seed=3), settings()
    rng = np.random.default_rng(0)
    texts = np.repeat(np.eye(6)[:2], 8, axis=0) + 0.05 * rng.normal(size=(16, 6))
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    wordings = texts[:, None].astype(np.float32)
    clustered = Zoo(zoo.ids, wordings, zoo.means, zoo.variances, zoo.examples)
    generator = make_generator(config, "topk")
    generator.fit(clustered, 0)
    random, near, _ = trial(generator, config, clustered, STRANGE, never, 0).made
    assert random.similarity.min() > 0.9
    assert near.similarity.mean() <= random.similarity.mean() + 1e-6


def test_strangers_take_turns_with_the_whole_generator(
    make_zoo: MakeZoo, settings: Settings
) -> None:
    zoo, config = make_zoo(5, 6, seed=2), settings()
    generator = make_generator(config, "ridge")
    generator.fit(zoo, 0)
    strange = trial(generator, config, zoo, STRANGE, never, 0).made[2]
    wanted = generator.generate(STRANGE, 1, 0)
    np.testing.assert_allclose(strange.adapters, wanted.adapters[[0, 1, 0, 1, 0]], atol=1e-5)
    np.testing.assert_allclose(strange.similarity, wanted.similarity[[0, 1, 0, 1, 0]])


def test_a_generator_of_the_federation_is_trained_again_without_those_who_judge(
    make_zoo: MakeZoo, settings: Settings
) -> None:
    zoo, config = make_zoo(9, 6, seed=4), settings()
    asked: list[Zoo] = []

    def retrain(others: Zoo) -> Generator:
        asked.append(others)
        again = make_generator(config, "ridge")
        again.fit(others, 0)
        return again

    tried = trial(Functional(config), config, zoo, STRANGE, retrain, 0)
    (others,) = asked
    judges = [zoo.ids[row] for row in tried.rows]
    assert sorted([*judges, *others.ids]) == sorted(zoo.ids)
    assert len(judges) == 9 // FOLDS
    wanted = retrain(others).generate(zoo.wordings[tried.rows, 0], 1, 0)
    np.testing.assert_allclose(tried.made[0].adapters, wanted.adapters, atol=1e-5)
    assert len(tried.made) == 2
