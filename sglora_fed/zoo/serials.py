"""The newest signature that this machine has seen of each kind of folder: older ones are refused.

An older manifest is signed as well as a newer one. Without this, whoever can write to a zoo's
folder could put back what it held before an expert was withdrawn.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sglora_fed.config import home
from sglora_fed.databases import connected, usable
from sglora_fed.errors import RolledBackError

FILE = "signed.sqlite"

TABLE = """
CREATE TABLE IF NOT EXISTS newest (
    signer TEXT, line TEXT, serial INTEGER NOT NULL, date TEXT NOT NULL, PRIMARY KEY (signer, line)
)
"""
NEWER = """
INSERT INTO newest VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE
SET serial = excluded.serial, date = excluded.date WHERE excluded.serial > serial
"""


@dataclass(frozen=True)
class Signable:
    """A folder's manifest.

    Attributes:
        folder: of the manifest.
        content: of the manifest, canonical.
        line: what it supersedes, and is superseded by (:func:`line_of`).
    """

    folder: Path
    content: bytes
    line: str


def line_of(kind: str, identity: Mapping[str, Any]) -> str:
    """What supersedes one another: all zoos, or all exports, that were made for the same.

    Args:
        kind: of folder.
        identity: values of the zoo's; versions of libraries do not count.
    """
    values = {name: value for name, value in identity.items() if name != "versions"}
    return hashlib.sha256(json.dumps([kind, values], sort_keys=True).encode()).hexdigest()


def check_newest(manifest: Signable, signer: str, serial: int) -> None:
    """Refuse a signature that is older than one that was seen here.

    Args:
        manifest: that it is of.
        signer: fingerprint of the key.
        serial: of the signature.

    Raises:
        RolledBackError: when it is older.
        ResultsError: when what was seen cannot be read.
    """
    newest = newest_of(signer, manifest.line)
    if newest is not None and serial < newest[0]:
        raise RolledBackError(
            f"{manifest.folder}: its signature has serial {serial}; {newest[0]} of {newest[1]} was"
            f" seen here. If it shall hold again, let it be signed anew, or delete {home() / FILE}"
        )


def newest_of(signer: str, line: str) -> tuple[int, str] | None:
    """Serial and date of the newest signature that was seen here, or None.

    Raises:
        ResultsError: when what was seen cannot be read.
    """
    if not (home() / FILE).exists():
        return None
    query = "SELECT serial, date FROM newest WHERE signer = ? AND line = ?"
    with _opened() as connection:
        found = connection.execute(query, (signer, line)).fetchone()
    return found and (int(found[0]), str(found[1]))


def note_seen(signer: str, line: str, serial: int, date: str) -> None:
    """Remember a signature, should it be the newest.

    Raises:
        ResultsError: when it cannot be written.
    """
    with _opened() as connection:
        connection.execute(NEWER, (signer, line, serial, date))


@contextmanager
def _opened() -> Iterator[sqlite3.Connection]:
    """The file, for its owner alone; each statement is on disk when it returns."""
    path = home() / FILE
    holds = "; it holds which signed zoos were seen"
    with usable(path, holds), closing(connected(path, TABLE)) as connection:
        yield connection
