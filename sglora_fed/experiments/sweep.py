"""A sweep: every combination of listed values as one whole run, and their means side by side."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep
from hydra.errors import HydraException

from sglora_fed.config import RunConfig, compose, config_sha256
from sglora_fed.config.overrides import with_absolute_paths
from sglora_fed.errors import ConfigError, ResultsError, SgloraError, SweepError
from sglora_fed.experiments.checks import check_runnable
from sglora_fed.files import write_atomically
from sglora_fed.report.words import adopted_method, cells, main_metric
from sglora_fed.results.files import read_rows, read_summary

if TYPE_CHECKING:
    from sglora_fed.report.sweep import Finished

SCHEMA = 1
SWEEP = "sweep.json"
LONGEST_NAME = 60
"""Letters of a run's folder, well within what file systems take."""


@dataclass(frozen=True)
class Combination:
    """One run of a sweep.

    Attributes:
        number: in the order of the product, from 1.
        swept: an override for each option that has a list of values.
        overrides: all of them, with absolute paths.
        config: composed from ``overrides``.
    """

    number: int
    swept: tuple[str, ...]
    overrides: tuple[str, ...]
    config: RunConfig

    @property
    def folder(self) -> str:
        """The name of its folder: its number and its values, safe in any file system."""
        values = [override.partition("=")[2] for override in self.swept]
        safe = [re.sub(r"[^A-Za-z0-9.-]+", "_", value).strip("._") for value in values]
        return "-".join([f"{self.number:02}", *filter(None, safe)])[:LONGEST_NAME].rstrip(".")


Run = Callable[[Combination, Path], None]
"""Runs a combination and leaves its results in the folder."""


def expand(overrides: Sequence[str]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """(the swept ones, all of them) for every combination; the last list varies fastest."""
    choices = [_choices(override) for override in overrides]
    swept = [len(values) > 1 for values in choices]
    return [
        (tuple(one for one, several in zip(chosen, swept, strict=True) if several), chosen)
        for chosen in product(*choices)
    ]


def _choices(override: str) -> list[str]:
    """An override for each value of a comma list; what cannot be read is left to ``compose``."""
    try:
        read = OverridesParser.create().parse_override(override)
    except HydraException:
        return [override]
    # Values in random order would have other folders each time, and no run would be found again.
    values = read.value()
    if not isinstance(values, ChoiceSweep) or not values.simple_form or values.shuffle:
        return [override]
    key = override.partition("=")[0]
    return [f"{key}={value}" for value in read.sweep_string_iterator()]


def plan(overrides: Sequence[str]) -> list[Combination]:
    """All runs of a sweep, each composed and checked.

    Args:
        overrides: as for ``compose``, but a value may be a comma list.

    Raises:
        ConfigError: naming every mistake of every combination.
    """
    found: list[Combination] = []
    problems: dict[str, list[str]] = {}
    expanded = expand(overrides)
    for number, (swept, chosen) in enumerate(expanded, start=1):
        try:
            found.append(_checked(number, swept, chosen))
        except SgloraError as error:
            mistakes = error.problems if isinstance(error, ConfigError) else [str(error)]
            for problem in dict.fromkeys(mistakes):
                problems.setdefault(problem, []).append(", ".join(swept))
    told = [
        problem if len(runs) == len(expanded) else f"with {runs[0]}: {problem}"
        for problem, runs in problems.items()
    ]
    if told or (told := _repeated(found)):
        raise ConfigError(told)
    return found


def _checked(number: int, swept: tuple[str, ...], chosen: tuple[str, ...]) -> Combination:
    absolute = tuple(with_absolute_paths(compose(chosen), chosen))
    # Composed again, because the server's hash is that of the absolute paths.
    config = compose(absolute)
    check_runnable(config)
    return Combination(number, swept, absolute, config)


def _repeated(found: Sequence[Combination]) -> list[str]:
    """A problem for each combination that another one before it equals."""
    first: dict[RunConfig, Combination] = {}
    return [
        f"{', '.join(one.swept)}: the same run as {', '.join(same.swept)}; give each value once"
        for one in found
        if (same := first.setdefault(one.config, one)) is not one
    ]


def run_sweep(combinations: Sequence[Combination], output: Path, run: Run) -> list[Finished]:
    """Run what has no results yet, one after another, and write ``sweep.json`` and ``sweep.html``.

    Args:
        combinations: from ``plan``.
        output: folder of the sweep; each run has its own folder below it.
        run: called for every combination that is not finished there.

    Raises:
        SweepError: when a run fails; those before it are kept and not run again.
        ResultsError: when ``output`` cannot be written.
    """
    from sglora_fed.report.sweep import write_page  # draws; a plan is refused without

    finished: list[Finished] = []
    for one in combinations:
        finished.append(_finished(one, output, run))
        write_atomically(output / SWEEP, _json(finished).encode())
    write_page(output, finished)
    return finished


def _finished(one: Combination, output: Path, run: Run) -> Finished:
    from sglora_fed.report.sweep import Finished

    folder = output / one.folder
    try:
        if not _is_finished(folder, one.config):
            run(one, folder)
        return Finished(one.folder, one.swept, read_summary(folder))
    except SgloraError as error:
        raise SweepError(
            f"run {one.folder}: {error}; the same command with"
            f" --output {shlex.quote(str(output))} continues where it stopped"
        ) from error


def _is_finished(folder: Path, config: RunConfig) -> bool:
    try:
        summary = read_summary(folder)
        for _ in read_rows(folder):
            pass  # the table is whole
    except ResultsError:
        return False
    return bool(summary["run"].get("config_sha256") == config_sha256(config))


def _json(finished: Sequence[Finished]) -> str:
    runs = [
        {
            "folder": one.folder,
            "overrides": list(one.swept),
            "config_sha256": one.summary["run"]["config_sha256"],
            "adopted": adopted_method(one.summary),
            "metric": main_metric(one.summary),
            "results": _means(one.summary),
        }
        for one in finished
    ]
    return json.dumps({"schema": SCHEMA, "runs": runs}, indent=1, ensure_ascii=False)


def _means(summary: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Method -> split -> mean and interval of the main metric."""
    found: dict[str, dict[str, Any]] = {}
    for (method, split), result in cells(summary, main_metric(summary)).items():
        shown = {"mean": result["mean"], "ci95": result["ci95"]}
        found.setdefault(method, {})[split] = shown
    return found
