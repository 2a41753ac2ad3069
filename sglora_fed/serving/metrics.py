"""Counts of what the endpoint does, as Prometheus reads them (text format 0.0.4)."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

CONTENT = "text/plain; version=0.0.4; charset=utf-8"
BOUNDS = (0.005, 0.01, 0.015, 0.025, 0.06, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Seconds: upper ends of the histogram's parts."""


@dataclass
class Metrics:
    """What was answered, how, how fast, and in batches of which size. No client is in it."""

    answers: Counter[tuple[int, int]] = field(default_factory=Counter)
    """(status, code of the error or 0) -> answers."""

    adapters: int = 0
    batches: int = 0
    seconds: float = 0.0
    failures: int = 0
    """Faults of this side since the last answer with adapters."""
    within: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    """Answers with adapters for each part of the histogram."""

    def served(self, adapters: int, seconds: float) -> None:
        """Count an answer with adapters."""
        self.answers[200, 0] += 1
        self.failures = 0
        self.adapters += adapters
        self.seconds += seconds
        self.within[bisect_left(BOUNDS, seconds)] += 1

    def text(self, active: int) -> str:
        """All counts; ``active`` is the number of requests that are being answered."""
        lines = ["# TYPE sglora_answers_total counter"]
        for (status, code), count in sorted(self.answers.items()):
            lines.append(f'sglora_answers_total{{status="{status}",code="{code}"}} {count}')
        for name, value in (("adapters", self.adapters), ("batches", self.batches)):
            lines += [f"# TYPE sglora_{name}_total counter", f"sglora_{name}_total {value}"]
        for name, value in (("active", active), ("failures_in_a_row", self.failures)):
            lines += [f"# TYPE sglora_{name} gauge", f"sglora_{name} {value}"]
        return "\n".join([*lines, *self._histogram(), ""])

    def _histogram(self) -> list[str]:
        name, total = "sglora_answer_seconds", 0
        lines = [f"# TYPE {name} histogram"]
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), self.within, strict=True):
            total += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {total}')
        return [*lines, f"{name}_sum {self.seconds:.6f}", f"{name}_count {total}"]
