"""The study of privacy and utility: mechanisms by epsilon, each through the whole loop.

The unmodified apps answer one another in this process: what is measured is what travels, and models
are loaded once. Zoos, generators and catalogues are made once for each seed and kept, so that a
point costs the requests, the adapters and their evaluation.
"""

from __future__ import annotations

import importlib
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sglora_fed.backbones import load_describer
from sglora_fed.config import RunConfig, compose, config_sha256
from sglora_fed.config.schema import PRIVATE_METHODS, SHARED_METHOD
from sglora_fed.errors import SgloraError, SweepError
from sglora_fed.experiments.run import measured
from sglora_fed.federation.compare import delivered_adapters
from sglora_fed.federation.finetuned import training_of
from sglora_fed.federation.inprocess import InProcessGrid
from sglora_fed.federation.terms import Agreement
from sglora_fed.files import write_atomically
from sglora_fed.kept.catalogues import kept_snap
from sglora_fed.kept.local import own_noise
from sglora_fed.launching.bundle import app_folder
from sglora_fed.privacy.attacks.reidentification import reidentify
from sglora_fed.privacy.families import catalogue_of
from sglora_fed.report.words import OWN_TUNING
from sglora_fed.results.metrics import with_mean_recall
from sglora_fed.results.parts import remove_parts
from sglora_fed.results.rows import Row
from sglora_fed.results.statistics import estimate
from sglora_fed.tasks import load_family

EPSILONS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
DECOYS = {0.5: 50, 1.0: 50, 2.0: 50, 4.0: 26, 8.0: 4, 16.0: 4}
"""Epsilon -> places that a client of ``subset`` sends."""

OWN_RATES = {0.5: 0.01, 1.0: 0.02, 2.0: 0.03, 4.0: 0.05, 8.0: 0.1, 16.0: 0.1}
"""Epsilon -> rate of clients that fine-tune alone: the more noise, the shorter the steps.

Chosen on cameras that no study reports (`docs/how-to/privacy.md`)."""

RANK = 8
"""Directions of the generator that vectors are sent in."""

TRIALS = 500
"""Requests on which the attack is measured."""

POINT, SWEEP, SCHEMA = "point.json", "sweep.json", 1


@dataclass(frozen=True)
class Point:
    """One setting of the study.

    Attributes:
        name: of its folder.
        overrides: of the ``privacy`` group, and of what is measured beside.
    """

    name: str
    overrides: tuple[str, ...]


def points() -> list[Point]:
    """All of them, what is not private first."""
    plain = [Point(name, (f"privacy={name}",)) for name in ("none", "local", "shares")]
    fewer = Point("subset-4-by-8", (*_subset(4.0), "privacy.choose_by=8"))
    own = [Point(f"own-{epsilon:g}", own_tuning(epsilon)) for epsilon in EPSILONS]
    return [*plain, *(point for epsilon in EPSILONS for point in _at(epsilon)), fewer, *own]


def own_tuning(epsilon: float) -> tuple[str, ...]:
    """What makes a point of clients that fine-tune alone, with an epsilon of one example."""
    methods, rate = ",".join(("zero_shot", SHARED_METHOD, *PRIVATE_METHODS)), OWN_RATES[epsilon]
    return (
        "privacy=none",
        f"privacy.training.own_epsilon={epsilon}",
        f"experiment.methods=[{methods}]",
        *(f"experiment.tuning.{name}.lr={rate}" for name in PRIVATE_METHODS),
    )


def _at(epsilon: float) -> Iterator[Point]:
    given, rank = f"privacy.epsilon={epsilon}", f"privacy.rank={RANK}"
    yield Point(f"krr-{epsilon:g}", ("privacy=krr", given))
    yield Point(f"subset-{epsilon:g}", _subset(epsilon))
    for name in ("privunit", "gaussian"):
        yield Point(f"{name}-{epsilon:g}", (f"privacy={name}", given))
        yield Point(f"{name}-{RANK}-{epsilon:g}", (f"privacy={name}", given, rank))


def _subset(epsilon: float) -> tuple[str, ...]:
    return ("privacy=subset", f"privacy.epsilon={epsilon}", f"privacy.replies={DECOYS[epsilon]}")


def run_study(
    overrides: Sequence[str], output: Path, say: Callable[[str], None], chosen: Sequence[Point]
) -> list[dict[str, Any]]:
    """Measure every point that has no results yet, and write ``sweep.json``.

    Args:
        overrides: of the study: ``experiment=privacy`` or ``experiment=privacy_assistant``.
        output: folder; points that are finished there stay.
        say: told of each point.
        chosen: to measure; what is not private must come first.

    Returns:
        The rows of ``sweep.json``.

    Raises:
        SweepError: when a point fails; those before it are kept and not run again.
        ResultsError: when the folder cannot be written.
    """
    rows: list[dict[str, Any]] = []
    for number, point in enumerate(chosen, start=1):
        say(f"{number} of {len(chosen)}: {' '.join(point.overrides)}")
        rows += _point([*overrides, *point.overrides], output / point.name, output)
        table = [row | {"share_of_gain": _share(row, rows)} for row in rows]
        told = json.dumps({"schema": SCHEMA, "runs": table}, indent=1)
        write_atomically(output / SWEEP, told.encode())
    return table


def _point(overrides: list[str], folder: Path, output: Path) -> list[dict[str, Any]]:
    config = compose(overrides)
    facts = {"config_sha256": config_sha256(config)}
    path = folder / POINT
    if path.exists() and (kept := json.loads(path.read_text())).get("facts") == facts:
        return list(kept["rows"])
    try:
        rows = _measured(config, overrides, folder)
    except SgloraError as error:
        raise SweepError(
            f"point {folder.name}: {error}; the same command with"
            f" --output {shlex.quote(str(output))} continues where it stopped"
        ) from error
    write_atomically(path, json.dumps({"facts": facts, "rows": rows}, indent=1).encode())
    return rows


def _measured(config: RunConfig, overrides: list[str], folder: Path) -> list[dict[str, Any]]:
    """The rows of one point."""
    told = {"overrides": shlex.join(overrides)}
    grid = InProcessGrid(_client_app(), config.federation.nodes, told)
    record, found, _ = measured(config, grid, folder, gallery=False)
    rows = list(with_mean_recall(found))
    remove_parts(folder)
    if own := [row for row in rows if row.method in PRIVATE_METHODS]:
        # What else was measured is in the point without privacy.
        return list(_rows_of(config, own, partial(_tuned_alone, config, record.wire)))
    return [
        row
        for seed, agreement in zip(config.seeds, record.agreements, strict=True)
        for row in _rows_of(
            config,
            [one for one in rows if one.seed == seed],
            partial(_described, config, record.wire, _attacked(config, agreement, seed)),
        )
    ]


def _client_app() -> Any:
    """The Flower app that a node runs."""
    if (folder := str(app_folder())) not in sys.path:
        sys.path.append(folder)
    return importlib.import_module("client.app").app


def _attacked(config: RunConfig, agreement: Agreement, seed: int) -> tuple[float, float]:
    """How often the strongest guess among the catalogue's entries is right, and its ceiling."""
    told = config.privacy.catalogue
    catalogue = catalogue_of(config.family.name, Path(told).expanduser() if told else None)
    candidates = kept_snap(catalogue, load_describer(config.backbone)).embeddings
    if agreement.mechanism.epsilon == 0:
        chance = 1 / len(candidates)
        return chance, chance
    rng = np.random.default_rng(seed)
    found = reidentify(agreement.mechanism, np.asarray(candidates), TRIALS, rng)
    return found.top1, found.ceiling


def _rows_of(
    config: RunConfig, rows: Sequence[Row], told: Callable[[str], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """A row for each seed, split, method and metric; what is known of a method is ``told``."""
    groups: dict[tuple[int, str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.seed, row.split, row.method, row.metric), []).append(row)
    for (seed, split, method, metric), some in groups.items():
        found = estimate(np.array([[row.value] for row in some]))
        yield {
            "family": config.family.name,
            "split": split,
            "metric": metric,
            "value": found.mean,
            "ci95": list(found.bounds or ()),
            "share_of_gain": None,
            "seed": seed,
        } | told(method)


def _described(
    config: RunConfig, wire: Mapping[str, int], attacked: tuple[float, float], method: str
) -> dict[str, Any]:
    """Of a method that starts from what a mechanism makes of the description."""
    privacy = config.privacy
    return {
        "mechanism": privacy.mechanism + (f"_{privacy.rank}" if privacy.rank else ""),
        "epsilon": privacy.epsilon,
        "delta": privacy.delta,
        "decoys": privacy.replies,
        "method": method if privacy.choose_by == 16 else f"{method}@{privacy.choose_by}",
        "reidentification": attacked[0],
        "reidentification_ceiling": attacked[1],
        "bytes_up": wire["up"],
        "bytes_down": wire["down"],
    }


def _tuned_alone(config: RunConfig, wire: Mapping[str, int], method: str) -> dict[str, Any]:
    """Of a method that needs no description: nothing about it can be guessed."""
    noise, tasks = own_noise(config), load_family(config.family).of_role("client")
    train = training_of(getattr(config.experiment.tuning, method), config)
    fewest = min(len(task.train) for task in tasks)
    return {
        "mechanism": OWN_TUNING,
        "epsilon": noise.epsilon,
        "delta": noise.promise(fewest, train).delta,
        "decoys": 0,
        "method": method,
        "reidentification": None,
        "reidentification_ceiling": None,
        "bytes_up": 0,
        "bytes_down": delivered_adapters(method, config) * wire["down"],
    }


def _share(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> float | None:
    """Of what the same method brings without privacy, on the same split, metric and seed."""
    same = ("split", "metric", "seed")
    clear = [r for r in rows if r["mechanism"] == "none" and all(r[k] == row[k] for k in same)]
    method = row["method"].partition("@")[0]
    floor = [r["value"] for r in clear if r["method"] == "zero_shot"]
    full = [r["value"] for r in clear if r["method"] == method]
    if not floor or not full or full[0] <= floor[0]:
        return None
    return float((row["value"] - floor[0]) / (full[0] - floor[0]))
