"""Confidence against least squares, planted chances and refitting by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import norm

from sglora_fed.config.schema import GeneratorConfig
from sglora_fed.errors import GeneratorError
from sglora_fed.generators import Generated, Generator, fit_generator, make_generator
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
    """Features, chances, and outcomes drawn from them."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(count, 3)) * [0.1, 1.0, 2.0] + [0.7, 0.5, 1.0]
    chances = norm.cdf(-3 + inputs @ np.array([5.0, -0.2, 0.1]))
    return inputs, chances, (rng.random(count) < chances).astype(float)


def some_judgements() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three of each of ten judges, ties among them."""
    inputs, _, outcomes = planted(30, seed=4)
    outcomes[[3, 17, 18]] = 0.5
    return inputs, outcomes, np.tile(np.arange(10), 3)


def test_the_fit_is_the_posterior_by_a_general_optimiser() -> None:
    """The mode by BFGS on the log posterior, the covariance by its second differences there."""
    inputs, outcomes, judges = some_judgements()
    scaled = (inputs - inputs.mean(axis=0)) / inputs.std(axis=0)
    rows = np.hstack([np.ones((30, 1)), scaled])
    precision = np.array([1.0, *[PENALTY] * 3])

    def loss(weights: np.ndarray) -> float:
        up, down = norm.logcdf(rows @ weights), norm.logcdf(-rows @ weights)
        told = (outcomes * up + (1 - outcomes) * down).sum() / 3
        return float((precision * weights**2).sum() / 2 - told)

    mode = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-9}).x
    step = 1e-3 * np.eye(4)
    hessian = np.array(
        [
            [
                loss(mode + a + b) - loss(mode + a - b) - loss(mode - a + b) + loss(mode - a - b)
                for b in step
            ]
            for a in step
        ]
    ) / (4e-6)
    fresh, _, _ = planted(5, seed=1)
    design = np.hstack([np.ones((5, 1)), (fresh - inputs.mean(axis=0)) / inputs.std(axis=0)])
    doubt = np.diag(design @ np.linalg.inv(hessian) @ design.T)
    wanted = norm.cdf(design @ mode / np.sqrt(1 + doubt))
    found = fit_confidence(inputs, outcomes, judges).chances(fresh)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_what_one_judge_says_twice_is_said_once() -> None:
    inputs, outcomes, judges = some_judgements()
    once = fit_confidence(inputs, outcomes, judges)
    twice = fit_confidence(np.tile(inputs, (2, 1)), np.tile(outcomes, 2), np.tile(judges, 2))
    np.testing.assert_allclose(twice.weights, once.weights, atol=1e-9)
    np.testing.assert_allclose(twice.covariance, once.covariance, atol=1e-9)


def test_other_judges_who_say_the_same_make_it_surer() -> None:
    inputs, outcomes, judges = some_judgements()
    one = fit_confidence(inputs, outcomes, judges)
    more = fit_confidence(
        np.tile(inputs, (2, 1)), np.tile(outcomes, 2), np.append(judges, judges + 10)
    )
    assert np.trace(more.covariance) < 0.8 * np.trace(one.covariance)


def test_a_tie_is_half_a_win_and_half_a_loss() -> None:
    inputs, outcomes, judges = some_judgements()
    ties = np.flatnonzero(outcomes == 0.5)
    split = np.delete(np.arange(30), ties)
    halves = fit_confidence(
        np.vstack([inputs[split], inputs[split], inputs[ties], inputs[ties]]),
        np.concatenate([outcomes[split], outcomes[split], [1, 1, 1], [0, 0, 0]]),
        np.concatenate([judges[split], judges[split], judges[ties], judges[ties]]),
    )
    whole = fit_confidence(inputs, outcomes, judges)
    np.testing.assert_allclose(halves.weights, whole.weights, atol=1e-9)


def test_planted_chances_are_found_on_new_cases() -> None:
    inputs, _, outcomes = planted(3000)
    fresh, wanted, _ = planted(1000, seed=1)
    chances = fit_confidence(inputs, outcomes, np.arange(3000)).chances(fresh)
    assert np.abs(chances - wanted).mean() < 0.02


def test_what_it_says_happens_as_often() -> None:
    """Federations of 16 judges whose law is drawn from the prior: of the adapters called 70 to 90 %
    sure, about 80 % win (Cook, Gelman & Rubin 2006)."""
    said, won = [], []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        inputs = rng.normal(size=(36, 3))
        slopes = rng.normal(size=3) / np.sqrt(PENALTY)
        wins = rng.normal() + inputs @ slopes + rng.normal(size=36) > 0
        fit = fit_confidence(inputs[:16], wins[:16].astype(float), np.arange(16))
        said.append(fit.chances(inputs[16:]))
        won.append(wins[16:])
    chances, wins = np.concatenate(said), np.concatenate(won)
    for low in (0.1, 0.3, 0.5, 0.7):
        chosen = (chances >= low) & (chances < low + 0.2)
        assert abs(wins[chosen].mean() - chances[chosen].mean()) < 0.04


@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_nothing_is_certain_after_a_few_equal_outcomes(outcome: float) -> None:
    inputs, _, _ = planted(4)
    chances = fit_confidence(inputs, np.full(4, outcome), np.arange(4)).chances(inputs)
    sign = 2 * outcome - 1
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
    ],
)
def test_a_confidence_needs_finite_numbers(changes: dict[str, Any], words: str) -> None:
    fine: dict[str, Any] = {
        "weights": np.zeros(4),
        "covariance": np.zeros((4, 4)),
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


def test_held_out_groups_leave_nobody_near(make_zoo: MakeZoo, settings: Settings) -> None:
    """Five clusters of descriptions: random quarters leave some of each, groups leave none."""
    zoo, config = make_zoo(30, 6, seed=3), settings()
    rng = np.random.default_rng(0)
    texts = np.eye(6)[rng.permutation(30) % 5] + 0.05 * rng.normal(size=(30, 6))
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    clustered = replace(zoo, wordings=texts[:, None].astype(np.float32))
    generator = fit_generator(config, "topk", clustered, 0)
    random, far, _ = trial(generator, config, clustered, STRANGE, never, 0).made
    assert random.similarity.min() > 0.9
    # Four groups of five clusters: two stay together and have each other held out.
    assert far.similarity.max() < 0.4


def test_equal_descriptions_have_groups_too(make_zoo: MakeZoo, settings: Settings) -> None:
    zoo, config = make_zoo(6, 6), settings()
    alike = replace(zoo, wordings=np.broadcast_to(zoo.wordings[:1], zoo.wordings.shape))
    generator = fit_generator(config, "topk", alike, 0)
    random, far, _ = trial(generator, config, alike, STRANGE, never, 0).made
    np.testing.assert_array_equal(random.adapters, far.adapters)


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
