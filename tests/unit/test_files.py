"""Files are either whole or not there, whatever the disk does."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sglora_fed.errors import ResultsError
from sglora_fed.files import sha256_of, write_atomically


def no_space(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class FullFile:
    """A file whose buffer takes everything and whose disk takes nothing."""

    def __init__(self, handle: int, *_: Any) -> None:
        self._handle = handle

    def __enter__(self) -> FullFile:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)

    def fileno(self) -> int:
        return self._handle

    def write(self, data: bytes) -> int:
        os.write(self._handle, data[: len(data) // 2])
        return int(no_space())

    def flush(self) -> None:
        no_space()


def break_disk(step: str, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(os, step, FullFile if step == "fdopen" else no_space)


STEPS = ("fdopen", "fsync", "replace")


@given(data=st.binary(max_size=5000))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("files") / "deep" / "er" / "file.bin"
    write_atomically(path, data)
    assert path.read_bytes() == data
    assert sha256_of(path) == hashlib.sha256(data).hexdigest()
    assert [entry.name for entry in path.parent.iterdir()] == ["file.bin"]


def test_an_older_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomically(path, b"old and longer")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_others_may_read_it(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"x")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("old", [None, b"old"])
def test_full_disk_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, old: bytes | None
) -> None:
    path = tmp_path / "file.bin"
    if old is not None:
        path.write_bytes(old)
    with monkeypatch.context() as patch:
        break_disk(step, patch)
        with pytest.raises(ResultsError, match=r"SGL-900.*file\.bin.*No space left"):
            write_atomically(path, b"new" * 100)
    left = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}
    assert left == ({} if old is None else {"file.bin": old})


def test_content_is_forced_to_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("fsync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    write_atomically(tmp_path / "a", b"x")
    assert calls == ["fsync", "replace"]


def test_the_temporary_name_is_in_the_same_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []
    monkeypatch.setattr(os, "replace", lambda a, b: seen.extend([Path(a), Path(b)]))
    write_atomically(tmp_path / "a", b"x")
    assert seen[0].parent == seen[1].parent == tmp_path
    assert seen[0].name != "a"


@pytest.mark.parametrize("place", ["file/below", "x" * 300])
def test_impossible_places_are_our_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_bytes(b"no folder")
    with pytest.raises(ResultsError, match="cannot be written"):
        write_atomically(tmp_path / place, b"x")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
