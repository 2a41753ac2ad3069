"""Rows and summary on disk."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from sglora_fed.errors import ResultsError
from sglora_fed.files import write_atomically
from sglora_fed.results.rows import Row, csv_pieces, rows_from_csv

SCHEMA = 2
PARTS = ("run", "counts", "results", "privacy", "bytes_per_client", "seconds")
"""What every summary holds."""

SUMMARY, CLIENTS, CONFIG = "summary.json", "clients.csv", "config.yaml"
PAGE = "report.html"
ERROR, RUNNING = "error.json", "running.txt"
"""Why a run failed; that it runs, or was killed."""
ADOPTED = "adopted.json"
"""What a run that only serves adapters leaves: how many clients keep one."""
ZOOS = "zoos.json"
"""What a run that only builds zoos leaves: the list of their folders."""


def write_rows(folder: Path, rows: Iterable[Row], config_yaml: str) -> None:
    """Write the configuration and the rows: all that cannot be made again.

    Raises:
        ResultsError: when the disk is full.
    """
    write_atomically(folder / CONFIG, config_yaml.encode())
    write_atomically(folder / CLIENTS, (piece.encode() for piece in csv_pieces(rows)))


def write_summary(folder: Path, summary: Mapping[str, Any]) -> None:
    """Write the summary, last of a run's files: its presence says that the run is complete.

    Raises:
        ResultsError: when the disk is full.
    """
    encoder = json.JSONEncoder(indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / SUMMARY, (p.encode() for p in encoder.iterencode(summary)))


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary of a finished run.

    Raises:
        ResultsError: when the file is missing, damaged or of another schema.
    """
    path = folder / SUMMARY
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ResultsError(f"{path}: {error.strerror}; a finished run has this file") from error
    except ValueError as error:
        raise ResultsError(f"{path} is damaged: not JSON") from error
    found = summary.get("schema") if isinstance(summary, dict) else None
    if found != SCHEMA:
        raise ResultsError(f"{path} has schema {found!r}; this version reads schema {SCHEMA}")
    if missing := [key for key in PARTS if key not in summary]:
        raise ResultsError(f"{path} is damaged: without {', '.join(missing)}")
    return cast(dict[str, Any], summary)


def read_rows(folder: Path) -> Iterator[Row]:
    """The rows of a finished run, read while they are gone through: there may be millions.

    Raises:
        ResultsError: when the file is missing or damaged.
    """
    path = folder / CLIENTS
    try:
        with path.open(newline="", encoding="utf-8") as file:
            yield from rows_from_csv(file, path)
    except OSError as error:
        raise ResultsError(f"{path}: {error.strerror}; a finished run has this file") from error
