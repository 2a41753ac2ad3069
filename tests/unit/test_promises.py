"""Promises about training examples: composition against dp-accounting, and false ones."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import dp_accounting
import pytest
from dp_accounting import pld

from sglora_fed.config import compose
from sglora_fed.errors import ConfigError, PrivacyError
from sglora_fed.promises import (
    EXAMPLE_UNIT,
    EXPERT_UNIT,
    Promise,
    composed_epsilon,
    example_promise,
    expert_promise,
    planned_steps,
    promise_for,
    sgd_epsilon,
)

# 256 pairs of an expert, all of them in each step: 2 of the enrolment and 60 of the rounds.
PROMISE = Promise(EXAMPLE_UNIT, 8.0, 1 / 2560, "prv", 256, 62, 1.0, 3.994140625, 1.0)


def composed(sigma: float, rate: float, steps: int, delta: float) -> float:
    """Epsilon by dp-accounting's privacy loss distributions."""
    accountant = pld.PLDAccountant()
    one = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(sigma))
    accountant.compose(dp_accounting.SelfComposedDpEvent(one, steps))
    return float(accountant.get_epsilon(delta))


def test_the_noise_of_all_steps_together_gives_epsilon() -> None:
    made = example_promise(8.0, None, 256, 1000, 6, 1.0)
    assert (made.delta, made.rate) == (1 / 2560, 1.0)
    assert 7.9 < composed(made.sigma, 1.0, 6, 1 / 2560) <= 8.0
    made.check()


def test_drawing_examples_at_random_is_accounted_for() -> None:
    found = sgd_epsilon(1.2, 0.25, 10, 1e-3)
    assert found == pytest.approx(composed(1.2, 0.25, 10, 1e-3), abs=0.03)
    assert found < 0.6 * sgd_epsilon(1.2, 1.0, 10, 1e-3)


def test_updates_of_whole_experts_compose_by_dp_accounting() -> None:
    made = expert_promise(4.0, 1e-6, 100, releases=7, clip=2.0)
    # Two experts' updates are up to two clipping norms apart.
    found = composed(made.sigma / 2, 1.0, 7, 1e-6)
    assert found == pytest.approx(4.0, abs=0.02)
    assert (made.unit, made.rate, made.steps) == (EXPERT_UNIT, 1.0, 7)
    made.check()


@pytest.mark.parametrize(
    "lie", [{"sigma": 3.994140625 / 2}, {"epsilon": 7.0}, {"steps": 70}, {"delta": 1e-5}]
)
def test_a_promise_that_its_noise_does_not_keep_is_found(lie: dict[str, Any]) -> None:
    PROMISE.check()
    with pytest.raises(PrivacyError, match="the noise gives"):
        replace(PROMISE, **lie).check()


@pytest.mark.parametrize(
    "values",
    [
        {"epsilon": math.nan},
        {"epsilon": -1.0},
        {"sigma": math.inf},
        {"delta": 1.0},
        {"rate": 1.5},
        {"steps": 0},
        {"examples": 2.5},
        {"unit": "one description, local"},
        {"accountant": "rdp"},
        {"clip": "1"},
    ],
)
def test_impossible_promises_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(PrivacyError):
        Promise.from_dict(PROMISE.to_dict() | values)


def test_a_promise_comes_back_from_plain_values() -> None:
    assert Promise.from_dict(PROMISE.to_dict()) == PROMISE
    with pytest.raises(PrivacyError, match="no promise"):
        Promise.from_dict({"epsilon": 8.0})


def test_all_that_a_node_sends_of_an_expert_is_counted() -> None:
    config = compose(
        [
            "experiment=private",
            "adapter.train.steps=4",
            "adapter.train.checkpoints=1",
            "federation.shared_rounds=3",
            "federation.shared_steps=5",
            "federation.generator_rounds=7",
            "federation.generator_steps=2",
        ]
    )
    assert planned_steps(config) == 4 + 15 + 14
    found = promise_for(config, 200)
    assert found is not None
    assert (found.steps, found.rate, found.examples) == (33, 1.0, 200)
    without = compose(["experiment=cameras"])
    assert promise_for(without, 200) is None


@pytest.mark.parametrize(
    ("overrides", "wrong"),
    [
        (["privacy.training.epsilon=0"], "privacy.training.epsilon"),
        (["privacy.training.delta=1"], "privacy.training.delta"),
        (["privacy.training.clip=0"], "privacy.training.clip"),
        (["privacy.training.unit=batch"], "privacy.training.unit"),
        (["adapter.train.patience=2"], "patience"),
        (["experiment.methods=[functional,policy]"], "policy"),
        (["privacy.training.epsilon=null"], "own_epsilon"),
    ],
)
def test_what_cannot_be_promised_is_refused_before_a_run(overrides: list[str], wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong):
        compose(["experiment=private", *overrides])


def test_trainings_of_several_runs_add_up_as_gaussians_do() -> None:
    """All examples in each step: one Gaussian of the summed precision, by another library."""
    noises = [(4.0, 1.0, 10), (4.0, 1.0, 50), (2.0, 1.0, 3)]
    whole = 1 / math.sqrt(60 / 16 + 3 / 4)
    wanted = dp_accounting.get_epsilon_gaussian(whole, 1e-4)
    assert composed_epsilon(noises, 1e-4) == pytest.approx(wanted, rel=1e-9)
    assert composed_epsilon([], 1e-4) == 0


def test_sampled_trainings_add_up_by_the_privacy_loss() -> None:
    noises = [(1.2, 0.25, 10), (3.0, 1.0, 4)]
    event = dp_accounting.SelfComposedDpEvent
    gaussian = dp_accounting.GaussianDpEvent
    accountant = pld.PLDAccountant()
    accountant.compose(event(dp_accounting.PoissonSampledDpEvent(0.25, gaussian(1.2)), 10))
    accountant.compose(event(gaussian(3.0), 4))
    wanted = accountant.get_epsilon(1e-3)
    assert wanted <= composed_epsilon(noises, 1e-3) + 1e-3
    assert composed_epsilon(noises, 1e-3) == pytest.approx(wanted, rel=0.02)


def test_a_whole_experts_noise_covers_each_of_its_examples() -> None:
    promise = expert_promise(8.0, 1e-6, 50, 5, 0.5)
    assert composed_epsilon([promise.noise(5)], 1e-6) == pytest.approx(8.0, rel=1e-6)


def test_too_little_noise_has_no_account() -> None:
    with pytest.raises(PrivacyError):
        composed_epsilon([(1e-4, 0.5, 1000)], 1e-5)
