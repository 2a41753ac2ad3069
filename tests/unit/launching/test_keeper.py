"""The keeper ends and removes all of a run, however the run's owner ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from sglora_fed.launching.processes import MARK
from sglora_fed.launching.superlink import keeper_command

TREE = """
import os, subprocess, sys, time
sleep = [sys.executable, "-c", "import time; time.sleep(300)"]
orphan = "import os, subprocess, sys;" \\
    "p = subprocess.Popen(sys.argv[1:], env={}, stdout=subprocess.DEVNULL);" \
    "print(p.pid)"
marked = subprocess.Popen(sleep, start_new_session=True)
unmarked = subprocess.Popen(sleep, env={}, start_new_session=True)
lost = subprocess.run([sys.executable, "-c", orphan, *sleep], stdout=subprocess.PIPE)
with open(sys.argv[1] + ".part", "w") as file:
    print(os.getpid(), marked.pid, unmarked.pid, int(lost.stdout), file=file)
os.rename(sys.argv[1] + ".part", sys.argv[1])
time.sleep(300)
"""
"""A process with three that outlive it: one with the run's mark, one without, and one without
that has lost its parent already."""

OWNER = """
import sys, time
from pathlib import Path
from sglora_fed.launching.environment import child_environment
from sglora_fed.launching.superlink import keeper_command, start
home = Path(sys.argv[1])
keeper = start(keeper_command(home, sys.argv[2:]), home, child_environment(home), home / "log")
time.sleep(300)
"""


def wait_for(true: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert true()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "state").write_text("")
    return tmp_path / "run"


def tree(pids: Path) -> list[str]:
    return [sys.executable, "-c", TREE, str(pids)]


def started(pids: Path) -> list[psutil.Process]:
    wait_for(pids.exists)
    return [psutil.Process(int(pid)) for pid in pids.read_text().split()]


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.skipif(sys.platform != "linux", reason="orphans without a mark are found on Linux")
def test_nothing_outlives_an_owner_that_is_killed(home: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", OWNER, str(home), *tree(tmp_path / "pids")]
    owner = subprocess.Popen(command)
    processes = started(tmp_path / "pids")
    assert len(processes) == 4
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    wait_for(lambda: all(map(gone, processes)) and not home.exists())


def test_the_code_of_the_command_is_the_keepers(home: Path, tmp_path: Path) -> None:
    command = keeper_command(home, [sys.executable, "-c", "raise SystemExit(3)"])
    keeper = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert keeper.wait(30) == 3
    assert not home.exists()


def test_a_request_to_terminate_ends_all_too(home: Path, tmp_path: Path) -> None:
    env = os.environ | {MARK: str(home)}
    keeper = subprocess.Popen(
        keeper_command(home, tree(tmp_path / "pids")), stdin=subprocess.PIPE, env=env
    )
    processes = started(tmp_path / "pids")
    keeper.terminate()
    keeper.wait(30)
    assert all(map(gone, processes))
    assert not home.exists()
