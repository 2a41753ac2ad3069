"""Confidence against least squares, planted chances and refitting by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from sglora_fed.config.schema import GeneratorConfig
from sglora_fed.errors import GeneratorError
from sglora_fed.generators import Generated, Generator, make_generator
from sglora_fed.generators.confidence import (
    FOLDS,
    PENALTY,
    PRIOR_CASES,
    PRIOR_SPREAD,
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


SPREAD = 0.07


def planted(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, expected gains and drawn gains."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(count, 3)) * [0.1, 1.0, 2.0] + [0.7, 0.5, 1.0]
    expected = -0.3 + inputs @ np.array([0.5, -0.02, 0.01])
    return inputs, expected, expected + SPREAD * rng.normal(size=count)


def test_the_fit_is_the_posterior_of_a_regression_with_made_up_cases() -> None:
    """Least squares with the prior as further rows, and the spread from its residuals."""
    inputs, _, gains = planted(20)
    scaled = (inputs - inputs.mean(axis=0)) / inputs.std(axis=0)
    prior = np.diag([1.0, *np.sqrt([PENALTY] * 3)])
    rows = np.vstack([np.hstack([np.ones((20, 1)), scaled]), prior])
    targets = np.append(gains, np.zeros(4))
    weights, residuals, _, _ = np.linalg.lstsq(rows, targets, rcond=None)
    variance = (PRIOR_CASES * PRIOR_SPREAD**2 + residuals[0]) / (PRIOR_CASES + 20)
    fresh, _, _ = planted(5, seed=1)
    design = np.hstack([np.ones((5, 1)), (fresh - inputs.mean(axis=0)) / inputs.std(axis=0)])
    doubt = np.diag(design @ np.linalg.inv(rows.T @ rows) @ design.T)
    wanted = norm.cdf(design @ weights / np.sqrt(variance * (1 + doubt)))
    np.testing.assert_allclose(fit_confidence(inputs, gains).chances(fresh), wanted, atol=1e-9)


def test_planted_chances_are_found_on_new_cases() -> None:
    inputs, _, gains = planted(3000)
    fresh, expected, _ = planted(1000, seed=1)
    chances = fit_confidence(inputs, gains).chances(fresh)
    assert np.abs(chances - norm.cdf(expected / SPREAD)).mean() < 0.02


def test_what_it_says_happens_as_often() -> None:
    """Federations of 16 judges whose law is drawn from the prior: of the adapters called 70 to 90 %
    sure, about 80 % win (Cook, Gelman & Rubin 2006)."""
    said, won = [], []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        inputs = rng.normal(size=(36, 3))
        slopes = PRIOR_SPREAD * rng.normal(size=3) / np.sqrt(PENALTY)
        gains = PRIOR_SPREAD * (rng.normal() + rng.normal(size=36)) + inputs @ slopes
        said.append(fit_confidence(inputs[:16], gains[:16]).chances(inputs[16:]))
        won.append(gains[16:] > 0)
    chances, wins = np.concatenate(said), np.concatenate(won)
    for low in (0.1, 0.3, 0.5, 0.7):
        chosen = (chances >= low) & (chances < low + 0.2)
        assert abs(wins[chosen].mean() - chances[chosen].mean()) < 0.04


@pytest.mark.parametrize("sign", [-1, 1])
def test_nothing_is_certain_after_a_few_equal_outcomes(sign: int) -> None:
    inputs, _, _ = planted(4)
    chances = fit_confidence(inputs, np.full(4, sign * 0.05)).chances(inputs)
    assert np.all(sign * (chances - 0.5) > 0)
    assert np.all(sign * (chances - 0.5) < 0.45)


def test_features_are_what_they_say() -> None:
    adapters = np.array([[[3.0, 4.0]], [[3.0, 0.0]]], np.float32)
    made = Generated(adapters, np.array([0.9, 0.2]), np.array([0.1, 1.3]))
    found = features(made, np.array([3.0, 0.0], np.float32))
    np.testing.assert_allclose(found, [[0.9, 0.1, np.log(1 + 4 / 3)], [0.2, 1.3, 0.0]])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights": np.array([1.0, np.nan, 0.0, 0.0])}, "finite"),
        ({"weights": np.zeros(3)}, "4 finite weights"),
        ({"covariance": np.zeros((3, 4))}, "4 finite weights"),
        ({"covariance": np.full((4, 4), np.inf)}, "finite"),
        ({"spread": 0.0}, "above 0; found 0.0"),
    ],
)
def test_a_confidence_needs_finite_numbers(changes: dict[str, Any], words: str) -> None:
    fine: dict[str, Any] = {
        "weights": np.zeros(4),
        "covariance": np.zeros((4, 4)),
        "spread": 1.0,
    }
    Confidence(**fine)
    with pytest.raises(GeneratorError, match=words):
        Confidence(**fine | changes)


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
