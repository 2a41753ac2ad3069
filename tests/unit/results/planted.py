"""A run whose differences are planted."""

from __future__ import annotations

import numpy as np

from sglora_fed.results.rows import Row
from sglora_fed.results.summary import RunFacts

FACTS = RunFacts(
    name="trial",
    generator="ridge",
    seeds=(0, 1),
    seconds=3.0,
    config_sha256="ab" * 32,
    versions={"numpy": "2"},
    experts=5,
    clients=2,
    virtual_clients_per_node=1,
    refused_replies=3,
    distrusted_experts=2,
    privacy={"mechanism": "none", "epsilon": None, "delta": None, "unit": "one description, local"},
    bytes_per_client={"up": 1540, "down": 100},
    seconds_by_stage={"experts": 1.0, "fit": 0.1, "generate_per_adapter": 0.001, "evaluate": 1.0},
    seconds_by_method={"oracle": 2.5},
    bytes_by_method={"ridge": 100},
    confidence={"a": (0.9, 0.1, 0.7), "b": (0.2, 1.3, 0.4)},
    command="sglora-fed simulate",
    nodes={"count": 1, "peak_mb": [512], "bytes": {"train.shared": {"down": 8, "up": 16}}},
)


def rows_of(split: str = "combo", seed: int = 0, **values: list[float]) -> list[Row]:
    """Rows of one metric: method -> the clients' values."""
    return [
        Row(f"{split}-{client}", split, seed, method, "accuracy", value)
        for method, own in values.items()
        for client, value in enumerate(own)
    ]


def planted(clients: int = 60) -> list[Row]:
    """Ridge is 10 points above topk for each client, whatever the client's hardness."""
    rng = np.random.default_rng(0)
    floor = rng.uniform(0.2, 0.5, clients)
    noise = rng.normal(0, 0.01, (2, clients))
    return rows_of(
        zero_shot=list(floor),
        topk=list(floor + 0.1 + noise[0]),
        ridge=list(floor + 0.2 + noise[1]),
        oracle=list(floor + 0.4),
    )
