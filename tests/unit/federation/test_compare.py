"""What the server makes of nodes' results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sglora_fed.backbones.metrics import METRIC_SETS
from sglora_fed.config import compose
from sglora_fed.federation.compare import (
    MOST_SPLITS,
    CompareReply,
    Measured,
    agreeing,
    compare,
    delivered_bytes,
)

LABELLED, RETRIEVAL = METRIC_SETS


def measured(node: int, metrics: tuple[str, ...], clients: int) -> Measured:
    names = tuple(f"n{node}-{place}" for place in range(clients))
    values = np.full((clients, 2, len(metrics)), 0.5)
    splits = ("combo",) * clients
    return Measured(node, names, CompareReply(0, names, splits, metrics, values, np.zeros(2)))


def test_results_of_another_kind_of_task_are_left_out_however_many_there_are() -> None:
    honest = [measured(1, LABELLED, 2), measured(2, LABELLED, 2)]
    flood = [measured(3, RETRIEVAL, 50) for _ in range(10)]
    assert agreeing([*flood, *honest], "labelled") == honest
    assert agreeing([*flood, *honest], "retrieval") == flood
    # Results come in parts, and a part may be one liar's alone.
    assert agreeing(flood, "labelled") == []


def test_a_node_of_more_kinds_of_task_than_there_are_is_left_out() -> None:
    """Each kind has its panels in the report; thousands of them would fill the memory."""
    honest, one = measured(1, LABELLED, 20), measured(2, LABELLED, MOST_SPLITS + 1)
    many = replace(one, reply=replace(one.reply, splits=tuple(f"s{n}" for n in range(33))))
    assert agreeing([many, honest], "labelled") == [honest]
    # Not if they come one by one either.
    apart = [
        Measured(2, (f"c{n}",), replace(measured(2, LABELLED, 1).reply, splits=(f"s{n}",)))
        for n in range(33)
    ]
    assert agreeing([*apart, honest], "labelled") == [honest]
    fewer = [*apart[:MOST_SPLITS], honest]
    assert agreeing(fewer, "labelled") == fewer


@pytest.mark.parametrize(
    ("method", "shared", "needed"),
    [
        ("zero_shot", True, 0),
        ("oracle", True, 0),
        ("shared_full", True, 100),
        ("shared_lora", True, 100),
        ("soup", True, 100),
        ("generated_5shot", True, 800),
        ("functional", True, 800),
        ("shuffled", True, 800),
        # What it adopts and what it falls back to; without a shared LoRA that is no adapter.
        ("policy", True, 900),
        ("policy", False, 800),
    ],
)
def test_bytes_that_a_method_needs(method: str, shared: bool, needed: int) -> None:
    methods = "shared_lora," if shared else ""
    config = compose([f"experiment.methods=[{methods}functional,policy]"])
    assert delivered_bytes(method, config, 800, 100) == needed


@pytest.mark.parametrize("sizes", [(7, 1), (20, 5, 0), (6, 6), (0, 3)])
def test_each_node_gets_as_few_messages_as_can_hold_its_clients(sizes: tuple[int, ...]) -> None:
    """However many another has: in deployment each costs some seconds."""
    step, sent = 3, list[Mapping[int, np.ndarray]]()
    nodes = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))

    def ask_ahead(kind: str, rounds: Any, *_: Any) -> list[dict[int, Any]]:
        sent.extend(rounds)
        return [{} for _ in sent]

    told: Any = SimpleNamespace(
        nodes=tuple(range(len(sizes))),
        config=compose([f"federation.clients_per_message={step}"]),
        ask_ahead=ask_ahead,
    )
    delivery: Any = SimpleNamespace(
        rows=np.arange(len(nodes)), methods=("soup",), request=lambda *given: given[-1]
    )
    requests: Any = SimpleNamespace(nodes=nodes)
    assert not list(compare(told, requests, delivery))
    for node, size in enumerate(sizes):
        got = [message[node] for message in sent if node in message]
        assert len(got) == -(-size // step)
        assert all(0 < len(some) <= step for some in got)
        assert sorted(np.concatenate([[], *got])) == np.flatnonzero(nodes == node).tolist()
