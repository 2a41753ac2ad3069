"""What clients have released, as whoever has received it counts: a second look at their budgets.

A node's own ledger is what protects it. A node that has lost its ledger, or never had one, is
stopped here all the same, and so is whoever asks for one thing after another to learn what the
generator knows. What was released is noted as a digest alone: the file tells which releases are the
same and not what they say. The same release again costs nothing, as in a ledger.
"""

from __future__ import annotations

import hashlib
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np

from sglora_fed.databases import connected, usable

TABLE = """
CREATE TABLE IF NOT EXISTS released (
    who TEXT NOT NULL, release BLOB NOT NULL, cost TEXT NOT NULL, PRIMARY KEY (who, release)
)
"""


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
        with usable(path):
            self._connection = connected(path, TABLE)

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
        with usable(self._path):
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
        with usable(self._path):
            rows = self._connection.execute(query, (who,)).fetchall()
        return sum((Fraction(cost) * count for cost, count in rows), Fraction())


def _exact(value: float) -> Fraction:
    """As it is written: 0.1 ten times is 1."""
    return Fraction(Decimal(repr(float(value))))
