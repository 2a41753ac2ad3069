"""The Flower ClientApp: messages in, the library's work, messages out."""

from __future__ import annotations

import gc
import logging
import shlex
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable

from sglora_fed.config import RunConfig, compose, home
from sglora_fed.config.overrides import quoted
from sglora_fed.errors import ClientTaskError, MessageError, SgloraError

if TYPE_CHECKING:  # each message loads what it needs: on an edge node a process starts for each
    from sglora_fed.federation.node import Node
    from sglora_fed.privacy.floor import Floor

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


def answered_by_owner(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Let a node of one's own answer for itself; all others carry virtual clients."""
    path = _own_file(context)
    if path is None:
        return call_next(message, context)
    from sglora_fed.edge.settings import is_own, read_node

    if not is_own(path):
        return call_next(message, context)
    _spare_collector()
    from sglora_fed.edge.answering import Answers

    config = _composed(_overrides(context), "")
    body = Answers(read_node(path), config).answer(message.metadata.message_type, message.content)
    return Message(body, reply_to=message)


@cache
def _spare_collector() -> None:
    """What Flower has loaded is here until the process ends: no work for the collector.

    Every import makes it walk through all there is, a tenth of a second for one message.
    """
    gc.freeze()


app = ClientApp(mods=[sanitised, answered_by_owner])


def _own_file(context: Context) -> Path | None:
    own = str(context.node_config.get("node", ""))
    return Path(own).expanduser() if own else None


def _overrides(context: Context) -> str:
    return str(context.run_config.get("overrides", ""))


def _node(context: Context) -> Node:
    """The node that this context means; an edge node may name its own folders."""
    import torch

    from sglora_fed.federation.node import open_node

    folder = str(context.node_config.get("tasks", ""))
    partition = context.node_config.get("partition-id")
    partitions = context.node_config.get("num-partitions")
    if not isinstance(partition, int) or not isinstance(partitions, int):
        raise MessageError("node config needs integers partition-id and num-partitions")
    torch.set_num_threads(1)
    adapters = str(context.node_config.get("adapters", ""))
    kept = Path(adapters).absolute() if adapters else None
    config = _composed(_overrides(context), folder)
    return open_node(config, partition, partitions, kept, _floor(context, config, partition))


def _floor(context: Context, config: RunConfig, partition: int) -> Floor:
    """What this node promises: its own file, or for virtual clients the run's configuration."""
    from sglora_fed.federation.virtual import is_virtual
    from sglora_fed.privacy.floor import UNTOLD, read_floor, virtual_floor

    if (own := _own_file(context)) is not None:
        return read_floor(own)
    if "tasks" in context.node_config or not is_virtual(context):
        return UNTOLD
    ledger = home() / "ledgers" / str(context.run_id) / str(partition)
    return virtual_floor(config.privacy, len(config.seeds), ledger)


@lru_cache(maxsize=2)
def _composed(overrides: str, folder: str) -> RunConfig:
    """Once per process: in simulation one serves many messages."""
    if folder:
        from sglora_fed.tasks.local import check_roles_told

        check_roles_told(Path(folder).expanduser())
    own = ["family=local", f"family.path={quoted(folder)}"] if folder else []
    return compose([*shlex.split(overrides), *own])


@app.train("expert")
def train_expert(message: Message, context: Context) -> Message:
    """Train experts."""
    from sglora_fed.federation.enrol import EnrolRequest, train_experts

    request = EnrolRequest.parse(message.content)
    return Message(train_experts(_node(context), request).pack(), reply_to=message)


@app.train("shared")
def train_shared(message: Message, context: Context) -> Message:
    """One round of the shared LoRA."""
    from sglora_fed.federation.shared import SharedRequest, train_shared_round

    node = _node(context)
    request = SharedRequest.parse(message.content, node.layout.size)
    return Message(train_shared_round(node, request).pack(), reply_to=message)


@app.train("round")
def train_generator(message: Message, context: Context) -> Message:
    """One round of a generator that is trained in the federation."""
    from sglora_fed.federation.rounds import RoundRequest, train_round

    node = _node(context)
    request = RoundRequest.parse(message.content, node.layout.size)
    return Message(train_round(node, request).pack(), reply_to=message)


@app.evaluate("calibrate")
def evaluate_calibrate(message: Message, context: Context) -> Message:
    """Let experts compare adapters made without them with the fall-back."""
    from sglora_fed.federation.calibrate import CalibrateRequest, judge

    node = _node(context)
    request = CalibrateRequest.parse(message.content, node.layout.size)
    return Message(judge(node, request).pack(), reply_to=message)


@app.query("describe")
def query_describe(message: Message, context: Context) -> Message:
    """Answer with the virtual clients' privatised requests."""
    from sglora_fed.federation.describe import DescribeRequest, describe

    request = DescribeRequest.parse(message.content)
    return Message(describe(_node(context), request).pack(), reply_to=message)


@app.evaluate("adopt")
def evaluate_adopt(message: Message, context: Context) -> Message:
    """Check the delivered adapters and keep them."""
    from sglora_fed.federation.adopt import AdoptRequest, adopt

    node = _node(context)
    request = AdoptRequest.parse(message.content, node.layout.size)
    return Message(adopt(node, request).pack(), reply_to=message)


@app.evaluate("compare")
def evaluate_compare(message: Message, context: Context) -> Message:
    """Measure the delivered adapters beside the client's alternatives."""
    from sglora_fed.federation.bench import measure
    from sglora_fed.federation.comparison import CompareRequest

    node = _node(context)
    request = CompareRequest.parse(message.content, node.layout.size)
    return Message(measure(node, request).pack(), reply_to=message)
