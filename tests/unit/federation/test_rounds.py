"""Rounds of any generator that learns in the federation."""

from __future__ import annotations

from itertools import pairwise

import pytest

from sglora_fed.config.schema import FederationConfig
from sglora_fed.federation.rounds import LAST_RATE, rate_of_round


@pytest.mark.parametrize("rounds", [2, 5, 12])
def test_the_learning_rate_falls_evenly_to_its_share_in_the_last_round(rounds: int) -> None:
    config = FederationConfig(generator_rounds=rounds)
    rates = [rate_of_round(number, config) for number in range(1, rounds + 1)]
    assert rates[0] == 1
    assert rates[-1] == pytest.approx(LAST_RATE)
    steps = [before - after for before, after in pairwise(rates)]
    assert steps == pytest.approx([(1 - LAST_RATE) / (rounds - 1)] * (rounds - 1))


def test_one_round_has_the_whole_rate() -> None:
    assert rate_of_round(1, FederationConfig(generator_rounds=1)) == 1
