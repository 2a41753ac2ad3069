"""A small run whose differences are planted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sglora_fed.results.rows import Row
from sglora_fed.results.summary import RunFacts, summarise

Run = tuple[dict[str, Any], list[Row]]

GAINS = {
    "zero_shot": 0.0,
    "described": 0.1,
    "soup": 0.0,
    "nearest": 0.15,
    "topk": 0.2,
    "ridge": 0.3,
    "shared_lora": 0.02,
    "local_5shot": 0.1,
    "oracle": 0.4,
}


def make_facts(rows: list[Row], clients: int = 24) -> dict[str, Any]:
    """What such a run was and what it cost."""
    names = {row.method for row in rows}
    return {
        "name": "trial",
        "generator": "ridge",
        "seeds": (0,),
        "seconds": 65.0,
        "config_sha256": "ab" * 32,
        "versions": {"numpy": "2.3"},
        "experts": 40,
        "clients": clients,
        "virtual_clients_per_node": 10,
        "refused_replies": 0,
        "distrusted_experts": 0,
        "privacy": {
            "mechanism": "none",
            "epsilon": None,
            "delta": None,
            "unit": "one description, local",
        },
        "bytes_per_client": {"up": 1548, "down": 73728},
        "seconds_by_stage": {"experts": 30.0, "generate_per_adapter": 0.0012},
        "seconds_by_method": {method: 7.25 if method == "oracle" else 0.11 for method in names},
        "bytes_by_method": {"ridge": 73728},
        "confidence": {row.client: (0.5 + row.value / 10, 1.0, row.value, 1.0) for row in rows},
        "command": "sglora-fed simulate seeds=[0]",
    }


def make_run(
    gains: dict[str, dict[str, float]],
    metric: str = "accuracy",
    facts: dict[str, Any] | None = None,
    clients: int = 20,
) -> Run:
    """A run in which each client of a split gains what ``gains[split][method]`` says."""
    rng, rows = np.random.default_rng(0), []
    for split, planted in gains.items():
        for client in range(clients):
            floor = rng.uniform(0.3, 0.5)
            for method, gain in planted.items():
                value = float(np.clip(floor + gain + rng.normal(0, 0.01), 0, 1))
                rows.append(Row(f"{split}-{client}", split, 0, method, metric, value))
    known = make_facts(rows, clients * len(gains))
    return summarise(rows, RunFacts(**(known | (facts or {})))), rows


@pytest.fixture(scope="session")
def planted() -> Callable[..., Run]:
    return make_run


@pytest.fixture(scope="session")
def run() -> Run:
    """Ridge wins on ``new_rule`` and loses to the shared LoRA on ``combo``."""
    return make_run({"new_rule": GAINS, "combo": GAINS | {"shared_lora": 0.36, "mine": 0.25}})


def make_retrieval(clients: int = 12) -> Run:
    """Two splits of retrieval: recall rises with k; text to item is 5 points lower."""
    gains = {"zero_shot": 0.0, "topk": 0.1, "ridge": 0.35, "shared_full": 0.3}
    splits = dict.fromkeys(("new_combination", "new_element"), gains)
    rows = []
    for way, lower in (("i2t", 0.0), ("t2i", 0.05)):
        for k, rise in ((1, 0.0), (5, 0.08), (10, 0.15)):
            _, found = make_run(splits, metric=f"{way}_r{k}", clients=clients)
            rows += [replace(row, value=max(0.0, row.value + rise - lower)) for row in found]
    return summarise(rows, RunFacts(**make_facts(rows))), rows


@pytest.fixture(scope="session")
def retrieval() -> Run:
    return make_retrieval()
