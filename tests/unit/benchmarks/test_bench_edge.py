"""What a node's memory is does not depend on what else runs on the machine."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import psutil
import pytest

SHARED, OWN = 64, 8
"""2^20 bytes of a file that all processes have mapped, and of each one's own."""

PROGRAM = """
import mmap, sys
with open(sys.argv[1], "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
mapped[:: mmap.PAGESIZE]
own = bytearray(b"x") * (int(sys.argv[2]) * 2**20)
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def process(path: Path) -> Iterator[psutil.Process]:
    command = [sys.executable, "-c", PROGRAM, str(path), str(OWN)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        yield psutil.Process(child.pid)
        child.communicate()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(bytes(SHARED * 2**20))
    return path


def test_what_processes_share_counts_once(script: Callable[[str], ModuleType], path: Path) -> None:
    bench = script("bench_edge")
    with process(path) as one:
        alone = bench.memory([one])
        assert alone > SHARED + OWN
        with process(path) as other:
            assert OWN < bench.memory([one, other]) - alone < SHARED
            assert bench.memory([one]) == pytest.approx(alone, abs=1)


def test_a_process_that_has_ended_has_none(script: Callable[[str], ModuleType], path: Path) -> None:
    bench = script("bench_edge")
    with process(path) as one, process(path) as other:
        alone = bench.memory([one])
        other.kill()
        while other.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert bench.memory([one, other]) == pytest.approx(alone, abs=1)
