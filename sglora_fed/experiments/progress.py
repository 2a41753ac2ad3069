"""Progress across processes: the server appends lines, whoever started it draws bars."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from sglora_fed.errors import ResultsError

POLL_SECONDS = 0.2


class ProgressLog:
    """Appends ``{"stage", "done", "total", "seconds"}`` lines to a file.

    Args:
        path: of the file; its folder is made and an older file is emptied.

    Raises:
        ResultsError: when the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._started = time.monotonic()
        self._write("w", "")

    def reporter(self, stage: str) -> Callable[[int, int], None]:
        """A function of (done, total) for one stage."""

        def report(done: int, total: int) -> None:
            seconds = round(time.monotonic() - self._started, 2)
            line = {"stage": stage, "done": done, "total": total, "seconds": seconds}
            self._write("a", json.dumps(line) + "\n")

        return report

    def _write(self, mode: str, text: str) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open(mode, encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise ResultsError(f"{self._path} cannot be written: {error.strerror}") from error


def follow(path: Path, stop: Event, console: Console) -> None:
    """Draw one bar per stage from a progress file until told to stop."""
    columns = (
        TextColumn("{task.description:12}", markup=False),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(elapsed_when_finished=False, compact=True),
    )
    with Progress(*columns, console=console) as progress:
        bars: dict[str, TaskID] = {"starting": progress.add_task("starting", total=None)}
        seen = 0
        while True:
            # Asked before reading: what was written until then is always drawn.
            last = stop.is_set()
            lines = _lines(path)
            for line in lines[seen:]:
                _draw(progress, bars, json.loads(line))
            seen = len(lines)
            if last:
                return
            stop.wait(POLL_SECONDS)


def _lines(path: Path) -> list[str]:
    """Complete lines only: the writer may be in the middle of one."""
    if not path.exists():
        return []
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def _draw(progress: Progress, bars: dict[str, TaskID], line: Mapping[str, Any]) -> None:
    stage, done, total = str(line["stage"]), int(line["done"]), int(line["total"])
    if "starting" in bars:
        progress.update(bars.pop("starting"), total=1, completed=1)
    for name, bar in bars.items():
        if name != stage:
            progress.stop_task(bar)
    if stage not in bars:
        bars[stage] = progress.add_task(stage, total=total)
    elif done < progress.tasks[progress.task_ids.index(bars[stage])].completed:
        # The next seed starts the stage again.
        progress.reset(bars[stage], total=total)
    progress.update(bars[stage], completed=done, total=total)
