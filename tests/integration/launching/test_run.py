"""The launcher against a real Flower runtime that runs a toy app."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import psutil
import pytest
from rich.console import Console

from sglora_fed.config import compose
from sglora_fed.errors import LaunchError, ResultsError
from sglora_fed.launching import superlink
from sglora_fed.launching.run import LOG_FILE, run_flower

TOY = Path(__file__).parent / "toy_app"
QUIET = Console(quiet=True)


@contextmanager
def nothing_left(parent: psutil.Process | None = None) -> Iterator[set[psutil.Process]]:
    """Note all descendants while the block runs; none of them may live after it."""
    parent, seen, done = parent or psutil.Process(), set[psutil.Process](), Event()
    # Another test's process pool leaves Python's resource tracker to the whole session.
    before = set(parent.children(recursive=True))

    def watch() -> None:
        while not done.wait(0.1):
            if parent.is_running():
                seen.update(set(parent.children(recursive=True)) - before)

    thread = Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()
    alive = [p for p in seen if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert alive == []


def test_the_app_gets_its_settings_unchanged_and_nothing_is_left(tmp_path: Path) -> None:
    output = tmp_path / 'it\'s "here"'
    overrides = ["go", "a='x y'", 'b="é 😀"', "c=[1,2]", "d=\\"]
    output.mkdir()
    (output / "report.html").write_text("of an earlier run")
    with nothing_left() as seen:
        run_flower(compose(), overrides, output, QUIET, app=TOY)
    assert len(seen) > 5  # SuperLink, its executor, the run, and what Ray starts
    found = json.loads((output / "summary.json").read_text())
    assert found["overrides"] == overrides
    assert found["goal"] == "run"
    assert found["partitions"] == [0, 1]
    assert not Path(found["home"]).exists()
    assert not (output / "report.html").exists()
    log = (output / LOG_FILE).read_text()
    assert "FastAPI lifespan: startup" in log
    assert "Successfully started run" in log


def test_the_servers_reason_is_the_error(tmp_path: Path) -> None:
    with nothing_left(), pytest.raises(LaunchError, match=r"SGL-803.*SGL-801\] few"):
        run_flower(compose(), ["refuse"], tmp_path, QUIET, app=TOY)
    assert "refused" in (tmp_path / LOG_FILE).read_text()


def test_termination_ends_everything(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from rich.console import Console;"
        "from sglora_fed.launching.run import run_flower; from sglora_fed.config import compose;"
        "run_flower(compose(), ['hang'], Path(sys.argv[2]), Console(quiet=True),"
        " app=Path(sys.argv[1]))"
    )
    run = subprocess.Popen([sys.executable, "-c", code, str(TOY), str(tmp_path)])
    with nothing_left(psutil.Process(run.pid)) as seen:
        deadline = time.monotonic() + 60
        while not (tmp_path / "hanging").exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        assert (tmp_path / "hanging").exists()
        run.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        run.send_signal(signal.SIGINT)
        assert run.wait(30) != 0
    assert len(seen) > 5


def test_a_superlink_that_ends_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-c", "print('no such port'); raise SystemExit(3)"]
    monkeypatch.setattr(superlink, "superlink_command", lambda _port: command)
    with nothing_left(), pytest.raises(LaunchError, match="ended with code 3: no such port"):
        run_flower(compose(), ["go"], tmp_path, QUIET, app=TOY)
    assert "no such port" in (tmp_path / LOG_FILE).read_text()


def test_an_output_that_cannot_be_made_is_refused_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with nothing_left() as seen, pytest.raises(ResultsError, match="file"):
        run_flower(compose(), ["go"], tmp_path / "file", QUIET, app=TOY)
    assert not seen
