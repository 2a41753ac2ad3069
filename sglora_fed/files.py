"""Files that are either whole or not there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
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
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(data)
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


def sha256_of(path: Path) -> str:
    """sha256 of a file as hexadecimal digits.

    Raises:
        OSError: when the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
