"""Files are whole or absent, whatever fails on the way."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import pytest

from sglora_fed.errors import ResultsError
from sglora_fed.files import new_folder, sha256_of, write_atomically


def full_disk(*_: Any, **__: Any) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def everything_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


class TestWriting:
    def test_makes_the_folder_and_keeps_every_byte(self, tmp_path: Path) -> None:
        path = tmp_path / "a" / "b" / "file.bin"
        write_atomically(path, bytes(range(256)) * 300)
        assert path.read_bytes() == bytes(range(256)) * 300
        assert everything_in(path.parent) == ["file.bin"]

    def test_replaces_an_older_file(self, tmp_path: Path) -> None:
        write_atomically(tmp_path / "file", b"a long older content")
        write_atomically(tmp_path / "file", b"new")
        assert (tmp_path / "file").read_bytes() == b"new"

    def test_honours_the_users_mask(self, tmp_path: Path) -> None:
        before = os.umask(0o077)
        try:
            write_atomically(tmp_path / "private", b"x")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600

    @pytest.mark.parametrize("call", ["fsync", "replace"])
    def test_full_disk_leaves_the_older_file_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        write_atomically(tmp_path / "file", b"older")
        monkeypatch.setattr(f"sglora_fed.files.os.{call}", full_disk)
        with pytest.raises(ResultsError, match=r"SGL-900.*file cannot be written: No space left"):
            write_atomically(tmp_path / "file", b"newer")
        assert (tmp_path / "file").read_bytes() == b"older"
        assert everything_in(tmp_path) == ["file"]

    def test_a_really_full_device(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        if not Path("/dev/full").exists():
            pytest.skip("no /dev/full here")
        opened: Callable[..., Any] = Path.open

        def on_full_device(self: Path, mode: str = "r") -> Any:
            opened(self, mode).close()
            return opened(Path("/dev/full"), "wb")

        monkeypatch.setattr(Path, "open", on_full_device)
        with pytest.raises(ResultsError, match="No space left"):
            write_atomically(tmp_path / "file", b"x" * 100_000)
        assert everything_in(tmp_path) == []

    def test_a_file_where_the_folder_should_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(ResultsError, match="cannot be written"):
            write_atomically(tmp_path / "file" / "inside", b"x")

    def test_an_interrupt_leaves_no_temporary_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(_: int) -> NoReturn:
            raise KeyboardInterrupt

        monkeypatch.setattr("sglora_fed.files.os.fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_atomically(tmp_path / "file", b"x")
        assert everything_in(tmp_path) == []


def test_sha256(tmp_path: Path) -> None:
    data = os.urandom(300_000)
    (tmp_path / "file").write_bytes(data)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(data).hexdigest()


class TestNewFolder:
    def test_runs_started_in_one_second_have_a_folder_each(self, tmp_path: Path) -> None:
        with ThreadPoolExecutor(16) as pool:
            made = list(pool.map(lambda _: new_folder(tmp_path / "results", "run"), range(64)))
        assert len(set(made)) == 64
        assert everything_in(tmp_path / "results") == sorted(folder.name for folder in made)
        assert all(folder.is_absolute() and everything_in(folder) == [] for folder in made)

    def test_where_none_can_be_made_the_error_says_so(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(ResultsError, match=r"file/run-.* cannot be made: Not a directory"):
            new_folder(tmp_path / "file", "run")
