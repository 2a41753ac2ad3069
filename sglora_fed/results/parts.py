"""Results of a run that is not finished, in files: what was measured survives whatever ends it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from sglora_fed.errors import ResultsError
from sglora_fed.files import write_atomically
from sglora_fed.results.rows import Row, rows_from_csv, rows_to_csv

FOLDER = "parts"
"""Of a run's folder; it is removed when the run is complete."""

MADE_FOR = "made_for.json"


@dataclass(frozen=True)
class Part:
    """What some clients measured.

    Attributes:
        rows: results.
        method_seconds: method -> seconds that each message's clients needed.
        trust: client -> what it told of its adapter.
        wire: up, down and results -> bytes of one client's message.
        left_out: replies that measured something else.
        peaks: node's partition -> the most memory of its process, in 2^20 bytes.
    """

    rows: Sequence[Row]
    method_seconds: Mapping[str, Sequence[float]]
    trust: Mapping[str, Sequence[float]]
    wire: Mapping[str, int]
    left_out: int
    peaks: Mapping[str, int]


class Parts:
    """The parts of one seed, numbered from 0.

    What was made for another run is removed: configuration, experts and programs tell them apart.

    Args:
        run: folder of the run.
        seed: of the parts.
        made_for: what the results are a function of.

    Raises:
        ResultsError: when the folder cannot be written.
    """

    def __init__(self, run: Path, seed: int, made_for: str) -> None:
        self.folder = run / FOLDER / str(seed)
        mark = self.folder / MADE_FOR
        if not mark.exists() or mark.read_text(encoding="utf-8") != made_for:
            shutil.rmtree(self.folder, ignore_errors=True)
            write_atomically(mark, made_for.encode())

    def get(self, number: int) -> Part | None:
        """A part, or None when it is not there yet.

        Raises:
            ResultsError: when its file is damaged.
        """
        path = self._path(number)
        if not path.exists():
            return None
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            rows = rows_from_csv(StringIO(values["rows"], newline=""), path)
            return Part(**(values | {"rows": list(rows)}))
        except (ValueError, TypeError, KeyError) as error:
            raise ResultsError(f"{path} is damaged; remove it") from error

    def add(self, number: int, part: Part) -> None:
        """Keep a part; it is there, whole, when this returns.

        Raises:
            ResultsError: when the disk is full.
        """
        values = {**asdict(part), "rows": rows_to_csv(part.rows)}
        write_atomically(self._path(number), json.dumps(values).encode())

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.json"


@dataclass(frozen=True)
class PartRows:
    """All rows of a run's parts, read from their files each time they are gone through.

    Attributes:
        parts: of each seed, in the order of the results.
    """

    parts: tuple[Parts, ...]

    def __iter__(self) -> Iterator[Row]:
        for parts in self.parts:
            number = 0
            while (part := parts.get(number)) is not None:
                yield from part.rows
                number += 1


def remove_parts(run: Path) -> None:
    """The run is complete: its table holds all."""
    shutil.rmtree(run / FOLDER, ignore_errors=True)
