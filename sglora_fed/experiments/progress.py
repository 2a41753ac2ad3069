"""Progress across processes: the server appends lines, whoever started it draws bars."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from sglora_fed.errors import ResultsError

POLL_SECONDS = 0.2

QUIET_SECONDS = 10.0
"""After which a log gets another line of a stage that goes on."""

Show = Callable[[Mapping[str, Any]], None]


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
    """Show a progress file until told to stop: bars on a terminal, else a line now and then."""
    with (_bars if console.is_terminal else _plain)(console) as show:
        seen = 0
        while True:
            # Asked before reading: what was written until then is always shown.
            last = stop.is_set()
            lines = _lines(path)
            for line in lines[seen:]:
                show(json.loads(line))
            seen = len(lines)
            if last:
                return
            stop.wait(POLL_SECONDS)


@contextmanager
def _bars(console: Console) -> Iterator[Show]:
    """One bar per stage."""
    columns = (
        TextColumn("{task.description:12}", markup=False),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        _Left(),
    )
    with Progress(*columns, console=console) as progress:
        bars: dict[str, TaskID] = {"starting": progress.add_task("starting", total=None)}
        yield lambda line: _draw(progress, bars, line)


class _Left(ProgressColumn):
    """The time that is left, by the mean speed since a stage was first told of.

    Clients are done many at a time, a whole message of them; Rich's own column takes such a leap
    for the speed of all. What was done before is no speed.
    """

    def render(self, task: Task) -> Text:
        if task.finished or not task.total or task.elapsed is None:
            return Text("")
        before = task.fields["before"]
        return Text(_left(task.completed - before, task.total - before, task.elapsed))


def _left(done: float, total: float, seconds: float) -> str:
    """The time that the rest of a stage takes, if what is done has taken so many seconds."""
    if not done:
        return ""
    return f"about {timedelta(seconds=round(seconds * (total - done) / done))} left"


@contextmanager
def _plain(console: Console) -> Iterator[Show]:
    """For a log: the begin and the end of each stage, and a line after ten seconds of silence."""
    told: dict[str, Any] = {"stage": "", "at": 0.0}
    console.print("starting")

    def show(line: Mapping[str, Any]) -> None:
        new, ended = line["stage"] != told["stage"], line["done"] >= line["total"]
        if new:
            told.update(stage=line["stage"], first=line)
        if new or ended or line["seconds"] - told["at"] >= QUIET_SECONDS:
            told.update(at=line["seconds"])
            text = f"{line['stage']} {line['done']}/{line['total']} at {line['seconds']:.0f} s"
            left = _left_since(told["first"], line)
            console.print(
                ", ".join(filter(None, (text, left))), markup=False, highlight=False, soft_wrap=True
            )

    yield show


def _left_since(first: Mapping[str, Any], line: Mapping[str, Any]) -> str:
    """The time that is left of a stage, by its speed since it was first told of."""
    done, total = line["done"] - first["done"], line["total"] - first["done"]
    return _left(done, total, line["seconds"] - first["seconds"]) if done < total else ""


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
        bars[stage] = progress.add_task(stage, total=total, before=done)
    elif done < progress.tasks[progress.task_ids.index(bars[stage])].completed:
        # The next seed starts the stage again.
        progress.reset(bars[stage], total=total, before=done)
    progress.update(bars[stage], completed=done, total=total)
