"""What a server counts of others' releases."""

from __future__ import annotations

import multiprocessing
import os
import signal
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from sglora_fed.errors import ResultsError
from sglora_fed.privacy.shadow import Shadow

ROWS = np.arange(20, dtype=np.float16).reshape(5, 4)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "counts"


def test_the_same_release_costs_once_and_each_client_has_its_own(path: Path) -> None:
    with closing(Shadow(path, 0.3)) as shadow:
        # As decimals: in binary 0.1 + 0.2 is more than 0.3.
        costs = (0.1, 0.2, 0.1, 0.1, 1)
        admitted = [shadow.admits("a", *each) for each in zip(ROWS, costs, strict=True)]
        assert admitted == [True, True, False, False, False]
        assert [shadow.admits("a", row, 0.1) for row in ROWS] == [True, True, False, False, False]
        assert shadow.spent("a") == Fraction(3, 10)
        assert shadow.admits("b", ROWS[4], 0.3)


def test_another_form_of_the_same_bytes_is_another_release(path: Path) -> None:
    with closing(Shadow(path, 1)) as shadow:
        assert shadow.admits("a", ROWS[0])
        assert not shadow.admits("a", ROWS[0].view(np.uint16))


def _spend(path: Path) -> None:
    shadow = Shadow(path, 2)
    shadow.admits("a", ROWS[0])
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_forgets_nothing(path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_spend, args=(path,))
    process.start()
    process.join()
    with closing(Shadow(path, 2)) as shadow:
        assert shadow.spent("a") == 1
        assert [shadow.admits("a", row) for row in ROWS[:3]] == [True, True, False]


def test_its_file_is_the_owners_and_tells_nothing_of_releases(path: Path) -> None:
    old = os.umask(0)
    try:
        with closing(Shadow(path, 9)) as shadow:
            shadow.admits("a", ROWS[1])
            modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    finally:
        os.umask(old)
    assert set(modes.values()) == {0o600}
    assert ROWS[1].tobytes() not in path.read_bytes()


def test_what_cannot_be_counted_is_an_error(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database" * 100)
    with pytest.raises(ResultsError, match="counts"):
        Shadow(path, 1)
