"""The three files of a ledger: made whole or not at all, each of its exact size."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

from sglora_fed.errors import LedgerError

SCHEMA = 1
KEY_BYTES = 32
WITNESS = struct.Struct(">Q32s")
"""Number and code of the last row."""

PATIENCE = 60.0
"""Seconds that a release waits for those of other processes."""

TABLE = """
CREATE TABLE releases (
    n INTEGER PRIMARY KEY, client BLOB NOT NULL, request BLOB NOT NULL UNIQUE,
    epsilon TEXT NOT NULL, delta TEXT NOT NULL, unit TEXT NOT NULL, released BLOB NOT NULL,
    code BLOB NOT NULL
)
"""
INDEX = "CREATE INDEX of_client ON releases (client)"


def create_ledger(folder: Path) -> None:
    """Make an empty ledger: whole, or not at all.

    Args:
        folder: must not exist; its parent is made when missing.

    Raises:
        LedgerError: when it exists, or cannot be written.
    """
    temporary = folder.with_name(f".{folder.name}-{secrets.token_hex(8)}")
    try:
        if folder.exists():
            raise LedgerError(f"{folder} exists; a ledger is never made anew over another")
        temporary.mkdir(parents=True, mode=0o700)
        key = secrets.token_bytes(KEY_BYTES)
        _write_new(temporary / "key", key)
        _write_new(temporary / "witness", WITNESS.pack(0, first_code(key)))
        with closing(connected(temporary / "ledger.sqlite", "rwc")) as connection:
            connection.execute(TABLE)
            connection.execute(INDEX)
            connection.execute(f"PRAGMA user_version={SCHEMA}")
        temporary.rename(folder)
    except (OSError, sqlite3.Error) as error:
        raise LedgerError(f"{folder} cannot be made: {error}") from error


def connected(path: Path, mode: str) -> sqlite3.Connection:
    """A connection whose commits wait for the disk; ``rw`` never makes a file."""
    address = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(address, timeout=PATIENCE, isolation_level=None, uri=True)
    # A journal that is overwritten, neither unlinked nor cut short: the commit is on disk without
    # the folder's entry, and no file changes its size for it.
    connection.execute("PRAGMA journal_mode=PERSIST")
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def first_code(key: bytes) -> bytes:
    """What the first row follows."""
    return hmac.digest(key, b"sglora-fed ledger", hashlib.sha256)


def read_exactly(path: Path, size: int) -> bytes:
    """A file of exactly this size."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LedgerError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) != size:
        raise LedgerError(f"{path} holds {len(data)} bytes; need {size}")
    return data


def _write_new(path: Path, data: bytes) -> None:
    """A file that only its owner reads, forced to disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
