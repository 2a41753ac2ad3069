"""What stands in a run's folder when it has ended."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from types import FrameType

import pytest

from sglora_fed.errors import FolderBusyError
from sglora_fed.results.running import running


def test_a_reason_stands_until_a_run_ends_well(tmp_path: Path) -> None:
    error = tmp_path / "error.json"
    with pytest.raises(KeyboardInterrupt), running(tmp_path, "first"):
        raise KeyboardInterrupt
    assert "first was stopped" in json.loads(error.read_text())["message"]
    with running(tmp_path, "second"):
        assert error.exists()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_reason_is_there_before_anybody_else_handles_the_end(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Who handles it may take so long that the process is ended from outside."""
    told: list[bool] = []

    def handles(_number: int, _frame: FrameType | None) -> None:
        told.append((tmp_path / "error.json").exists())
        raise SystemExit

    before = signal.signal(number, handles)
    try:
        with pytest.raises(SystemExit), running(tmp_path, "first"):
            signal.raise_signal(number)
        assert signal.getsignal(number) is handles
    finally:
        signal.signal(number, before)
    assert told == [True]


def test_a_note_that_nobody_holds_is_of_a_run_that_was_killed(tmp_path: Path) -> None:
    (tmp_path / "running.txt").write_text("first, begun long ago")
    with pytest.raises(ValueError, match="second"), running(tmp_path, "second"):
        raise ValueError("second")
    assert "first, begun long ago: it was killed" in (tmp_path / "error.json").read_text()


def test_two_runs_have_not_one_folder(tmp_path: Path) -> None:
    with running(tmp_path, "first"), pytest.raises(FolderBusyError), running(tmp_path, "second"):
        pass
