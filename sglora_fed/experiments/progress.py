"""Progress across processes: the server appends lines, whoever started it draws bars."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

POLL_SECONDS = 0.2


class ProgressLog:
    """Appends ``{"stage", "done", "total", "seconds"}`` lines to a file.

    Args:
        path: of the file; its folder is made and an older file is emptied.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("", encoding="utf-8")
        self._path = path
        self._started = time.monotonic()

    def reporter(self, stage: str) -> Callable[[int, int], None]:
        """A function of (done, total) for one stage."""

        def report(done: int, total: int) -> None:
            seconds = round(time.monotonic() - self._started, 2)
            line = {"stage": stage, "done": done, "total": total, "seconds": seconds}
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

        return report


def follow(path: Path, stop: Event, console: Console) -> None:
    """Draw one bar per stage from a progress file until told to stop."""
    columns = (
        TextColumn("{task.description:12}"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bars: dict[str, TaskID] = {"starting": progress.add_task("starting", total=None)}
        seen = 0
        while True:
            last = stop.is_set()
            lines = _lines(path)
            for line in lines[seen:]:
                _draw(progress, bars, json.loads(line))
            seen = len(lines)
            if last:
                return
            time.sleep(POLL_SECONDS)


def _lines(path: Path) -> list[str]:
    """Complete lines only: the writer may be in the middle of one."""
    if not path.exists():
        return []
    return [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True)
            if line.endswith("\n")]  # fmt: skip


def _draw(progress: Progress, bars: dict[str, TaskID], line: dict[str, int | str]) -> None:
    if "starting" in bars:
        progress.update(bars["starting"], total=1, completed=1)
        del bars["starting"]
    stage = str(line["stage"])
    for name, bar in bars.items():
        if name != stage:
            progress.stop_task(bar)
    if stage not in bars:
        bars[stage] = progress.add_task(stage, total=int(line["total"]))
    progress.update(bars[stage], completed=int(line["done"]), total=int(line["total"]))
