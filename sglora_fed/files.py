"""Files that are either whole or not there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path

from sglora_fed.errors import ResultsError


def write_atomically(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write to a temporary name in the same folder, force it to disk, then rename.

    Args:
        path: its folder is made when missing.
        data: the whole content, or its pieces one after the other.

    Raises:
        ResultsError: when the disk is full or the folder cannot be written; an older file at
            ``path`` is untouched then and no temporary file is left.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.writelines([data] if isinstance(data, bytes) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise ResultsError(
            f"{path} cannot be written: {error.strerror or error};"
            " free some space or choose another folder"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def private_files() -> Iterator[None]:
    """Within the context whatever is made is readable by its owner alone."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def new_folder(parent: Path, name: str) -> Path:
    """Make a folder that no other run has: ``NAME-DATE-TIME``, numbered where that is taken.

    Args:
        parent: made when missing.
        name: of the run.

    Returns:
        The absolute path of the folder, which is empty.

    Raises:
        ResultsError: when it cannot be made.
    """
    stem = parent.absolute() / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    numbered = (stem if n == 1 else stem.with_name(f"{stem.name}-{n}") for n in count(1))
    return next(folder for folder in numbered if _made(folder))


def _made(folder: Path) -> bool:
    """Whether it was this call that made a folder."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return False
    except OSError as error:
        raise ResultsError(f"{folder} cannot be made: {error.strerror or error}") from error
    return True


def sha256_of(path: Path) -> str:
    """sha256 of a file as hexadecimal digits.

    Raises:
        OSError: when the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_bounded(path: Path, most: int) -> str:
    """The text of a file that somebody else may have written.

    Args:
        path: of the file.
        most: bytes that it may have.

    Raises:
        OSError: when it cannot be read.
        ValueError: when it is larger, or not UTF-8.
    """
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"it is larger than {most} bytes")
    return data.decode("utf-8")
