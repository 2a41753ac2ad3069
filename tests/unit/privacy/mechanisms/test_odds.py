"""e^epsilon as a ratio: never above, and hardly below, by its series in exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sglora_fed.privacy.mechanisms.odds import STEP, odds


def exponential(epsilon: float) -> tuple[Fraction, Fraction]:
    """Bounds of e^epsilon: (1 + x + ... ) for x = epsilon / 2^n < 1/2, squared n times.

    A sum of 40 terms lacks less than its last term: terms shrink by more than half.
    """
    halvings = max(0, math.frexp(epsilon)[1] + 1)
    x = Fraction(epsilon) / 2**halvings
    terms = [Fraction(1)]
    for n in range(1, 40):
        terms.append(_short(terms[-1] * x / n))
    low, high = sum(terms), sum(terms) + 2 * terms[-1] + Fraction(100, 2**600)
    return low ** (2**halvings), high ** (2**halvings)


def _short(value: Fraction) -> Fraction:
    """Rounded down to 600 binary places, so that numbers stay small."""
    return Fraction(math.floor(value * 2**600), 2**600)


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-12, 16))
def test_the_ratio_is_just_below(epsilon: float) -> None:
    found = odds(epsilon)
    low, high = exponential(epsilon)
    assert Fraction(found.truth, found.other) <= high
    assert Fraction(found.truth + 1, found.other) >= low


@pytest.mark.parametrize("epsilon", [0.1, 1, 4, 8, 64, 1000])
def test_the_ratio_as_its_logarithm(epsilon: float) -> None:
    found = odds(epsilon)
    logarithm = math.log(found.truth) - math.log(found.other)
    assert logarithm == pytest.approx(epsilon, rel=1e-11, abs=0)


@pytest.mark.parametrize("epsilon", [5e-324, 1e-300, 1e-13])
def test_hardly_any_epsilon_makes_all_places_equal(epsilon: float) -> None:
    assert odds(epsilon).truth == STEP
