"""Virtual clients without a model: they read and check what they get, and answer constants."""

from __future__ import annotations

import shlex

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from sglora_fed.federation.comparison import CompareReply, CompareRequest
from sglora_fed.federation.describe import DescribeReply

app = ClientApp()

DIM = 384
"""Numbers of a description embedding, d."""


def told(context: Context) -> tuple[int, int, int]:
    """Partition, clients of this node, and D."""
    clients, size, _ = map(int, shlex.split(str(context.run_config["overrides"])))
    partition = int(str(context.node_config["partition-id"]))
    nodes = int(str(context.node_config["num-partitions"]))
    return partition, len(range(partition, clients, nodes)), size


@app.query("describe")
def describe(message: Message, context: Context) -> Message:
    """One unit vector for each client."""
    partition, count, _ = told(context)
    rows = np.full((count, DIM), DIM**-0.5, np.float32)
    ids = tuple(f"client-{partition}-{number}" for number in range(count))
    return Message(DescribeReply(partition, ids, rows).pack(), reply_to=message)


@app.evaluate("compare")
def compare(message: Message, context: Context) -> Message:
    """Read the adapters, which checks them, and answer a number for each client."""
    partition, _, size = told(context)
    request = CompareRequest.parse(message.content, size)
    reply = CompareReply(
        partition=partition,
        ids=request.ids,
        splits=("any",) * len(request.ids),
        metrics=("accuracy",),
        values=np.zeros((len(request.ids), len(request.methods), 1)),
        seconds=np.zeros(len(request.methods)),
    )
    return Message(reply.pack(), reply_to=message)
