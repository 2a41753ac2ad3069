"""SQLite files that outlive a process: for their owner alone, and what goes wrong is one error.

Not the ledger's, which trusts no file that it finds (:mod:`sglora_fed.privacy.ledger_files`).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sglora_fed.errors import ResultsError

PATIENCE = 30.0
"""Seconds to wait for whoever else looks into a file."""


def connected(path: Path, table: str) -> sqlite3.Connection:
    """A file with a table, both made when missing; each statement is on disk when it returns.

    It may be made in one thread and used in another, never in two at once.

    Args:
        path: of the file.
        table: the statement that makes it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(
        path, timeout=PATIENCE, isolation_level=None, check_same_thread=False
    )
    connection.execute(table)
    return connection


@contextmanager
def usable(path: Path, holds: str = "") -> Iterator[None]:
    """What is done with a file within.

    Args:
        path: of the file.
        holds: what the user is told of it, behind the error.

    Raises:
        ResultsError: when the file cannot be used.
    """
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise ResultsError(f"{path} cannot be used: {error}{holds}") from error
