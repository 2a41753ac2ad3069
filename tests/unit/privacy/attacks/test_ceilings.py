"""Ceilings: attained by randomised response, passed by nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sglora_fed.errors import AttackError
from sglora_fed.privacy.attacks import ceiling, ceiling_for, posterior


@pytest.mark.parametrize(
    ("epsilon", "count", "replies", "wanted"),
    [(8.0, 100, 1, 0.968), (4.0, 100, 15, 0.060), (4.0, 100, 26, 0.037), (1.0, 100, 25, 0.019)],
)
def test_published_values(epsilon: float, count: int, replies: int, wanted: float) -> None:
    assert ceiling(epsilon, count, replies) == pytest.approx(wanted, abs=6e-4)


@pytest.mark.parametrize("replies", [1, 3, 10])
def test_without_a_promise_one_of_the_replies_and_at_epsilon_0_chance(replies: int) -> None:
    assert ceiling(None, 10, replies) == 1 / replies
    assert ceiling(0.0, 10, replies) == pytest.approx(0.1)


def test_delta_adds_what_it_may_fail_by() -> None:
    wanted = (math.e + 9 * 0.01) / (math.e + 9)
    assert ceiling(1.0, 10, delta=0.01) == pytest.approx(wanted)
    assert ceiling(0.0, 10, delta=0.999) <= 1
    uniform = np.full(10, 0.1)
    assert ceiling_for(1.0, uniform, 0.01) == pytest.approx(wanted)


def test_no_decision_rule_passes_the_ceiling_of_a_prior() -> None:
    """Any table P(y|x) with ratios of at most e^eps; the Bayes rule's success, by summing."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        epsilon, count = rng.uniform(0.1, 3), int(rng.integers(2, 6))
        prior = rng.dirichlet(np.ones(count))
        table = np.exp(rng.uniform(0, epsilon / 2, (count, 7)))
        table /= table.sum(axis=1, keepdims=True)
        success = (prior[:, None] * table).max(axis=0).sum()
        assert success <= ceiling_for(epsilon, prior) + 1e-12


@pytest.mark.parametrize(("epsilon", "wanted"), [(0.1, 0.525), (1, 0.731), (4, 0.982)])
def test_belief_in_a_fact(epsilon: float, wanted: float) -> None:
    assert posterior(epsilon, 0.5) == pytest.approx(wanted, abs=5e-4)


@pytest.mark.parametrize(
    "arguments", [(math.nan, 5), (-1.0, 5), (math.inf, 5), (1.0, 1), (1.0, 2.5)]
)
def test_impossible_numbers(arguments: tuple[float, int]) -> None:
    with pytest.raises(AttackError):
        ceiling(*arguments)


def test_impossible_replies_deltas_and_priors() -> None:
    for replies in (0, 6, 2.0):
        with pytest.raises(AttackError, match="from 1 to 5"):
            ceiling(1.0, 5, replies)  # type: ignore[arg-type]
    with pytest.raises(AttackError, match="delta is 0"):
        ceiling(1.0, 5, 2, 0.1)
    for delta in (1.0, -0.1, math.nan):
        with pytest.raises(AttackError, match="delta="):
            ceiling(1.0, 5, delta=delta)
    for prior in ([0.5, 0.6], [1.5, -0.5], [math.nan, 0.5], [1.0]):
        with pytest.raises(AttackError, match="prior"):
            ceiling_for(1.0, np.array(prior))
    for belief in (0.0, 1.0, math.nan):
        with pytest.raises(AttackError, match="0 < prior < 1"):
            posterior(1.0, belief)
