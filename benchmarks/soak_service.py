"""The service for Flower nodes over many requests: does its memory stay where it is?

    python benchmarks/soak_service.py [--requests 10000] [--nodes 200]

Writes ``results/soak-service.json``: memory of this process after each tenth of the requests. The
service is the real one (``goal=serve``: zoo, generator, book, log of events) on the grid of this
process; its nodes are played by this script, which releases another random direction in each visit.
One node in ten fails, lies or is silent instead: what is left behind of it counts as well.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from flwr.app import Error, Message
from flwr.clientapp import ClientApp

import machine

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "edge"))

from sglora_fed.config import compose
from sglora_fed.experiments.serve import serve_while
from sglora_fed.experiments.witness import COUNTERS, KINDS
from sglora_fed.federation.adopt import ADOPT, AdoptReply
from sglora_fed.federation.describe import DESCRIBE, DescribeReply
from sglora_fed.federation.inprocess import InProcessGrid
from sglora_fed.federation.visits import Service
from small_zoo import random_zoo

OVERRIDES = (
    *("generator=ridge", "privacy=privunit", "privacy.epsilon=8"),
    *("federation.ask_again=0.001", "federation.retry_after=0.001", "federation.timeout=1"),
    "federation.requests_per_node=1000000",
)
DIM = 384
LOOKS = 8
"""Of one step each: in these the requests of all nodes come and are served."""

GROWTH = 0.05
"""Of memory from a tenth of the requests to the last."""


class PlayedNodes(InProcessGrid):
    """Nodes that cost next to nothing; one in ten is of no use.

    Args:
        nodes: how many.
    """

    def __init__(self, nodes: int) -> None:
        super().__init__(ClientApp(), nodes, {})
        self._rng = np.random.default_rng(0)
        self.served = 0

    def _answer(self, message: Message) -> Message | None:
        node, described = message.metadata.dst_node_id, message.metadata.message_type == DESCRIBE
        if node % 10 == 0:
            return self._useless(message)
        body: Any = self._request(node) if described else AdoptReply(node % 1000, ("owner",))
        return Message(body.pack(), reply_to=message)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies to some messages, once; confirmations are counted."""
        found = list(super().pull_messages(message_ids))
        self.served += sum(one.metadata.message_type == ADOPT for one in found)
        return found

    def _request(self, node: int, bound: float = 1.0) -> DescribeReply:
        row = self._rng.normal(size=(1, DIM))
        row *= bound / np.linalg.norm(row)
        return DescribeReply(node % 1000, ("owner",), row.astype(np.float32))

    def _useless(self, message: Message) -> Message | None:
        kind = self._rng.integers(3)
        if kind == 0:
            return None
        if kind == 1:
            return Message(Error(704, "SGL-704"), reply_to=message)
        return Message(self._request(0, bound=9.0).pack(), reply_to=message)


def megabytes() -> float:
    """Of this process."""
    return float(psutil.Process().memory_info().rss) / 1e6


def soak(folder: Path, nodes: int, requests: int) -> dict[str, Any]:
    """Serve until so many adapters were adopted."""
    random_zoo(folder / "zoo", list(OVERRIDES))
    grid, memory = PlayedNodes(nodes), list[float]()
    looks, started = list[float](), time.monotonic()

    def wanted(_: Service) -> bool:
        """Adapters that are on their way are no growth: the least of the last looks counts."""
        looks.append(megabytes())
        while grid.served >= len(memory) * requests / 10 and len(memory) <= 10:
            memory.append(min(looks[-LOOKS:]))
        return grid.served < requests

    config = compose([*OVERRIDES, f"zoo.path={folder / 'zoo'}"])
    serve_while(config, grid, folder / "out", wanted, lambda: time.sleep(0.002))
    growth = memory[-1] / memory[1] - 1
    counters = json.loads((folder / "out" / COUNTERS).read_text())
    return {
        "nodes": nodes,
        "events": {kind: counters[kind] for kind in KINDS},
        "steps": len(looks),
        "seconds": round(time.monotonic() - started, 1),
        "megabytes": [round(value, 1) for value in memory],
        "growth": round(growth, 4),
        "reached": growth <= GROWTH and counters["served"] >= requests,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Soak and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=200)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = soak(Path(folder), given.nodes, given.requests)
    machine.write("soak-service", machine.facts("flwr", "numpy") | found)


if __name__ == "__main__":
    main()
