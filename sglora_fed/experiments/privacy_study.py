"""The study of privacy and utility: mechanisms by epsilon, each through the whole loop.

A setting on one seed is measured by itself (``privacy_point.py``), in as many processes as the
machine has cores and memory for, and kept: one that is there is never measured again, whichever
seeds are asked for next, and folders of several machines may be put together.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from sglora_fed.config import compose
from sglora_fed.config.schema import PRIVATE_METHODS, SHARED_METHOD
from sglora_fed.errors import SgloraError, SweepError
from sglora_fed.experiments.privacy_point import Measured, finished, measure
from sglora_fed.experiments.privacy_table import runs_of, settings_of
from sglora_fed.files import write_atomically
from sglora_fed.workers import cores, pool

EPSILONS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
DECOYS = {0.5: 50, 1.0: 50, 2.0: 50, 4.0: 26, 8.0: 4, 16.0: 4}
"""Epsilon -> places that a client of ``subset`` sends."""

OWN_RATES = {0.5: 0.01, 1.0: 0.02, 2.0: 0.03, 4.0: 0.05, 8.0: 0.1, 16.0: 0.1}
"""Epsilon -> rate of clients that fine-tune alone: the more noise, the shorter the steps.

Chosen on cameras that no study reports (`docs/how-to/privacy.md`)."""

RANK = 8
"""Directions of the generator that vectors are sent in."""

WORKER_BYTES = 2 * 10**9
"""Memory that a process needs; with less left for each, fewer are started."""

SWEEP, SCHEMA = "sweep.json", 2

FIRST = "none"
"""The point that all others come after, and are compared with."""


@dataclass(frozen=True)
class Point:
    """One setting of the study.

    Attributes:
        name: of its folder.
        overrides: of the ``privacy`` group, and of what is measured beside.
        after: name of the point that makes what this one uses too: zoo and generator, shared LoRA.
    """

    name: str
    overrides: tuple[str, ...]
    after: str = FIRST


def points() -> list[Point]:
    """All of them; what is not private first, then what takes longest."""
    clear = Point(FIRST, ("privacy=none",), after="")
    plain = [Point(name, (f"privacy={name}",)) for name in ("local", "shares")]
    fewer = Point("subset-4-by-8", (*_subset(4.0), "privacy.choose_by=8"))
    own = [Point(f"own-{EPSILONS[0]:g}", own_tuning(EPSILONS[0]))]
    own += [Point(f"own-{e:g}", own_tuning(e), after=own[0].name) for e in EPSILONS[1:]]
    return [clear, *own, *plain, *(point for e in EPSILONS for point in _at(e)), fewer]


def own_tuning(epsilon: float) -> tuple[str, ...]:
    """What makes a point of clients that fine-tune alone, with an epsilon of one example."""
    methods, rate = ",".join(("zero_shot", SHARED_METHOD, *PRIVATE_METHODS)), OWN_RATES[epsilon]
    return (
        "privacy=none",
        f"privacy.training.own_epsilon={epsilon}",
        f"experiment.methods=[{methods}]",
        *(f"experiment.tuning.{name}.lr={rate}" for name in PRIVATE_METHODS),
    )


def _at(epsilon: float) -> Iterator[Point]:
    given, rank = f"privacy.epsilon={epsilon}", f"privacy.rank={RANK}"
    yield Point(f"krr-{epsilon:g}", ("privacy=krr", given))
    yield Point(f"subset-{epsilon:g}", _subset(epsilon))
    for name in ("privunit", "gaussian"):
        yield Point(f"{name}-{epsilon:g}", (f"privacy={name}", given))
        yield Point(f"{name}-{RANK}-{epsilon:g}", (f"privacy={name}", given, rank))


def _subset(epsilon: float) -> tuple[str, ...]:
    return ("privacy=subset", f"privacy.epsilon={epsilon}", f"privacy.replies={DECOYS[epsilon]}")


@dataclass(frozen=True)
class _Cell:
    """A point on one seed.

    Attributes:
        point: of the study.
        seed: one of the study's.
        overrides: of the run.
        folder: of this cell alone.
    """

    point: Point
    seed: int
    overrides: tuple[str, ...]
    folder: Path

    def measure(self) -> list[Measured]:
        """In a process of its own, or in this one."""
        try:
            return measure(self.overrides, self.folder)
        except SgloraError as error:
            output = shlex.quote(str(self.folder.parents[1]))
            raise SweepError(
                f"point {self.point.name}, seed {self.seed}: {error}; the same command with"
                f" --output {output} continues where it stopped"
            ) from error


def run_study(
    overrides: Sequence[str], output: Path, say: Callable[[str], None], chosen: Sequence[Point]
) -> list[dict[str, Any]]:
    """Measure every point on every seed that has no results yet, and write ``sweep.json``.

    Args:
        overrides: of the study: ``experiment=privacy`` or ``experiment=privacy_assistant``.
        output: folder; what is finished there stays.
        say: told of each point and seed that was measured.
        chosen: to measure.

    Returns:
        The settings of ``sweep.json``, each over all seeds.

    Raises:
        SweepError: when a point fails; what was finished before is kept and not run again.
        ResultsError: when the folder cannot be written.
    """
    cells = _cells(overrides, output, chosen)
    found = {cell: finished(cell.overrides, cell.folder) for cell in cells}
    table = _written(list(found.values()), output)
    missing = [cell for cell, rows in found.items() if rows is None]
    for number, (cell, rows) in enumerate(_measured(missing), start=1):
        say(f"{number} of {len(missing)}: {' '.join(cell.point.overrides)} seeds=[{cell.seed}]")
        found[cell] = rows
        table = _written(list(found.values()), output)
    return table


def _cells(overrides: Sequence[str], output: Path, chosen: Sequence[Point]) -> list[_Cell]:
    seeds = compose(overrides).seeds
    return [
        _Cell(
            point,
            seed,
            (*overrides, *point.overrides, f"seeds=[{seed}]"),
            output / point.name / f"seed-{seed}",
        )
        for point in chosen
        for seed in seeds
    ]


def _written(found: Sequence[list[Measured] | None], output: Path) -> list[dict[str, Any]]:
    """The settings of all that there is so far, which ``sweep.json`` has too."""
    rows = [row for some in found for row in some or ()]
    settings = settings_of(rows)
    told = json.dumps({"schema": SCHEMA, "settings": settings, "runs": runs_of(rows)}, indent=1)
    write_atomically(output / SWEEP, told.encode())
    return settings


def _measured(cells: Sequence[_Cell]) -> Iterator[tuple[_Cell, list[Measured]]]:
    """Each with its rows, as they get ready."""
    memory = psutil.virtual_memory().available // WORKER_BYTES
    workers = min(len(cells), cores(), memory)
    if workers < 2:
        yield from ((cell, cell.measure()) for cell in cells)
        return
    processes = pool(workers)
    try:
        yield from _in(processes, list(cells))
    except BrokenProcessPool as error:
        raise SweepError(
            "a process of the study was killed, perhaps for want of memory;"
            " the same command with the same --output continues where it stopped"
        ) from error
    finally:
        # What runs is finished and kept; nothing else begins.
        processes.shutdown(cancel_futures=True)


def _in(
    processes: ProcessPoolExecutor, waiting: list[_Cell]
) -> Iterator[tuple[_Cell, list[Measured]]]:
    """Each begins as soon as what it comes after is there."""
    running: dict[Future[list[Measured]], _Cell] = {}
    while waiting or running:
        unfinished = {(cell.point.name, cell.seed) for cell in (*waiting, *running.values())}
        ready = [cell for cell in waiting if (cell.point.after, cell.seed) not in unfinished]
        running |= {processes.submit(cell.measure): cell for cell in ready}
        waiting = [cell for cell in waiting if cell not in ready]
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            yield running.pop(future), future.result()
