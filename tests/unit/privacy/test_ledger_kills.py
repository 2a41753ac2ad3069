"""Ledger: killed at a thousand random points, nothing has left that was not paid for."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sglora_fed.privacy import PrivUnitMechanism
from sglora_fed.privacy.ledger import Budget, Ledger, Request

ROOT = Path(__file__).parents[3]
MEMORY = Path("/dev/shm")
LEDGERS, KILLS = 20, 50
NOISE = PrivUnitMechanism(8, 1.0)
VECTOR = np.eye(8)[1]

# A process of its own, because one without torch forks in a moment.
KILLER = f"""
import os, random, signal, sys, time
from pathlib import Path
import numpy as np
from sglora_fed.privacy import PrivUnitMechanism
from sglora_fed.privacy.ledger import Budget, Ledger, Request, create_ledger

NOISE, VECTOR = PrivUnitMechanism(8, 1.0), np.eye(8)[1]
NOISE.cap

def spend(ledger, told, start):
    for number in range(start, start + 1000):
        released = ledger.release(Request("ada", str(number)), NOISE, VECTOR)
        os.write(told, number.to_bytes(4, "big") + released.tobytes())

for place in range({LEDGERS}):
    folder = Path(sys.argv[1]) / str(place)
    create_ledger(folder / "ledger")
    ledger = Ledger(folder / "ledger", Budget(1e6))
    told = os.open(folder / "released", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for kill in range({KILLS}):
        child = os.fork()
        if not child:
            spend(ledger, told, 1000 * kill)
            os._exit(0)
        time.sleep(random.uniform(0.0, 0.008))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
"""


def released(path: Path) -> dict[int, bytes]:
    data, size = path.read_bytes(), 4 + NOISE.form.nbytes
    parts = [data[i : i + size] for i in range(0, len(data), size)]
    return {int.from_bytes(part[:4], "big"): part[4:] for part in parts}


@pytest.fixture
def fast(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: a killed process loses nothing that it has written."""
    if not MEMORY.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        yield Path(name)


def test_killed_at_any_of_a_thousand_points_nothing_left_unpaid(fast: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", KILLER, str(fast)], env=env, check=True)
    total = 0
    for place in range(LEDGERS):
        left = released(fast / str(place) / "released")
        ledger = Ledger(fast / str(place) / "ledger", Budget(1e6))
        spent = ledger.spent("ada")[0]
        # Each child can die once between the debit and the release.
        assert len(left) <= spent <= len(left) + KILLS
        for number, data in left.items():
            again = ledger.release(Request("ada", str(number)), NOISE, VECTOR)
            assert again.tobytes() == data
        assert ledger.spent("ada")[0] == spent
        total += len(left)
    assert total > LEDGERS
