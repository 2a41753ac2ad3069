"""Subset selection: exact by enumeration; a sure truth or a telling order is caught."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sglora_fed.errors import PrivacyError
from sglora_fed.privacy import SubsetMechanism
from sglora_fed.privacy.mechanisms import subset
from sglora_fed.privacy.mechanisms.odds import Odds, odds
from sglora_fed.privacy.mechanisms.subset import among

ROWS = np.eye(7)[:6]


def enumerate_sets(
    count: int, size: int, weights: Odds, enumerated: Callable
) -> list[dict[tuple[int, ...], Fraction]]:
    return [
        enumerated(subset, lambda truth=truth: tuple(among(truth, count, size, weights)))
        for truth in range(count)
    ]


@pytest.mark.parametrize(("count", "size"), [(2, 1), (4, 1), (4, 2), (4, 3), (5, 2), (6, 3)])
@pytest.mark.parametrize("weights", [Odds(1, 1), Odds(5, 2), Odds(7, 1)])
def test_every_probability_exactly(
    count: int, size: int, weights: Odds, enumerated: Callable
) -> None:
    """The definition: a set weighs e^eps with the truth in it, else 1. Sets come in one order
    only, so a truth that is always included, or not shuffled, would be another distribution.
    """
    ratio = Fraction(weights.truth, weights.other)
    total = ratio * comb(count - 1, size - 1) + comb(count - 1, size)
    sets = list(combinations(range(count), size))
    for truth, found in enumerate(enumerate_sets(count, size, weights, enumerated)):
        assert found == {s: (ratio if truth in s else Fraction(1)) / total for s in sets}


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 2.0])
def test_the_promise_by_enumeration(epsilon: float, enumerated: Callable) -> None:
    exact = odds(epsilon)
    weights = Odds(exact.truth * 4 // exact.other, 4)
    rows = enumerate_sets(5, 2, weights, enumerated)
    worst = max(a[y] / b[y] for a in rows for b in rows for y in a)
    assert worst <= Fraction(exact.truth, exact.other)
    assert float(worst) > math.exp(epsilon) - 1 / 4


def test_one_set_by_chance() -> None:
    mechanism, drawn = SubsetMechanism(ROWS, 2.0, 2), Counter[tuple[int, ...]]()
    for _ in range(20_000):
        drawn[tuple(mechanism.release(np.eye(7)[4]).tolist())] += 1
    sets = list(combinations(range(6), 2))
    weights = np.array([math.exp(2) if 4 in s else 1 for s in sets])
    counts = [drawn[s] for s in sets]
    assert sum(counts) == 20_000
    assert stats.chisquare(counts, 20_000 * weights / weights.sum()).pvalue > 1e-6


def test_the_published_hit_rates() -> None:
    """Reference values for 100 places: p and the server's best guess p / m."""
    for epsilon, m, hit in [(4.0, 15, 0.906), (4.0, 26, 0.950), (1.0, 25, 0.475)]:
        mechanism = SubsetMechanism(np.eye(100), epsilon, m)
        hits = sum(7 in mechanism.release(np.eye(100)[7]) for _ in range(2000))
        assert hits / 2000 == pytest.approx(hit, abs=5 * math.sqrt(hit * (1 - hit) / 2000))


def test_as_many_draws_whatever_the_truth_and_the_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, bounds = odds(4.0), dict[tuple[int, bool], list[int]]()
    for truth in range(6):
        for included in (True, False):
            seen = bounds[truth, included] = []

            def below(bound: int, seen: list[int] = seen, included: bool = included) -> int:
                seen.append(bound)
                return 0 if included or len(seen) > 1 else bound - 1

            monkeypatch.setattr(subset, "below", below)
            assert (truth in among(truth, 6, 3, weights)) == included
    assert len({tuple(seen) for seen in bounds.values()}) == 1


@pytest.mark.parametrize("replies", [0, -1, 6, 7, 2.5, "2", None, True])
def test_impossible_number_of_replies(replies: Any) -> None:
    with pytest.raises(PrivacyError, match="need 1 to 5"):
        SubsetMechanism(ROWS, 1.0, replies)


@pytest.mark.parametrize("epsilon", [0, -1, math.nan, math.inf, 1001, 10**400, "1", None, True])
def test_impossible_epsilon(epsilon: Any) -> None:
    with pytest.raises(PrivacyError, match="need 0 < epsilon <= 1000"):
        SubsetMechanism(ROWS, epsilon, 2)
