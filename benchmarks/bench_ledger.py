"""Time of one release through the ledger, beside the time in which the disk keeps one write.

    python benchmarks/bench_ledger.py [FOLDER]

Writes ``benchmarks/results/ledger.json``. The ledgers lie in FOLDER, below the temporary folder
unless told. A release is what a node does for a request: the ledger is opened and checked, debited,
and has kept the bytes before they leave. All rows are one client's. ``first`` is the first release
in a process that has not met the ledger's rows before.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import machine
from sglora_fed.privacy import PrivUnitMechanism
from sglora_fed.privacy.ledger import Budget, Ledger, Request, create_ledger

ROWS = (10, 1000)
LEDGERS, RELEASES = 20, 10
"""Of each size; what each ledger releases beside the first."""

DIM, BLOCK, GOAL_MS = 384, 4096, 5.0
MECHANISM, BUDGET = PrivUnitMechanism(DIM, 1.0), Budget(1e6)
VECTOR = np.eye(DIM)[0]
FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Times:
    """Seconds on the clock and of the processor."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def add(self, work: Callable[[], object]) -> None:
        """Time it once."""
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        self.cpu.append(time.process_time() - cpu)
        self.wall.append(time.perf_counter() - wall)

    def medians(self) -> dict[str, float]:
        """In milliseconds."""
        return {
            "median_ms": round(median(self.wall) * 1e3, 3),
            "cpu_median_ms": round(median(self.cpu) * 1e3, 3),
        }


def filled(folder: Path, rows: int) -> None:
    """A ledger of so many releases of one client."""
    create_ledger(folder)
    requests = [Request("me", f"row {number}") for number in range(rows)]
    Ledger(folder, BUDGET).release_all(requests, MECHANISM, np.tile(VECTOR, (rows, 1)))


def release(folder: Path, name: str) -> None:
    Ledger(folder, BUDGET).release(Request("me", name), MECHANISM, VECTOR)


def flush(file: int) -> None:
    """One block on disk, overwritten: the least that a durable debit can take."""
    os.pwrite(file, os.urandom(BLOCK), 0)
    os.fsync(file)


def measure(parent: Path, rows: int, file: int) -> dict[str, Any]:
    first, later, flushes = Times(), Times(), Times()
    for number in range(LEDGERS):
        folder = parent / f"{rows}-{number}"
        with FORK.Pool(1) as pool:  # another process: this one has not met the rows
            pool.apply(filled, (folder, rows))
        first.add(partial(release, folder, "first"))
        for again in range(RELEASES):
            later.add(partial(release, folder, f"release {again}"))
            flushes.add(partial(flush, file))
    return {
        "rows": rows,
        "releases": len(later.wall),
        **later.medians(),
        "first": first.medians(),
        "fsync_median_ms": flushes.medians()["median_ms"],
        "reached": median(later.wall) * 1e3 < GOAL_MS,
    }


def main(parent: str | None = None) -> None:
    """Measure ledgers of both sizes, print and write."""
    MECHANISM.release(VECTOR)  # what it works out once is no part of a release
    with tempfile.TemporaryDirectory(dir=parent) as name:
        file = os.open(Path(name) / "block", os.O_RDWR | os.O_CREAT)
        found = [measure(Path(name), rows, file) for rows in ROWS]
        os.close(file)
    result = machine.facts("numpy") | {"goal_ms": GOAL_MS, "ledgers": found}
    print(json.dumps(result, indent=1))
    machine.write("ledger", result)


if __name__ == "__main__":
    main(*sys.argv[1:])
