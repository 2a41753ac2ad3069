"""Virtual clients without a model: they read and check what they get, and answer constants."""

from __future__ import annotations

import shlex

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from sglora_fed.federation.messages import AdoptReply, AdoptRequest, DescribeReply

app = ClientApp()


def sizes(context: Context) -> tuple[int, int, int, int]:
    """Partition, clients of this node, d and D."""
    words = shlex.split(str(context.run_config["overrides"]))
    partition = int(context.node_config["partition-id"])
    nodes = int(context.node_config["num-partitions"])
    return partition, len(range(partition, int(words[0]), nodes)), int(words[1]), int(words[2])


@app.query("describe")
def describe(message: Message, context: Context) -> Message:
    """One unit vector for each client."""
    partition, count, dim, _ = sizes(context)
    rows = np.full((count, dim), dim**-0.5, np.float32)
    ids = tuple(f"client-{partition}-{number}" for number in range(count))
    return Message(DescribeReply(partition, ids, rows).pack(), reply_to=message)


@app.evaluate("adopt")
def adopt(message: Message, context: Context) -> Message:
    """Read the adapters, which checks them, and answer a number for each client."""
    partition, _, _, size = sizes(context)
    request = AdoptRequest.parse(message.content, size)
    reply = AdoptReply(
        partition=partition,
        ids=request.ids,
        splits=("any",) * len(request.ids),
        methods=request.methods,
        metrics=("accuracy",),
        values=np.zeros((len(request.ids), len(request.methods), 1)),
        seconds=np.zeros(len(request.methods)),
    )
    return Message(reply.pack(), reply_to=message)
