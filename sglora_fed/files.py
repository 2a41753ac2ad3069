"""Files that are either whole or not there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

from sglora_fed.errors import ResultsError


def write_atomically(path: Path, data: bytes) -> None:
    """Write to a temporary name in the same folder, force it to disk, then rename.

    Args:
        path: its folder is made when missing.
        data: the whole content.

    Raises:
        ResultsError: when the disk is full or the folder cannot be written; an older file at
            ``path`` is untouched then and no temporary file is left.
    """
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise ResultsError(
            f"{path} cannot be written: {error.strerror}; free some space or choose another folder"
        ) from error


def sha256_of(path: Path) -> str:
    """sha256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
