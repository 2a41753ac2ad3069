"""A ledger whose files were changed, lost or put back is refused, never mended."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sglora_fed.errors import LedgerError
from sglora_fed.privacy import PrivUnitMechanism
from sglora_fed.privacy import ledger as module
from sglora_fed.privacy.ledger import Budget, Ledger, Request, create_ledger

DIM = 8
VECTOR = np.eye(DIM)[1]
NOISE = PrivUnitMechanism(DIM, 1.0)


def ask(number: int = 0) -> Request:
    return Request("ada", f"dogs, way {number}")


def _edit(folder: Path, statement: str) -> None:
    with sqlite3.connect(folder / "ledger.sqlite") as connection:
        connection.execute(statement)
    connection.close()


class TestTampering:
    @pytest.fixture
    def used(self, opened: Callable[..., Ledger], folder: Path) -> Path:
        for number in range(3):
            opened(9.0).release(ask(number), NOISE, VECTOR)
        return folder

    @pytest.mark.parametrize("name", ["key", "witness", "ledger.sqlite"])
    def test_a_missing_file(self, used: Path, name: str) -> None:
        (used / name).unlink()
        for _ in range(2):
            with pytest.raises(LedgerError):
                Ledger(used, Budget(9.0))
        assert not (used / name).exists()

    @pytest.mark.parametrize("name", ["key", "witness", "ledger.sqlite"])
    @pytest.mark.parametrize("data", [b"", b"x" * 40, b"y" * 32, bytes(4096)])
    def test_other_content(self, used: Path, name: str, data: bytes) -> None:
        (used / name).write_bytes(data)
        with pytest.raises(LedgerError):
            Ledger(used, Budget(9.0))

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE releases SET epsilon = '0.1' WHERE n = 2",
            "UPDATE releases SET unit = 'another' WHERE n = 2",
            "UPDATE releases SET client = x'00' WHERE n = 2",
            "UPDATE releases SET released = x'00' WHERE n = 3",
            "UPDATE releases SET code = 5 WHERE n = 3",
            "UPDATE releases SET n = 7 WHERE n = 3",
            "DELETE FROM releases WHERE n = 1",
            "DELETE FROM releases WHERE n = 3",
            "DELETE FROM releases",
            "DROP TABLE releases",
            "PRAGMA user_version = 2",
        ],
    )
    def test_changed_rows(self, used: Path, statement: str) -> None:
        Ledger(used, Budget(9.0))
        _edit(used, statement)
        with pytest.raises(LedgerError):
            Ledger(used, Budget(9.0))

    def test_an_open_ledger_notices_rows_that_are_gone(self, used: Path) -> None:
        ledger = Ledger(used, Budget(9.0))
        _edit(used, "DELETE FROM releases WHERE n = 3")
        with pytest.raises(LedgerError):
            ledger.release(ask(5), NOISE, VECTOR)

    def test_an_older_copy(self, opened: Callable[..., Ledger], used: Path, tmp_path: Path) -> None:
        shutil.copy(used / "ledger.sqlite", tmp_path / "old")
        ledger = opened(9.0)
        ledger.release(ask(3), NOISE, VECTOR)
        shutil.copy(tmp_path / "old", used / "ledger.sqlite")
        for path in used.glob("ledger.sqlite-*"):
            path.unlink()
        with pytest.raises(LedgerError, match="witness"):
            opened(9.0)
        with pytest.raises(LedgerError):
            ledger.spent("ada")

    def test_another_ledger_of_the_same_length(self, used: Path, tmp_path: Path) -> None:
        create_ledger(tmp_path / "other")
        other = Ledger(tmp_path / "other", Budget(9.0))
        for number in range(3):
            other.release(ask(number), NOISE, VECTOR)
        shutil.copy(tmp_path / "other" / "ledger.sqlite", used / "ledger.sqlite")
        with pytest.raises(LedgerError, match="row 1 was changed"):
            Ledger(used, Budget(9.0))

    def test_a_ledger_that_cannot_be_written(
        self, used: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The tests' user may be one whom permissions do not bind, so SQLite says it."""
        ledger, connected = Ledger(used, Budget(9.0)), module.connected
        monkeypatch.setattr(module, "connected", lambda path, mode: connected(path, "ro"))
        with pytest.raises(LedgerError, match="readonly"):
            ledger.release(ask(7), NOISE, VECTOR)

    def test_is_never_made_over_another(self, used: Path) -> None:
        with pytest.raises(LedgerError, match="exists"):
            create_ledger(used)
        assert Ledger(used, Budget(9.0)).spent("ada") == (3, 0)

    def test_the_key_is_the_owners_alone(self, used: Path) -> None:
        assert (used / "key").stat().st_mode & 0o777 == 0o600
        assert used.stat().st_mode & 0o777 == 0o700
