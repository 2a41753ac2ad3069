"""What a service says of itself: one JSON line for each event, and counters in a file."""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter, deque
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from statistics import quantiles

from sglora_fed.files import write_atomically

KINDS = ("asked", "served", "refused", "failed", "silent")
EVENTS, COUNTERS = "events.jsonl", "counters.json"

LOG_BYTES, LOG_FILES = 10_000_000, 3
"""Of a log, before the next one is begun; how many older ones stay."""

REMEMBERED = 1000
"""Visits whose duration is in the quantiles."""

EVERY = 1.0
"""Seconds between two writings of the counters, at least."""

logger = logging.getLogger(__name__)


class ServiceWitness:
    """Writes events and counters; no payload, no name of a client, no embedding.

    Args:
        folder: for both files.

    Raises:
        OSError: when the log cannot be opened.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / COUNTERS
        self._counts: Counter[str] = Counter()
        self._codes: Counter[str] = Counter()
        self._in_a_row = 0
        self._seconds: deque[float] = deque(maxlen=REMEMBERED)
        self._begun = _now()
        self._written = -EVERY
        self._log = RotatingFileHandler(
            folder / EVENTS, maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8"
        )
        os.chmod(folder / EVENTS, 0o600)

    def note(
        self, event: str, node: int, kind: str, seconds: float, reason: str = "", code: int = 0
    ) -> None:
        """Something happened with a node; see :class:`~sglora_fed.federation.visits.Witness`."""
        self._counts[event] += 1
        if event == "served":
            self._seconds.append(seconds)
            self._in_a_row = 0
        if code:
            self._codes[f"SGL-{code}"] += 1
            self._in_a_row += 1
        line = {
            **{"date": _now(), "event": event, "node": str(node), "kind": kind},
            **{"seconds": round(seconds, 3), "reason": reason},
        }
        self._log.emit(logging.makeLogRecord({"msg": json.dumps(line)}))
        if event != "asked":
            logger.info("%s: node %d %s", kind, node, f"{event} {reason}".rstrip())

    def write_counters(self, online: int, in_flight: int, *, at_once: bool = False) -> None:
        """Write the counters, if it is time.

        Args:
            online: nodes that are there.
            in_flight: messages that were not answered yet.
            at_once: also if it is not.

        Raises:
            ResultsError: when the disk is full.
        """
        now = time.monotonic()
        if not at_once and now < self._written + EVERY:
            return
        self._written = now
        values = {
            "date": _now(),
            "begun": self._begun,
            "process": os.getpid(),
            **{name: self._counts[name] for name in KINDS},
            "errors": dict(self._codes),
            "errors_since_served": self._in_a_row,
            "nodes_online": online,
            "in_flight": in_flight,
            "seconds": {"p50": self._quantile(50), "p99": self._quantile(99)},
        }
        write_atomically(self._path, json.dumps(values, indent=1).encode())

    def close(self) -> None:
        """Close the log."""
        self._log.close()

    def _quantile(self, percent: int) -> float | None:
        if len(self._seconds) < 2:
            return next(iter(self._seconds), None)
        return round(quantiles(self._seconds, n=100, method="inclusive")[percent - 1], 3)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
