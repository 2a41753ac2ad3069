"""What clients have released, as whoever has received it counts: a second look at their budgets.

A node's own ledger is what protects it. A node that has lost its ledger, or never had one, is
stopped here all the same, and so is whoever asks for one thing after another to learn what the
generator knows. What was released is noted as a digest alone: the file tells which releases are the
same and not what they say. The same release again costs nothing, as in a ledger.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np

from sglora_fed.errors import ResultsError

TABLE = """
CREATE TABLE IF NOT EXISTS released (
    who TEXT NOT NULL, release BLOB NOT NULL, cost TEXT NOT NULL, PRIMARY KEY (who, release)
)
"""
PATIENCE = 30.0
"""Seconds to wait for whoever else looks into the file."""


class Shadow:
    """Counts in a file that outlives the process: what is admitted is on the disk.

    Args:
        path: of the file; made when missing, for its owner alone.
        limit: of all different releases of one client together.

    Raises:
        ResultsError: when the file cannot be used.
    """

    def __init__(self, path: Path, limit: float) -> None:
        self._path, self._limit = path, _exact(limit)
        with self._used():
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            # Made in one thread and used in another, never in two at once.
            self._connection = sqlite3.connect(
                path, timeout=PATIENCE, isolation_level=None, check_same_thread=False
            )
            self._connection.execute(TABLE)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def admits(self, who: str, released: np.ndarray, cost: float = 1.0) -> bool:
        """Whether a client's limit allows a release, which is counted then, or was before.

        Args:
            who: has released it.
            released: what came.
            cost: of one release.

        Raises:
            ResultsError: when the file cannot be used; nothing is counted.
        """
        kind = f"{released.dtype.str} {released.shape}".encode()
        digest = hashlib.sha256(kind + released.tobytes()).digest()
        with self._used():
            query = "SELECT 1 FROM released WHERE who = ? AND release = ?"
            if self._connection.execute(query, (who, digest)).fetchone():
                return True
            if self.spent(who) + _exact(cost) > self._limit:
                return False
            values = (who, digest, str(_exact(cost)))
            self._connection.execute("INSERT OR IGNORE INTO released VALUES (?, ?, ?)", values)
        return True

    def spent(self, who: str) -> Fraction:
        """Of all of a client's different releases.

        Raises:
            ResultsError: when the file cannot be used.
        """
        query = "SELECT cost, count(*) FROM released WHERE who = ? GROUP BY cost"
        with self._used():
            rows = self._connection.execute(query, (who,)).fetchall()
        return sum((Fraction(cost) * count for cost, count in rows), Fraction())

    @contextmanager
    def _used(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise ResultsError(f"{self._path} cannot be used: {error}") from error


def _exact(value: float) -> Fraction:
    """As it is written: 0.1 ten times is 1."""
    return Fraction(Decimal(repr(float(value))))
