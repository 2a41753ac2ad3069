"""Plain Flower: every virtual client is a node of its own and has messages of its own.

    PYTHONPATH=.:benchmarks python benchmarks/rivals/flower/flower_round.py noop 200 OUT

``batched`` is our round beside it: the same runtime, two nodes that train several clients at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from rivals import work

CORES = 2
client = ClientApp()


@client.query("describe")
def describe(message: Message, context: Context) -> Message:
    """A client's vector."""
    return Message(arrays(work.description()), reply_to=message)


@client.evaluate("compare")
def compare(message: Message, context: Context) -> Message:
    """A number for the adapter that came."""
    value = work.measured(vector(message))
    return Message(RecordDict({"found": MetricRecord({"accuracy": value})}), reply_to=message)


@client.train("lora")
def train(message: Message, context: Context) -> Message:
    """The mean of the LoRAs of the clients that are named."""
    ids: Any = message.content.config_records["told"]["ids"]
    return Message(arrays(work.trained(tuple(ids), vector(message))), reply_to=message)


def arrays(row: np.ndarray) -> RecordDict:
    """One vector as a message's body."""
    return RecordDict({"row": ArrayRecord([row])})


def vector(message: Message) -> np.ndarray:
    """Back from a body."""
    return message.content.array_records["row"].to_numpy_ndarrays()[0]


def told(row: np.ndarray, ids: Sequence[str]) -> RecordDict:
    """Where to start, and who trains."""
    return RecordDict({"row": ArrayRecord([row]), "told": ConfigRecord({"ids": list(ids)})})


def asked(grid: Grid, kind: str, bodies: Sequence[RecordDict]) -> list[Message]:
    """One message to each node, and all replies.

    Raises:
        SystemError: when a node has failed.
    """
    nodes = sorted(grid.get_node_ids())
    messages = [
        Message(body, dst_node_id=node, message_type=kind)
        for node, body in zip(nodes, bodies, strict=True)
    ]
    replies = list(grid.send_and_receive(messages))
    if len(replies) < len(bodies) or any(reply.has_error() for reply in replies):
        raise SystemError(f"{len(bodies)} nodes, {len(replies)} replies, or errors among them")
    return replies


def noop(grid: Grid, count: int) -> work.Round:
    """Both exchanges, each client alone."""
    rows = work.adapters(count)

    def once() -> np.ndarray:
        said = asked(grid, "query.describe", [RecordDict()] * count)
        asked(grid, "evaluate.compare", [arrays(row) for row in rows])
        return np.asarray(np.stack([vector(reply) for reply in said]).mean(axis=0))

    return once


def lora(grid: Grid, groups: Sequence[Sequence[str]]) -> work.Round:
    """One round; a group has a node."""
    weights = np.array([len(group) for group in groups], float)

    def once() -> np.ndarray:
        bodies = [told(work.start(), group) for group in groups]
        replies = asked(grid, "train.lora", bodies)
        by_node = {reply.metadata.src_node_id: vector(reply) for reply in replies}
        means = np.stack([by_node[node] for node in sorted(by_node)])
        return np.asarray(np.average(means, axis=0, weights=weights))

    return once


def groups_of(kind: str, count: int) -> list[tuple[str, ...]]:
    """Who shares a message."""
    every = work.names(count)
    if kind == "batched":
        return [every[first::CORES] for first in range(CORES)]
    return [(name,) for name in every]


def main() -> None:
    """In Flower's simulation, with as many nodes as messages."""
    from flwr.simulation import run_simulation

    from rivals.flower import (
        flower_round,  # workers import it: what belongs to __main__ would be copied
    )

    kind, count = sys.argv[1], int(sys.argv[2])
    groups = [] if kind == "noop" else groups_of(kind, count)
    server = ServerApp()

    @server.main()
    def serve(grid: Grid, context: Context) -> None:
        made: Callable[[int], work.Round] = partial(noop, grid)
        work.report({kind: made if kind == "noop" else lambda _: lora(grid, groups)})

    run_simulation(
        server,
        flower_round.client,
        len(groups) or count,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )


if __name__ == "__main__":
    main()
