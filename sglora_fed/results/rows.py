"""One measured value, and many of them as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

from sglora_fed.errors import ResultsError


@dataclass(frozen=True)
class Row:
    """One client's value of one metric for one method and seed; a fraction.

    Raises:
        ResultsError: when the value is not between 0 and 1.
    """

    client: str
    split: str
    seed: int
    method: str
    metric: str
    value: float

    def __post_init__(self) -> None:
        # NaN fails the comparison too.
        if not 0 <= self.value <= 1:
            name = f"{self.metric} of {self.method} for client {self.client!r}"
            raise ResultsError(f"{name} is {self.value}; it must be a fraction from 0 to 1")


AT_ONCE = 10_000
"""Rows that are text in memory together."""


def rows_to_csv(rows: Iterable[Row]) -> str:
    """Rows as CSV with a header."""
    return "".join(csv_pieces(rows))


def csv_pieces(rows: Iterable[Row]) -> Iterator[str]:
    """As :func:`rows_to_csv`, some rows at a time."""
    yield _lines([tuple(item.name for item in fields(Row))])
    left = iter(rows)
    while some := list(islice(left, AT_ONCE)):
        yield _lines([astuple(row) for row in some])


def _lines(values: Sequence[tuple[Any, ...]]) -> str:
    text = io.StringIO()
    # Lines end as RFC 4180 has it: with another end, csv leaves a name's own CR unquoted.
    csv.writer(text).writerows(values)
    return text.getvalue()


def rows_from_csv(lines: Iterable[str], source: Path) -> Iterator[Row]:
    """Rows as :func:`csv_pieces` writes them, one after the other.

    Args:
        lines: with their ends; a file, opened with ``newline=""``.
        source: the file, for the error.

    Raises:
        ResultsError: when they are damaged; behind the last good row.
    """
    count = 0
    try:
        for values in csv.DictReader(_whole(lines)):
            yield _row(values)
            count += 1
    except UnicodeDecodeError as error:
        raise ResultsError(f"{source} is damaged: not UTF-8") from error
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        wanted = ",".join(item.name for item in fields(Row))
        raise ResultsError(f"{source} is damaged after {count} rows of {wanted}") from error


def _whole(lines: Iterable[str]) -> Iterator[str]:
    """The lines: half a number would still be a number, but what is written here ends its last."""
    line = ""
    for line in lines:
        yield line
    if not line.endswith("\n"):
        raise ValueError(line[-80:])


def _row(values: Mapping[str, str]) -> Row:
    return Row(
        values["client"],
        values["split"],
        int(values["seed"]),
        values["method"],
        values["metric"],
        float(values["value"]),
    )
