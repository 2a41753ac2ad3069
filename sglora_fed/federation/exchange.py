"""The server's side of an exchange: send to nodes, wait, check, and order what came back."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from sglora_fed.config.schema import FederationConfig
from sglora_fed.errors import MessageError, RepliesError

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.1


class _FromPartition(Protocol):
    @property
    def partition(self) -> int: ...


Parsed = TypeVar("Parsed", bound=_FromPartition)


def wait_for_nodes(grid: Grid, config: FederationConfig) -> list[int]:
    """Node ids once all wanted nodes have registered.

    Raises:
        RepliesError: when too few have by the time limit.
    """
    deadline = time.monotonic() + config.timeout
    while len(nodes := sorted(grid.get_node_ids())) < config.nodes:
        if time.monotonic() > deadline:
            raise RepliesError(
                f"{len(nodes)} of {config.nodes} nodes after {config.timeout:.0f} s; start more"
                " nodes or lower federation.nodes"
            )
        time.sleep(POLL_SECONDS)
    return nodes


def exchange(
    grid: Grid,
    bodies: Mapping[int, RecordDict],
    kind: str,
    parse: Callable[[int, RecordDict], Parsed],
    config: FederationConfig,
    refused: list[str],
) -> dict[int, Parsed]:
    """Send one message per node and read the replies.

    Args:
        grid: Flower's, or the in-process one.
        bodies: node id -> body.
        kind: message type.
        parse: checks and reads a node's reply; what it refuses counts as no reply.
        config: time limit and the share of replies needed.
        refused: the reason of every refusal is added here.

    Returns:
        Node id -> reply, ordered by partition (node ids are random).

    Raises:
        RepliesError: when fewer usable replies came than ``min_replies`` asks for.
    """
    messages = [Message(body, node, kind) for node, body in bodies.items()]
    replies: dict[int, Parsed] = {}
    refusals: list[str] = []
    for message in grid.send_and_receive(messages, timeout=config.timeout):
        node = message.metadata.src_node_id
        if message.has_error():
            refusals.append(f"a client failed with code {message.error.code}")
            continue
        try:
            replies[node] = parse(node, message.content)
        except MessageError as error:
            refusals.append(str(error))
    refused += refusals
    _check_enough(len(replies), len(messages), kind, refusals, config)
    return dict(sorted(replies.items(), key=lambda item: item[1].partition))


def _check_enough(
    usable: int, sent: int, kind: str, refusals: list[str], config: FederationConfig
) -> None:
    needed = math.ceil(config.min_replies * sent)
    for refusal in refusals:
        logger.warning("%s: reply refused: %s", kind, refusal)
    if usable < needed:
        reasons = "; ".join(sorted(set(refusals))) or f"no answer within {config.timeout:.0f} s"
        raise RepliesError(f"{kind}: {usable} usable replies of {sent}, need {needed}: {reasons}")
