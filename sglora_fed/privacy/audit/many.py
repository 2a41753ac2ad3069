"""The audit by many releases: what a mechanism's own draws prove about its epsilon."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sglora_fed.errors import AuditError
from sglora_fed.privacy.audit.bounds import certified, check_claim
from sglora_fed.privacy.audit.events import choose
from sglora_fed.privacy.mechanisms import Mechanism
from sglora_fed.workers import cores, pool

FEWEST = 1000
"""Draws; with fewer hardly anything can be certified."""

BATCH = 20_000
"""Draws between two looks at the progress."""

CHOOSING = 5
"""The event is chosen on one draw more for so many that certify it."""

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Subject:
    """A mechanism and two inputs that it should not tell apart.

    Attributes:
        name: in the report.
        mechanism: as clients use it.
        first: [d] unit vector.
        second: [d] unit vector, as far from the first as the promise reaches.
        tells: the statistics of one release, [s].
    """

    name: str
    mechanism: Mechanism
    first: np.ndarray
    second: np.ndarray
    tells: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Verdict:
    """Claimed against certified.

    Attributes:
        mechanism: its name.
        claimed_epsilon: of one release, None without a promise.
        delta: of one release, None without a promise.
        certified_epsilon: what it is at least.
        confidence: with which that holds.
        draws: of each of two inputs, or canaries of one run.
    """

    mechanism: str
    claimed_epsilon: float | None
    delta: float | None
    certified_epsilon: float
    confidence: float
    draws: int

    @property
    def broken(self) -> bool:
        """The claim is refuted."""
        return self.claimed_epsilon is not None and self.certified_epsilon > self.claimed_epsilon


def audit(
    subject: Subject, draws: int, confidence: float, report: Report = lambda done, of: None
) -> Verdict:
    """Certify a lower bound of a mechanism's epsilon from releases of two inputs.

    The event is chosen on further draws, a fifth as many, so the bound needs no correction.

    Args:
        subject: what is audited.
        draws: n, of each input, at least 1,000.
        confidence: with which the bound holds, in (0, 1).
        report: called with draws done, and of how many.

    Raises:
        AuditError: for too few draws or an impossible confidence.
    """
    if type(draws) is not int or draws < FEWEST:
        raise AuditError(f"draws={draws!r}; need a whole number of at least {FEWEST}")
    mechanism = subject.mechanism
    delta = mechanism.delta or 0.0
    check_claim(delta, confidence)
    first, second = draw_both(subject, draws + draws // CHOOSING, report)
    event = choose(first[draws:], second[draws:], delta, confidence)
    hits, alarms = event.counts(first[:draws], second[:draws])
    bound = float(certified(np.array(hits), np.array(alarms), draws, delta, confidence))
    claim = (mechanism.epsilon, mechanism.delta)
    return Verdict(subject.name, *claim, bound, confidence, draws)


def draw_both(subject: Subject, draws: int, report: Report) -> tuple[np.ndarray, np.ndarray]:
    """Statistics of ``draws`` releases of each input, [n, s] twice; in all of the machine's cores.

    Every release is one call of the mechanism's own ``release``.
    """
    sizes = [min(BATCH, draws - start) for start in range(0, draws, BATCH)]
    tasks = [(subject, which, size) for which in (0, 1) for size in sizes]
    workers = min(len(tasks) // 4, cores())
    found, done = list[np.ndarray](), 0
    if workers < 2:
        for task in tasks:
            found.append(_statistics(task))
            done += task[2]
            report(done, 2 * draws)
    else:
        with pool(workers) as processes:
            for task, values in zip(tasks, processes.map(_statistics, tasks), strict=True):
                found.append(values)
                done += task[2]
                report(done, 2 * draws)
    return np.concatenate(found[: len(sizes)]), np.concatenate(found[len(sizes) :])


def _statistics(task: tuple[Subject, int, int]) -> np.ndarray:
    """[n, s] of one batch, in a process of its own."""
    subject, which, draws = task
    embedding, tells = (subject.first, subject.second)[which], subject.tells
    return np.stack([tells(subject.mechanism.release(embedding)) for _ in range(draws)])
