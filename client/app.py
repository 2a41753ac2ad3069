"""The Flower ClientApp: messages in, the library's work, messages out."""

from __future__ import annotations

import logging
import shlex
from functools import lru_cache

import torch
from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable

from sglora_fed.config import RunConfig, compose
from sglora_fed.config.overrides import quoted
from sglora_fed.errors import ClientTaskError, MessageError, SgloraError
from sglora_fed.federation.calibration import CalibrateRequest, compare
from sglora_fed.federation.functional import RoundRequest, train_round
from sglora_fed.federation.messages import AdoptRequest, DescribeRequest, TrainRequest
from sglora_fed.federation.node import (
    Node,
    adopt,
    describe,
    open_node,
    train_experts,
    train_shared,
)

logger = logging.getLogger(__name__)


def sanitised(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Answer a failure with a code: the text may hold what the user wrote, so it stays here."""
    try:
        return call_next(message, context)
    except Exception as error:  # noqa: BLE001 - whatever fails, its text must not leave the node
        code = error.code if isinstance(error, SgloraError) else ClientTaskError.code
        logger.error(
            "%s failed: %s, SGL-%d", message.metadata.message_type, type(error).__name__, code
        )
        return Message(Error(code, f"SGL-{code}"), reply_to=message)


app = ClientApp(mods=[sanitised])


def _node(context: Context) -> Node:
    """The node that this context means; an edge node may name its own task folder."""
    overrides = str(context.run_config.get("overrides", ""))
    folder = str(context.node_config.get("tasks", ""))
    partition = context.node_config.get("partition-id")
    partitions = context.node_config.get("num-partitions")
    if not isinstance(partition, int) or not isinstance(partitions, int):
        raise MessageError("node config needs integers partition-id and num-partitions")
    torch.set_num_threads(1)
    return open_node(_composed(overrides, folder), partition, partitions)


@lru_cache(maxsize=2)
def _composed(overrides: str, folder: str) -> RunConfig:
    """Once per process: in simulation one serves many messages."""
    own = ["family=local", f"family.path={quoted(folder)}"] if folder else []
    return compose([*shlex.split(overrides), *own])


@app.train("expert")
def train_expert(message: Message, context: Context) -> Message:
    """Train experts, or one round of the shared LoRA."""
    node = _node(context)
    request = TrainRequest.parse(message.content, node.layout.size)
    reply = train_experts(node, request) if request.start is None else train_shared(node, request)
    return Message(reply.pack(), reply_to=message)


@app.train("round")
def train_functional(message: Message, context: Context) -> Message:
    """One round of the functional generator."""
    node = _node(context)
    request = RoundRequest.parse(message.content, node.describer.dim, node.layout.size)
    return Message(train_round(node, request).pack(), reply_to=message)


@app.query("describe")
def query_describe(message: Message, context: Context) -> Message:
    """Answer with the virtual clients' privatised requests."""
    request = DescribeRequest.parse(message.content)
    return Message(describe(_node(context), request).pack(), reply_to=message)


@app.evaluate("adopt")
def evaluate_adopt(message: Message, context: Context) -> Message:
    """Check and measure the delivered adapters beside the client's alternatives."""
    node = _node(context)
    request = AdoptRequest.parse(message.content, node.layout.size)
    return Message(adopt(node, request).pack(), reply_to=message)


@app.evaluate("calibrate")
def evaluate_calibrate(message: Message, context: Context) -> Message:
    """Let experts compare adapters made without them with the fall-back."""
    node = _node(context)
    request = CalibrateRequest.parse(message.content, node.layout.size)
    return Message(compare(node, request).pack(), reply_to=message)
