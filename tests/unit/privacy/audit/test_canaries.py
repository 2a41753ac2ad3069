"""One run with canaries: DP-SGD on orthogonal gradients, honest and with seeded bugs."""

from __future__ import annotations

import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting.rdp import RdpAccountant

from sglora_fed.errors import AuditError
from sglora_fed.privacy.audit import canary_bound, scale_pvalue

CANARIES, STEPS, RATE, DELTA = 4000, 60, 0.1, 1e-5


def claimed(sigma: float, rate: float = RATE) -> float:
    """Epsilon of DP-SGD by Renyi's divergence, which says more than the truth."""
    step = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(sigma))
    accountant = RdpAccountant()
    accountant.compose(step, STEPS)
    return float(accountant.get_epsilon(DELTA))


def run(sigma: float, rate: float = RATE) -> tuple[np.ndarray, np.ndarray]:
    """Scores and membership: each canary's clipped gradient is an axis of its own."""
    rng = np.random.default_rng()
    included = rng.random(CANARIES) < 0.5
    total = sigma * math.sqrt(STEPS) * rng.normal(size=CANARIES)
    return total + rng.binomial(STEPS, rate, CANARIES) * included, included


@pytest.mark.parametrize("sigma", [0.8, 1.2, 3.0])
def test_an_honest_run_is_not_refuted(sigma: float) -> None:
    found = canary_bound(*run(sigma), DELTA, 0.9999)
    assert found < claimed(sigma)
    if sigma < 1:
        assert found > 0


def test_examples_that_take_part_in_every_step_are_caught() -> None:
    assert canary_bound(*run(3.0, rate=1.0), DELTA, 0.9999) > claimed(3.0)


def test_a_noise_that_is_forgotten_is_caught() -> None:
    assert canary_bound(*run(0.01), DELTA, 0.9999) > claimed(3.0)
    scores, included = run(0.01)
    assert canary_bound(scores, included, 0.0, 0.95) > 3


def test_half_of_the_noise_is_caught_by_its_spread() -> None:
    """What one run shows is weak: twice the claim is not beyond it. The noise itself says more."""
    scores, included = run(0.6)
    outside = scores[~included]
    assert scale_pvalue(outside, 1.2 * math.sqrt(STEPS)) < 1e-6
    assert scale_pvalue(outside, 0.6 * math.sqrt(STEPS)) > 1e-6


def test_what_cannot_be() -> None:
    scores, included = run(1.0)
    for bad in (scores[:199], scores * np.nan, scores[None]):
        with pytest.raises(AuditError, match="scores"):
            canary_bound(bad, included[: len(bad)], DELTA, 0.9)
    for wrong in (included[:-1], included * 1.0):
        with pytest.raises(AuditError, match="included"):
            canary_bound(scores, wrong, DELTA, 0.9)
    with pytest.raises(AuditError, match="delta="):
        canary_bound(scores, included, 1.0, 0.9)
