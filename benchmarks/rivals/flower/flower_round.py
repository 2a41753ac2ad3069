"""Plain Flower: every virtual client is a node of its own and has messages of its own.

PYTHONPATH=.:benchmarks python benchmarks/rivals/flower/flower_round.py noop 200 OUT
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from rivals import work

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
    """The LoRA of the client that is named."""
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


def lora(grid: Grid, names: Sequence[str]) -> work.Round:
    """One round; each client has a node."""

    def once() -> np.ndarray:
        bodies = [told(work.start(), (name,)) for name in names]
        replies = asked(grid, "train.lora", bodies)
        return np.asarray(np.mean([vector(reply) for reply in replies], axis=0))

    return once


def simulated(client: ClientApp, nodes: int, made: Callable[[Grid], work.Round]) -> None:
    """The work in Flower's simulation, a core for each worker."""
    from flwr.simulation import run_simulation

    server = ServerApp()

    @server.main()
    def serve(grid: Grid, context: Context) -> None:
        work.report({sys.argv[1]: lambda _: made(grid)})

    run_simulation(
        server,
        client,
        nodes,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )


def main() -> None:
    """As many nodes as clients."""
    # Workers import it: what belongs to __main__ would be copied.
    from rivals.flower import flower_round

    kind, count = sys.argv[1], int(sys.argv[2])
    names = () if kind == "noop" else work.names(count)
    flower_round.simulated(
        flower_round.client,
        count,
        lambda grid: noop(grid, count) if kind == "noop" else lora(grid, names),
    )


if __name__ == "__main__":
    main()
