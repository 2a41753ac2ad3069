"""What a client has spent: debited and kept before anything is released, on the client's own disk.

The server is whom the budget protects against, so the ledger lies on the node. Every release is a
row that is forced to disk, with its cost and its bytes, before the caller gets the bytes: a crash
can lose budget, never privacy. The same request again is answered with the same bytes and costs
nothing, because fresh randomness on it could be averaged away (RAPPOR's permanent response:
Erlingsson, Pihur & Korolova 2014). Costs are added (basic composition: Dwork & Roth 2014, theorem
3.16), in exact decimals.

A folder holds three files. ``key``: 32 secret bytes; descriptions and clients are in the ledger as
keyed digests alone. ``ledger.sqlite``: the rows, each with a code over itself and the row before.
``witness``: number and code of the last row. A ledger that is older than its witness, or has other
rows, is refused; whoever puts back all three files, or a copy of the whole disk, is not noticed.
No clock is read.
"""

from __future__ import annotations

import hmac
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from sglora_fed.errors import BudgetError, LedgerError
from sglora_fed.privacy.ledger_files import (
    KEY_BYTES,
    SCHEMA,
    WITNESS,
    connected,
    create_ledger,
    first_code,
    read_exactly,
)
from sglora_fed.privacy.mechanisms.base import UNIT, Mechanism, is_number

__all__ = ["Budget", "Ledger", "Note", "Request", "create_ledger"]

REMEMBERED = 4096
"""Rows whose codes a process keeps; of 384 numbers in half precision about 4 MB."""

KNOWN = "SELECT released FROM releases WHERE request = ?"

UNADDED = ("0", "0")
"""Epsilon and delta of a row that is counted by what it keeps."""

Append = Callable[[tuple[object, ...]], None]
"""Puts the values of a row, but for its number and code, behind the last one."""


@dataclass(frozen=True)
class Budget:
    """The most that a client's releases may cost together.

    Attributes:
        epsilon: finite, above 0.
        delta: in [0, 1).
        unit: what they protect; costs of another unit cannot be added to them.

    Raises:
        LedgerError: for impossible limits.
    """

    epsilon: float
    delta: float = 0.0
    unit: str = UNIT

    def __post_init__(self) -> None:
        _check_cost(self.epsilon, self.delta)


@dataclass(frozen=True)
class Request:
    """Who releases what.

    Attributes:
        client: name of the (virtual) client; each has a budget of its own.
        description: in the client's words.
        public: hash of what the release refers to, such as a catalogue: a place in another list is
            another release, and paid again.
    """

    client: str
    description: str
    public: str = ""


@dataclass(frozen=True)
class Note:
    """Something that is counted in another way than by adding epsilons.

    Attributes:
        client: under whose name.
        place: what it is of; one is kept for each.
        kept: what the account is made of.
    """

    client: str
    place: str
    kept: bytes


class Ledger:
    """A ledger on disk, opened anew for each release: processes, threads and forks may share it.

    Args:
        folder: of :func:`create_ledger`.
        budget: of each client; the node's own choice.

    Raises:
        LedgerError: when it is missing, damaged, changed by somebody else, or older than its
            witness.
    """

    def __init__(self, folder: Path, budget: Budget) -> None:
        self._folder = folder
        self._budget = budget
        self._key = read_exactly(folder / "key", KEY_BYTES)
        self._verified = (0, first_code(self._key))
        with self._connection() as connection, self._transaction(connection):
            (found,) = connection.execute("PRAGMA integrity_check").fetchone()
            (schema,) = connection.execute("PRAGMA user_version").fetchone()
            if found != "ok" or schema != SCHEMA:
                raise LedgerError(f"{folder}: schema {schema}, check {found!r}; need {SCHEMA}, ok")

    def release(self, request: Request, mechanism: Mechanism, embedding: np.ndarray) -> np.ndarray:
        """What the server may see: debited first, or what it has seen before.

        Args:
            request: who asks, and for what.
            mechanism: with a promise in the budget's unit.
            embedding: [d], of the description.

        Returns:
            An array of the mechanism's form.

        Raises:
            BudgetError: when the client's limit would be passed; nothing was drawn.
            LedgerError: when the mechanism promises nothing or about another unit, or the ledger
                cannot be trusted or written; nothing was released.
            PrivacyError: when the embedding is unfit; nothing was spent.
        """
        made: np.ndarray = self.release_all([request], mechanism, [embedding])[0]
        return made

    def release_all(
        self,
        requests: Sequence[Request],
        mechanism: Mechanism,
        embeddings: np.ndarray | Sequence[np.ndarray],
    ) -> np.ndarray:
        """As :meth:`release` for several requests: all in one transaction, or none of them.

        Args:
            requests: n of them.
            mechanism: with a promise in the budget's unit.
            embeddings: [n, d].

        Returns:
            [n, ...] of the mechanism's form.

        Raises:
            BudgetError, LedgerError, PrivacyError: as there.
        """
        form = mechanism.form
        draws = [partial(_bytes, mechanism, embedding) for embedding in embeddings]
        data = self._release(requests, mechanism, draws)
        if wrong := [len(one) for one in data if len(one) != form.nbytes]:
            raise LedgerError(f"{self._folder}: {wrong[0]} bytes kept; need {form.nbytes}")
        return np.frombuffer(b"".join(data), form.dtype).reshape(len(data), *form.shape)

    def spent(self, client: str) -> tuple[Fraction, Fraction]:
        """Epsilon and delta of all of a client's releases, of the budget's unit.

        Raises:
            LedgerError: when the ledger cannot be trusted.
        """
        with self._connection() as connection, self._transaction(connection):
            return self._spent(connection, self._digest("client", client))

    def notes(self, client: str) -> list[bytes]:
        """What was noted under a name, of the budget's unit, in order.

        Raises:
            LedgerError: when the ledger cannot be trusted.
        """
        with self._connection() as connection, self._transaction(connection):
            return self._notes(connection, self._digest("client", client))

    def note_all(
        self, notes: Sequence[Note], allow: Callable[[Note, Sequence[bytes]], None]
    ) -> None:
        """Keep what is new, each in a row of its own: all in one transaction, or none of them.

        Args:
            notes: that were kept before, or are to be.
            allow: told a new one and those under its name so far; raises to keep none.

        Raises:
            LedgerError: when the ledger cannot be trusted or written; nothing is kept then.
        """
        with self._appending() as (connection, append):
            for note in notes:
                place = self._digest("note", repr((self._budget.unit, note.client, note.place)))
                if not connection.execute(KNOWN, (place,)).fetchone():
                    client = self._digest("client", note.client)
                    allow(note, self._notes(connection, client))
                    append((client, place, *UNADDED, self._budget.unit, note.kept))

    def _notes(self, connection: sqlite3.Connection, client: bytes) -> list[bytes]:
        query = "SELECT released FROM releases WHERE client = ? AND unit = ? ORDER BY n"
        rows = connection.execute(query, (client, self._budget.unit)).fetchall()
        return [bytes(row[0]) for row in rows]

    def _release(
        self,
        requests: Sequence[Request],
        mechanism: Mechanism,
        draws: Sequence[Callable[[], bytes]],
    ) -> list[bytes]:
        cost = self._cost(mechanism)
        kind, released = (mechanism.name, mechanism.form, cost), list[bytes]()
        with self._appending() as (connection, append):
            for request, draw in zip(requests, draws, strict=True):
                place = self._digest("request", repr((vars(request), *kind)))
                if found := connection.execute(KNOWN, (place,)).fetchone():
                    released.append(bytes(found[0]))
                    continue
                client = self._digest("client", request.client)
                self._check_limit(self._spent(connection, client), cost)
                released.append(draw())
                append((client, place, *cost, self._budget.unit, released[-1]))
        return released

    @contextmanager
    def _appending(self) -> Iterator[tuple[sqlite3.Connection, Append]]:
        """A transaction, and what puts a row behind the last one."""
        with self._connection() as connection:
            with self._transaction(connection):
                rows = [self._verified]

                def append(values: tuple[object, ...]) -> None:
                    rows.append(self._insert(connection, rows[-1], values))

                yield connection, append
            if len(rows) > 1:
                # On disk. Should the process end before the witness is told, that lags behind.
                with self._transaction(connection):
                    self._advance()

    def _insert(
        self, connection: sqlite3.Connection, last: tuple[int, bytes], values: tuple[object, ...]
    ) -> tuple[int, bytes]:
        """A row behind the last one; its own number and code."""
        number = last[0] + 1
        row = (number, *values)
        code = _code(self._key, row, last[1])
        connection.execute("INSERT INTO releases VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, code))
        return number, code

    def _cost(self, mechanism: Mechanism) -> tuple[str, str]:
        """Epsilon and delta as exact decimals."""
        epsilon, delta, unit = mechanism.epsilon, mechanism.delta, mechanism.unit
        if epsilon is None or delta is None:
            raise LedgerError(f"{mechanism.name} promises nothing; a ledger cannot count that")
        if unit != self._budget.unit:
            raise LedgerError(f"{mechanism.name} is about {unit!r}; need {self._budget.unit!r}")
        _check_cost(epsilon, delta)
        return str(Decimal(repr(float(epsilon)))), str(Decimal(repr(float(delta))))

    def _check_limit(self, spent: tuple[Fraction, Fraction], cost: tuple[str, str]) -> None:
        limits = (self._budget.epsilon, self._budget.delta)
        for before, more, limit in zip(spent, cost, limits, strict=True):
            if before + Fraction(more) > Fraction(repr(float(limit))):
                raise BudgetError("one more release would pass this client's limit")

    def _spent(self, connection: sqlite3.Connection, client: bytes) -> tuple[Fraction, Fraction]:
        query = (
            "SELECT epsilon, delta, count(*) FROM releases WHERE client = ? AND unit = ? "
            "GROUP BY epsilon, delta"
        )
        rows = connection.execute(query, (client, self._budget.unit)).fetchall()
        epsilon = sum((Fraction(row[0]) * row[2] for row in rows), Fraction())
        return epsilon, sum((Fraction(row[1]) * row[2] for row in rows), Fraction())

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Closed at the end, which takes back a transaction that an error has ended."""
        try:
            with closing(connected(self._folder / "ledger.sqlite", "rw")) as connection:
                yield connection
        except (OSError, sqlite3.Error) as error:
            raise LedgerError(f"{self._folder} cannot be used: {error}") from error

    @contextmanager
    def _transaction(self, connection: sqlite3.Connection) -> Iterator[None]:
        """A checked ledger that nobody else writes to; forced to disk at the end."""
        connection.execute("BEGIN IMMEDIATE")
        self._verify(connection)
        yield
        connection.execute("COMMIT")

    def _verify(self, connection: sqlite3.Connection) -> None:
        """Every row since the last look follows from the one before, up to the witness at least."""
        number, code = self._verified
        witness = WITNESS.unpack(read_exactly(self._folder / "witness", WITNESS.size))
        query = "SELECT * FROM releases WHERE n > ? ORDER BY n"
        met = witness[0] < number or (number, code) == witness
        for row in connection.execute(query, (number,)):
            number += 1
            code = _code(self._key, row[:-1], code)
            met |= (number, code) == witness
            if row[0] != number or row[-1] != code:
                raise LedgerError(f"{self._folder}: row {number} was changed")
        (last,) = connection.execute("SELECT coalesce(max(n), 0) FROM releases").fetchone()
        if not met or last != number:
            raise LedgerError(f"{self._folder}: row {last} is the last; the witness saw others")
        self._verified = (number, code)

    def _advance(self) -> None:
        """Tell the witness of the last row."""
        with (self._folder / "witness").open("r+b", buffering=0) as file:
            file.write(WITNESS.pack(*self._verified))
            os.fsync(file.fileno())

    def _digest(self, kind: str, text: str) -> bytes:
        return hmac.digest(self._key, repr((kind, text)).encode(), "sha256")


@lru_cache(maxsize=REMEMBERED)
def _code(key: bytes, row: tuple[object, ...], before: bytes) -> bytes:
    """Of a row and the one before.

    The same content has the same code, which is not worked out again each time that a process
    opens its ledger; every row is still read and compared.
    """
    return hmac.digest(key, repr((row, before)).encode(), "sha256")


def _bytes(mechanism: Mechanism, embedding: np.ndarray) -> bytes:
    return mechanism.release(embedding).astype(mechanism.form.dtype).tobytes()


def _check_cost(epsilon: float, delta: float) -> None:
    numbers = is_number(epsilon) and is_number(delta)
    if not numbers or not 0 < epsilon <= sys.float_info.max or not 0 <= delta < 1:
        raise LedgerError(f"epsilon={epsilon!r}, delta={delta!r}; need 0 < epsilon, 0 <= delta < 1")
