"""What the jobs of the cameras' study found, pooled over clients and seeds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from sglora_fed.results.statistics import Estimate
from study_tables import differences, pooled

Cells = dict[tuple[str, int], float]
"""(client, seed) -> R@1. Clients of two splits with one name have the same camera."""


@dataclass(frozen=True)
class Row:
    """Where a number stands.

    Attributes:
        part: of the study.
        run: of the part.
        method: of the run.
    """

    part: str
    run: str
    method: str


@dataclass(frozen=True)
class Study:
    """All jobs.

    Attributes:
        jobs: what each wrote.
    """

    jobs: Sequence[Mapping[str, Any]]

    @cached_property
    def _by_run(self) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
        found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        for job in self.jobs:
            found.setdefault((job["part"], job["run"]), []).append(job)
        return found

    def runs(self, part: str) -> list[str]:
        """Of a part, in the order of the jobs."""
        return [run for found, run in self._by_run if found == part]

    def methods(self, part: str, run: str) -> list[str]:
        """Of a run, in its order."""
        return list(self._by_run[part, run][0]["cells"])

    def cells(self, row: Row, split: str, first: int | None = None) -> Cells:
        """R@1 of each client, or of the first clients of the split."""
        return {
            (f"{number} of {job['seed']}", job["seed"]): value
            for job in self._by_run[row.part, row.run]
            for number, value in enumerate(job["cells"][row.method][split][:first])
        }

    def mean(self, row: Row, split: str, first: int | None = None) -> Estimate:
        """R@1 over clients and seeds."""
        return pooled(self.cells(row, split, first))

    def less(self, row: Row, other: Row, split: str, other_split: str | None = None) -> Estimate:
        """A paired difference."""
        return pooled(differences(self.cells(row, split), self.cells(other, other_split or split)))

    def by_seed(self, row: Row, other: Row | None, split: str) -> str:
        """Each seed's mean, or mean difference, in %."""
        cells = self.cells(row, split)
        if other is not None:
            cells = differences(cells, self.cells(other, split))
        seeds = sorted({seed for _, seed in cells})
        means = [fmean(value for (_, own), value in cells.items() if own == s) for s in seeds]
        return " / ".join(f"{100 * mean:.1f}" for mean in means)

    def number(self, part: str, run: str, name: str) -> list[float]:
        """A number that is none of a client's, of each seed."""
        return [job["numbers"][name] for job in self._by_run[part, run]]

    def numbers(self, part: str, run: str) -> list[str]:
        """Their names."""
        return list(self._by_run[part, run][0]["numbers"])


def collected(folder: Path) -> Study:
    """The files that jobs wrote to a folder."""
    paths = sorted(folder.glob("*.json"))
    return Study([json.loads(path.read_text(encoding="utf-8")) for path in paths])


def kept(path: Path) -> Study:
    """The study that :func:`keep` wrote."""
    return Study(json.loads(path.read_text(encoding="utf-8"))["jobs"])


def keep(study: Study, order: Sequence[tuple[str, str]], path: Path) -> Study:
    """Write a job a line, part by part and run by run; returns the study in this order.

    Raises:
        ValueError: for a job that is not in the order.
    """
    jobs = sorted(study.jobs, key=lambda job: (order.index((job["part"], job["run"])), job["seed"]))
    lines = ",\n".join(json.dumps(job, separators=(",", ":")) for job in jobs)
    path.write_text(f'{{"jobs": [\n{lines}\n]}}\n', encoding="utf-8")
    return Study(jobs)


def told(found: Estimate, sign: bool = False) -> str:
    """In %, with half of the interval."""
    half = "" if found.half is None else f" ± {100 * found.half:.1f}"
    return f"{100 * found.mean:{'+' if sign else ''}.1f}{half}"


def table(
    heads: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]
) -> Iterator[str]:
    """In Markdown."""
    yield f"| {' | '.join(heads)} |"
    yield "|" + " --- |" * len(heads)
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""
