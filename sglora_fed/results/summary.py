"""What the rows of a run say together: means, intervals and differences."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sglora_fed.errors import ResultsError
from sglora_fed.results.rows import Row
from sglora_fed.results.statistics import (
    Estimate,
    estimate,
    gap_closed,
    gap_interval,
    resamples,
)

SCHEMA = 1
FLOOR, CEILING = "zero_shot", "oracle"
REFERENCES = ("zero_shot", "described", "topk", "ridge", "shared_lora", "oracle")
"""Methods that every other one is compared with, client by client."""


@dataclass(frozen=True)
class RunFacts:
    """What a run was and what it cost.

    Attributes:
        name: of the run.
        generator: whose adapters the clients adopt.
        seeds: run through.
        seconds: of the whole run.
        config_sha256: of its configuration.
        versions: library -> version.
        experts: in the zoo.
        clients: unseen, measured.
        virtual_clients_per_node: at most.
        distrusted_experts: experts whose LoRA contradicts all others' and was not used.
        refused_replies: replies of nodes that were not used, and updates that were scaled down.
        privacy: mechanism, epsilon, delta, unit.
        bytes_per_client: up and down, for one request and one adapter.
        seconds_by_stage: experts, fit, generate_per_adapter, evaluate.
        seconds_by_method: on the client, per client: training and evaluation.
        bytes_by_method: down, per client.
        confidence: client -> (nearest similarity, weight entropy in nats, probability that the
            generated adapter beats the fall-back), means over seeds.
        command: what to type to repeat the run; empty when unknown.
    """

    name: str
    generator: str
    seeds: tuple[int, ...]
    seconds: float
    config_sha256: str
    versions: Mapping[str, str]
    experts: int
    clients: int
    virtual_clients_per_node: int
    refused_replies: int
    distrusted_experts: int
    privacy: Mapping[str, Any]
    bytes_per_client: Mapping[str, int]
    seconds_by_stage: Mapping[str, float]
    seconds_by_method: Mapping[str, float]
    bytes_by_method: Mapping[str, int]
    confidence: Mapping[str, tuple[float, ...]]
    command: str = ""


def summarise(rows: Sequence[Row], facts: RunFacts, bootstrap: int) -> dict[str, Any]:
    """The summary as in ``summary.json``: means with 95 % intervals, all numbers finite.

    A client's value is its mean over seeds; clients are resampled, methods paired on clients.

    Raises:
        ResultsError: without rows, or when a number is not finite.
    """
    if not rows:
        raise ResultsError("there is nothing to summarise: no client sent a result")
    summary = {
        "schema": SCHEMA,
        "run": {
            "name": facts.name,
            "generator": facts.generator,
            "seeds": list(facts.seeds),
            "seconds": round(facts.seconds, 2),
            "command": facts.command,
            "config_sha256": facts.config_sha256,
            "versions": dict(facts.versions),
        },
        "counts": {
            "experts": facts.experts,
            "clients": facts.clients,
            "virtual_clients_per_node": facts.virtual_clients_per_node,
            "refused_replies": facts.refused_replies,
            "distrusted_experts": facts.distrusted_experts,
        },
        "results": _results(rows, facts, bootstrap),
        "privacy": dict(facts.privacy),
        "bytes_per_client": dict(facts.bytes_per_client),
        "seconds": {name: round(s, 6) for name, s in facts.seconds_by_stage.items()},
        "confidence": {name: list(pair) for name, pair in facts.confidence.items()},
    }
    _check_finite(summary, "summary")
    return summary


def _results(rows: Sequence[Row], facts: RunFacts, bootstrap: int) -> list[dict[str, Any]]:
    found = []
    for (split, metric), values in sorted(_by_split(rows).items()):
        complete = sorted(set.intersection(*(set(v) for v in values.values())))
        if not complete:
            raise ResultsError(f"split {split}: no client has a value for every method")
        table = {m: np.array([v[client] for client in complete]) for m, v in values.items()}
        draws = resamples(len(complete), bootstrap, seed=0)
        for method in sorted(table):
            entry = {"method": method, "split": split, "metric": metric}
            found.append(entry | _entry(method, table, draws, facts))
    return found


def _entry(
    method: str, table: Mapping[str, np.ndarray], draws: np.ndarray, facts: RunFacts
) -> dict[str, Any]:
    own = estimate(table[method], draws)
    against = {
        other: _shown(estimate(table[method] - table[other], draws))
        for other in REFERENCES
        if other in table and other != method
    }
    return {
        "mean": round(own.mean, 6),
        "ci95": [round(own.low, 6), round(own.high, 6)],
        "clients": int(draws.shape[1]),
        **_gap(table[method], table.get(FLOOR), table.get(CEILING), draws),
        "minus": against,
        "client_seconds": round(facts.seconds_by_method.get(method, 0.0), 4),
        "bytes_down": facts.bytes_by_method.get(method, 0),
    }


def _gap(
    method: np.ndarray, floor: np.ndarray | None, ceiling: np.ndarray | None, draws: np.ndarray
) -> dict[str, Any]:
    if floor is None or ceiling is None or (share := gap_closed(method, floor, ceiling)) is None:
        return {"gap_closed": None, "gap_closed_ci95": None}
    bounds = gap_interval(method, floor, ceiling, draws)
    shown = None if bounds is None else [round(bound, 6) for bound in bounds]
    return {"gap_closed": round(share, 6), "gap_closed_ci95": shown}


def _shown(value: Estimate) -> dict[str, Any]:
    return {"mean": round(value.mean, 6), "ci95": [round(value.low, 6), round(value.high, 6)]}


def _by_split(rows: Sequence[Row]) -> dict[tuple[str, str], dict[str, dict[str, float]]]:
    """(split, metric) -> method -> client -> mean over seeds."""
    cells: dict[tuple[str, str, str, str], list[float]] = defaultdict(list)
    for row in rows:
        cells[row.split, row.metric, row.method, row.client].append(row.value)
    found: dict[tuple[str, str], dict[str, dict[str, float]]] = defaultdict(dict)
    for (split, metric, method, client), values in cells.items():
        found[split, metric].setdefault(method, {})[client] = float(np.mean(values))
    return dict(found)


def _check_finite(value: Any, path: str) -> None:
    if isinstance(value, Mapping):
        for name, item in value.items():
            _check_finite(item, f"{path}: {name}")
    elif isinstance(value, list):
        for item in value:
            _check_finite(item, path)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ResultsError(f"{path} is {value}; a summary holds finite numbers only")
