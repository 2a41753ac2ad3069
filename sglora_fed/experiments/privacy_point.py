"""One setting of the privacy study on one seed: the whole loop, and what is known of each method.

The unmodified apps answer one another in this process: what is measured is what travels, and models
are loaded once. Zoos, generators and catalogues are made once for each seed and kept, so that a
setting costs the requests, the adapters and their evaluation.
"""

from __future__ import annotations

import importlib
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sglora_fed.backbones import load_describer
from sglora_fed.config import RunConfig, compose, config_sha256
from sglora_fed.config.schema import PRIVATE_METHODS
from sglora_fed.experiments.run import measured
from sglora_fed.federation.compare import delivered_bytes
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

TRIALS = 500
"""Requests on which the attack is measured, for each seed."""

POINT = "point.json"

Measured = dict[str, Any]
"""A row of ``sweep.json`` with ``clients``: the value of each."""


def finished(overrides: Sequence[str], folder: Path) -> list[Measured] | None:
    """What was measured in a folder with these overrides; None when nothing was."""
    path = folder / POINT
    if path.exists() and (kept := json.loads(path.read_text())).get("facts") == _facts(overrides):
        return list(kept["rows"])
    return None


def measure(overrides: Sequence[str], folder: Path) -> list[Measured]:
    """Measure a setting on one seed, and keep it in its folder.

    Args:
        overrides: of the run, its one seed among them.
        folder: of this setting and seed alone.

    Raises:
        SgloraError: of any part of the run.
    """
    rows = _measured(compose(overrides), overrides, folder)
    told = {"facts": _facts(overrides), "rows": rows}
    write_atomically(folder / POINT, json.dumps(told, indent=1).encode())
    return rows


def _facts(overrides: Sequence[str]) -> dict[str, str]:
    return {"config_sha256": config_sha256(compose(overrides))}


def _measured(config: RunConfig, overrides: Sequence[str], folder: Path) -> list[Measured]:
    told = {"overrides": shlex.join(overrides)}
    grid = InProcessGrid(_client_app(), config.federation.nodes, told)
    record, found, _ = measured(config, grid, folder, gallery=False)
    rows = list(with_mean_recall(found))
    remove_parts(folder)
    if own := [row for row in rows if row.method in PRIVATE_METHODS]:
        # What else was measured is in the setting without privacy.
        return list(_rows_of(config, own, partial(_tuned_alone, config, record.common)))
    (agreement,) = record.agreements
    attacked = _attacked(config, agreement)
    return list(_rows_of(config, rows, partial(_described, config, record.wire, attacked)))


def _client_app() -> Any:
    """The Flower app that a node runs."""
    if (folder := str(app_folder())) not in sys.path:
        sys.path.append(folder)
    return importlib.import_module("client.app").app


def _attacked(config: RunConfig, agreement: Agreement) -> tuple[float, float]:
    """How often the strongest guess among the catalogue's entries is right, and its ceiling."""
    told = config.privacy.catalogue
    catalogue = catalogue_of(config.family.name, Path(told).expanduser() if told else None)
    candidates = kept_snap(catalogue, load_describer(config.backbone)).embeddings
    if agreement.mechanism.epsilon == 0:
        chance = 1 / len(candidates)
        return chance, chance
    rng = np.random.default_rng(config.seeds[0])
    found = reidentify(agreement.mechanism, np.asarray(candidates), TRIALS, rng)
    return found.top1, found.ceiling


def _rows_of(
    config: RunConfig, rows: Sequence[Row], told: Callable[[str], dict[str, Any]]
) -> Iterator[Measured]:
    """A row for each split, method and metric; what is known of a method is ``told``."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.split, row.method, row.metric), []).append(row)
    for (split, method, metric), some in groups.items():
        found = estimate(np.array([[row.value] for row in some]))
        yield {
            "family": config.family.name,
            "split": split,
            "metric": metric,
            "value": found.mean,
            "ci95": list(found.bounds or ()),
            "seed": config.seeds[0],
            "clients": {row.client: row.value for row in some},
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


def _tuned_alone(config: RunConfig, common: int, method: str) -> dict[str, Any]:
    """Of a method that needs no description: nothing about it can be guessed.

    What it starts from came in clear and without a choice: one adapter, of ``common`` bytes.
    """
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
        "bytes_down": delivered_bytes(method, config, common, common),
    }
