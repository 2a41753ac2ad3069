"""What the rows of a run say together: means, intervals and differences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations, groupby
from typing import Any

import numpy as np

from sglora_fed.errors import ResultsError
from sglora_fed.results.files import SCHEMA
from sglora_fed.results.metrics import with_mean_recall
from sglora_fed.results.rows import Row
from sglora_fed.results.statistics import Estimate, auroc, estimate, gap_closed
from sglora_fed.results.tables import Table, tables_of

TRUST = 2
"""Place of the confidence among what is known of a client before use."""

FLOOR, CEILING = "zero_shot", "oracle"
REFERENCES = (
    "zero_shot",
    "described",
    "topk",
    "ridge",
    "shared_lora",
    "local_1shot",
    "local_5shot",
    "shared_5shot",
    "shared_full",
    "oracle",
)
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
        privacy: mechanism, unit, and the epsilon and delta of one release; a client releases once
            for each seed; ``training``: unit, epsilon and delta of experts' examples, or None.
        bytes_per_client: up and down, for one request and what is made for it.
        seconds_by_stage: experts, fit, generate_per_adapter, evaluate.
        seconds_by_method: on the client, per client: choosing, training and evaluation.
        bytes_by_method: down, per client.
        confidence: client -> (nearest similarity, weight entropy in nats, and with the policy the
            confidence in the generated adapter and the share of seeds in which it was adopted),
            means over seeds.
        command: what to type to repeat the run; empty when unknown.
        peak_mb: the most memory that the server's process has taken, in 2^20 bytes; None when
            unknown.
        nodes: how many, ``peak_mb`` of each that measured, and ``bytes`` by kind of message, down
            and up, mean over the nodes.
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
    peak_mb: float | None = None
    nodes: Mapping[str, Any] = field(default_factory=dict)


def summarise(rows: Iterable[Row], facts: RunFacts) -> dict[str, Any]:
    """The summary as in ``summary.json``: means with 95 % intervals, all numbers finite.

    A method's mean is over all clients that have a value for the metric; methods are compared on
    the clients and seeds that have both.

    Raises:
        ResultsError: without rows, with two values for the same thing, or when a number is not
            finite.
    """
    tables = tables_of(with_mean_recall(rows))
    if not tables:
        raise ResultsError("there is nothing to summarise: no client sent a result")
    summary = {
        "schema": SCHEMA,
        "run": {
            "name": facts.name,
            "generator": facts.generator,
            "seeds": list(facts.seeds),
            "seconds": round(facts.seconds, 2),
            "peak_mb": facts.peak_mb,
            "command": facts.command,
            "config_sha256": facts.config_sha256,
            "versions": dict(facts.versions),
        },
        "counts": {
            "experts": facts.experts,
            "clients": facts.clients,
            "incomplete_clients": _incomplete(tables),
            "virtual_clients_per_node": facts.virtual_clients_per_node,
            "refused_replies": facts.refused_replies,
            "distrusted_experts": facts.distrusted_experts,
        },
        "results": _results(tables, facts),
        "privacy": _privacy(facts),
        "bytes_per_client": dict(facts.bytes_per_client),
        "nodes": dict(facts.nodes),
        "seconds": {name: round(s, 6) for name, s in facts.seconds_by_stage.items()},
        "confidence": {name: list(told) for name, told in facts.confidence.items()},
        "separation": _separation(tables, facts.confidence),
    }
    _check_finite(summary, "summary")
    return summary


def _incomplete(tables: Mapping[tuple[str, str], Table]) -> int:
    """Clients that lack a value which another client of the same split has."""
    found: set[str] = set()
    for _, own in groupby(tables.items(), key=lambda item: item[0][0]):
        some = [table for _, table in own]
        clients = set().union(*(table.clients for table in some))
        for table in some:
            found |= clients.difference(_complete(table))
    return len(found)


def _complete(table: Table) -> Iterator[str]:
    """Clients with a value of each method and seed."""
    lacks = np.any([np.isnan(own).any(axis=1) for own in table.values.values()], axis=0)
    return (client for client, lack in zip(table.clients, lacks, strict=True) if not lack)


def _privacy(facts: RunFacts) -> dict[str, Any]:
    """What one release costs and what all of them do, a release for each seed.

    The sum is basic composition (Dwork & Roth 2014, theorem 3.16): it holds for every mechanism.
    """
    own, releases = facts.privacy, len(facts.seeds)
    once = {name: own[name] for name in ("epsilon", "delta")}
    total = {name: None if cost is None else releases * cost for name, cost in once.items()}
    return {
        "mechanism": own["mechanism"],
        "unit": own["unit"],
        "per_release": once,
        "releases": releases,
        "total": total,
        **({} if own.get("training") is None else {"training": _of_training(facts)}),
        **_of_experts(own),
    }


def _of_experts(own: Mapping[str, Any]) -> dict[str, Any]:
    """What was sent of each expert's description, once for all seeds, and at what epsilon."""
    sent, epsilon = own.get("experts", ("clear", None))
    if sent == "clear":
        return {}
    return {"experts": {"sent": sent, "unit": own["unit"], "epsilon": epsilon}}


def _of_training(facts: RunFacts) -> dict[str, Any]:
    """Of experts' examples: another unit, which is never added to that of requests.

    Each seed trains the experts anew, so one seed after the other is a release of its own.
    """
    own, seeds = facts.privacy["training"], len(facts.seeds)
    once = {name: own[name] for name in ("epsilon", "delta")}
    return {
        "unit": own["unit"],
        "per_seed": once,
        "total": {name: seeds * cost for name, cost in once.items()},
    }


def _results(tables: Mapping[tuple[str, str], Table], facts: RunFacts) -> list[dict[str, Any]]:
    return [
        {"method": method, "split": split, "metric": metric, **_entry(method, table.values, facts)}
        for (split, metric), table in tables.items()
        for method in table.values
    ]


def _entry(method: str, values: Mapping[str, np.ndarray], facts: RunFacts) -> dict[str, Any]:
    against = {
        other: _shown(estimate(values[method] - values[other]), -1.0)
        for other in REFERENCES
        if other in values and other != method and _meet(values[method], values[other])
    }
    return {
        **_shown(estimate(values[method]), 0.0),
        **_gap(values[method], values.get(FLOOR), values.get(CEILING)),
        "minus": against,
        "client_seconds": round(facts.seconds_by_method.get(method, 0.0), 4),
        "bytes_down": facts.bytes_by_method.get(method, 0),
    }


def _separation(
    tables: Mapping[tuple[str, str], Table], confidence: Mapping[str, tuple[float, ...]]
) -> list[dict[str, Any]]:
    """How often a client of one split is trusted more than one of another, with the policy."""
    clients = {split: table.clients for (split, _), table in tables.items()}
    trust = {name: some[TRUST] for name, some in confidence.items() if len(some) > TRUST}
    told = {
        split: np.array([trust[name] for name in names if name in trust])
        for split, names in clients.items()
    }
    return [
        {"surer": one, "than": other, "auroc": round(auroc(told[one], told[other]), 6)}
        for one, other in combinations(sorted(told), 2)
        if len(told[one]) and len(told[other])
    ]


def _meet(one: np.ndarray, other: np.ndarray) -> bool:
    return not np.isnan(one - other).all()


def _gap(
    method: np.ndarray, floor: np.ndarray | None, ceiling: np.ndarray | None
) -> dict[str, Any]:
    if floor is None or ceiling is None or (share := gap_closed(method, floor, ceiling)) is None:
        return {"gap_closed": None, "gap_closed_ci95": None}
    bounds = None if share.bounds is None else [round(bound, 6) for bound in share.bounds]
    return {"gap_closed": round(share.mean, 6), "gap_closed_ci95": bounds}


def _shown(value: Estimate, least: float) -> dict[str, Any]:
    """The interval ends where the values do, at ``least`` and at 1."""
    bounds = [round(min(max(bound, least), 1.0), 6) for bound in value.bounds or ()]
    return {"mean": round(value.mean, 6), "ci95": bounds or None, "clients": value.clients}


def _check_finite(value: Any, path: str) -> None:
    if isinstance(value, Mapping):
        for name, item in value.items():
            _check_finite(item, f"{path}: {name}")
    elif isinstance(value, list):
        for item in value:
            _check_finite(item, path)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ResultsError(f"{path} is {value}; a summary holds finite numbers only")
