"""k-ary randomised response: exact by enumeration; weaker ones would be caught."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sglora_fed.errors import CatalogueError, PrivacyError
from sglora_fed.privacy import KrrMechanism
from sglora_fed.privacy.mechanisms import krr
from sglora_fed.privacy.mechanisms.krr import respond
from sglora_fed.privacy.mechanisms.odds import Odds, odds

ROWS = np.eye(5)[:4]


@pytest.mark.parametrize("count", range(2, 9))
@pytest.mark.parametrize("weights", [Odds(1, 1), Odds(2, 1), Odds(20, 3), Odds(54, 1)])
def test_every_probability_exactly(count: int, weights: Odds, enumerated: Callable) -> None:
    ratio = Fraction(weights.truth, weights.other)
    for truth in range(count):
        found = enumerated(krr, lambda truth=truth: respond(truth, count, weights))
        wanted = dict.fromkeys(range(count), 1 / (ratio + count - 1))
        wanted[truth] = ratio / (ratio + count - 1)
        assert found == wanted


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 4.0])
def test_the_promise_by_enumeration(epsilon: float, enumerated: Callable) -> None:
    """Weights as the mechanism rounds them, on a scale that can be gone through."""
    exact = odds(epsilon)
    weights = Odds(exact.truth * 8 // exact.other, 8)
    rows = [enumerated(krr, lambda truth=truth: respond(truth, 5, weights)) for truth in range(5)]
    worst = max(a[y] / b[y] for a in rows for b in rows for y in range(5))
    assert worst <= Fraction(exact.truth, exact.other)
    assert float(worst) > math.exp(epsilon) - 1 / 8
    assert all(sum(row.values()) == 1 for row in rows)


@pytest.mark.parametrize("weight", range(4))
def test_where_the_real_scale_changes_its_answer(
    weight: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer is an interval of draws; its ends show its length without counting 2^42."""
    weights = odds(1.0)
    monkeypatch.setattr(krr, "below", lambda bound: draws.pop(0))
    ends = [0, weights.truth, *(weights.truth + n * weights.other for n in (1, 2, 3))]
    draws = [draw for low, high in pairwise(ends) for draw in (low, high - 1)]
    found = [respond(weight, 4, weights) for _ in range(8)]
    others = [place for place in range(4) if place != weight]
    assert found == [place for place in (weight, *others) for _ in "ab"]


def test_draws_follow_the_probabilities() -> None:
    """Forgotten noise, an epsilon halved or doubled: the counts would be others."""
    mechanism = KrrMechanism(ROWS, 1.0)
    drawn = [int(mechanism.release(np.eye(5)[2])[0]) for _ in range(20_000)]
    shares = np.array([1, 1, math.e, 1]) / (math.e + 3)
    assert stats.chisquare(np.bincount(drawn, minlength=4), 20_000 * shares).pvalue > 1e-6
    halved = np.array([1, 1, math.exp(0.5), 1]) / (math.exp(0.5) + 3)
    assert stats.chisquare(np.bincount(drawn, minlength=4), 20_000 * halved).pvalue < 1e-6


def test_descriptions_of_one_place_are_told_apart_by_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mechanism = KrrMechanism(ROWS, 4.0)
    vectors = [np.array([0.1, 0.9, 0, 0, 0.4]), np.array([-0.5, 0.6, 0.2, 0.1, -0.1])]
    bound = mechanism.odds.truth + 3 * mechanism.odds.other
    for draw in (*range(0, bound, bound // 97), bound - 1):
        monkeypatch.setattr(krr, "below", lambda bound, draw=draw: draw)
        first, second = (mechanism.release(v / np.linalg.norm(v)) for v in vectors)
        assert first == second


def test_the_promise_is_stated() -> None:
    mechanism = KrrMechanism(ROWS, 4.0)
    assert (mechanism.epsilon, mechanism.delta, mechanism.replies) == (4.0, 0.0, 1)


@pytest.mark.parametrize("epsilon", [0, -1, math.nan, math.inf, 1001, 10**400, "1", None, True])
def test_impossible_epsilon(epsilon: Any) -> None:
    with pytest.raises(PrivacyError, match="need 0 < epsilon <= 1000"):
        KrrMechanism(ROWS, epsilon)


@pytest.mark.parametrize(
    "rows",
    [ROWS[:1], ROWS * np.nan, ROWS * 2, ROWS[0], ROWS.astype(int), np.zeros((3, 5)), ROWS.tolist()],
    ids=["one", "nan", "norm", "vector", "integers", "zeros", "list"],
)
def test_unfit_catalogue(rows: np.ndarray) -> None:
    with pytest.raises(CatalogueError):
        KrrMechanism(rows, 1.0)
