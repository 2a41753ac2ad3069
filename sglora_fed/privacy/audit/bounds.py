"""What counts of right and wrong guesses prove about epsilon."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.special import bdtrc, betaincinv, expit, log_ndtr, ndtr, ndtri

from sglora_fed.errors import AuditError

LARGEST = 64.0
"""Epsilon beyond which no audit looks; a million draws certify at most 12."""

TOLERANCE = 1e-6
"""Of a bisection for epsilon; the lower end is given."""


def certified(
    hits: np.ndarray, alarms: np.ndarray, draws: int, delta: float, confidence: float
) -> np.ndarray:
    """Lower bounds of epsilon from how often an event happened under two inputs.

    ln((P - delta) / Q) with P the lower and Q the upper end of one-sided intervals (Clopper &
    Pearson 1934), each wrong with half of 1 - confidence: Nasr et al. 2021. The event must have
    been fixed before these draws.

    Args:
        hits: [...] times that it happened under the one input.
        alarms: [...] under the other.
        draws: n, of each input.
        delta: of the claim.
        confidence: with which a bound holds, in (0, 1).

    Returns:
        [...] bounds, 0 where nothing is proved.
    """
    wrong = (1 - confidence) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        low = np.where(hits > 0, betaincinv(np.maximum(hits, 1), draws - hits + 1, wrong), 0)
        rest = np.maximum(draws - alarms, 1)
        high = np.where(alarms < draws, betaincinv(alarms + 1, rest, 1 - wrong), 1)
        return np.log(np.maximum((low - delta) / high, 1.0))


def one_run(correct: int, guesses: int, canaries: int, delta: float, confidence: float) -> float:
    """A lower bound of epsilon from a single training run (Steinke, Nasr & Jagielski 2023).

    Each canary took part with probability 1/2; ``guesses`` of them were guessed to be in or out,
    ``correct`` rightly. The p-value of a claimed epsilon is P + 2 m delta max_i (P_i - P) / i with
    P_i = P[Bin(guesses, e^eps / (1 + e^eps)) >= correct - i] and P = P_0 (theorem 5.2).

    Args:
        correct: right guesses.
        guesses: made, at most ``canaries``.
        canaries: m.
        delta: of the claim.
        confidence: with which the bound holds, in (0, 1).

    Returns:
        The largest rejected epsilon, 0 when none is.

    Raises:
        AuditError: for counts that cannot be.
    """
    check_counts(correct, guesses, canaries)
    check_claim(delta, confidence)

    def rejected(epsilon: float) -> bool:
        chance = float(expit(epsilon))
        steps = np.arange(1, correct + 1)
        sure = _at_least(correct, guesses, chance)
        more = (_at_least(correct - steps, guesses, chance) - sure) / steps
        slack = 2 * canaries * delta * float(more.max(initial=0))
        return bool(sure + slack <= 1 - confidence)

    return _largest(rejected)


def one_run_gaussian(
    correct: int, guesses: int, canaries: int, delta: float, confidence: float
) -> float:
    """The same with the whole trade-off curve of a Gaussian mechanism as the claim: sharper.

    Epsilon stands for the curve f of the Gaussian mechanism with that epsilon at delta. Algorithm
    ``audit_rh_with_cap`` of Mahloujifar, Melis & Chaudhuri 2024, for guesses of one bit.

    Args:
        correct: right guesses.
        guesses: made, at most ``canaries``.
        canaries: m.
        delta: at which the curve is read as an epsilon, above 0.
        confidence: with which the bound holds, in (0, 1).

    Returns:
        The largest rejected epsilon, 0 when none is.

    Raises:
        AuditError: for counts that cannot be, or delta 0.
    """
    check_counts(correct, guesses, canaries)
    check_claim(delta, confidence)
    if delta == 0:
        raise AuditError("delta=0: no Gaussian mechanism has it; use one_run")

    def rejected(epsilon: float) -> bool:
        mean = gaussian_mean(epsilon, delta)
        right = (1 - confidence) * correct / canaries
        wrong = (1 - confidence) * (guesses - correct) / canaries
        for place in range(correct - 1, -1, -1):
            larger = max(wrong, float(ndtr(ndtri(min(right, 1.0)) - mean)))
            right += place / (guesses - place) * (larger - wrong)
            wrong = larger
        return right + wrong > guesses / canaries

    return _largest(rejected)


def gaussian_mean(epsilon: float, delta: float) -> float:
    """Mu of the Gaussian mechanism whose delta at epsilon is the given one (Balle & Wang 2018).

    delta = Phi(mu/2 - eps/mu) - e^eps Phi(-mu/2 - eps/mu), which grows with mu.
    """

    def failing(mean: float) -> float:
        inside = float(log_ndtr(-mean / 2 - epsilon / mean)) + epsilon
        return float(ndtr(mean / 2 - epsilon / mean)) - math.exp(min(inside, 0.0))

    low, high = 1e-12, 2 * math.sqrt(epsilon) + 40
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if failing(middle) < delta else (low, middle)
    return low


def _largest(rejected: Callable[[float], bool]) -> float:
    """The end of the epsilons that are rejected, from 0 up, by bisection."""
    if not rejected(0.0):
        return 0.0
    low, high = 0.0, LARGEST
    while high - low > TOLERANCE:
        middle = (low + high) / 2
        low, high = (middle, high) if rejected(middle) else (low, middle)
    return low


def _at_least(least: int | np.ndarray, trials: int, chance: float) -> np.ndarray:
    """P[Bin(trials, chance) >= least]."""
    return np.where(np.asarray(least) <= 0, 1.0, bdtrc(np.maximum(least, 1) - 1, trials, chance))


def check_counts(correct: int, guesses: int, canaries: int) -> None:
    """Refuse counts that cannot be.

    Raises:
        AuditError: unless 0 <= correct <= guesses <= canaries, whole numbers, one guess at least.
    """
    numbers = (correct, guesses, canaries)
    if any(type(number) is not int for number in numbers):
        raise AuditError(f"correct, guesses, canaries = {numbers!r}; need whole numbers")
    if not 0 <= correct <= guesses <= canaries or guesses < 1:
        raise AuditError(f"correct, guesses, canaries = {numbers!r}; need them in ascending order")


def check_claim(delta: float, confidence: float) -> None:
    """Refuse what is no probability.

    Raises:
        AuditError: unless delta lies in [0, 1) and confidence in (0, 1).
    """
    if not 0 <= delta < 1 or not 0 < confidence < 1:
        raise AuditError(f"delta={delta!r}, confidence={confidence!r}; need [0, 1) and (0, 1)")
