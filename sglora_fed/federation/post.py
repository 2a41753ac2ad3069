"""Messages out, replies in; whose a reply is, is known by the message that it answers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from struct import error as StructError

from flwr.app import Message
from flwr.serverapp import Grid
from google.protobuf.message import DecodeError

SHORTEST, LONGEST, SHARE = 0.02, 0.5, 0.05
"""Seconds between two looks for replies, and their share of the time that has been waited: a round
in simulation takes a second or two, and dozens of them follow one another."""

MALFORMED = (
    ArithmeticError,
    AttributeError,
    DecodeError,
    LookupError,
    MemoryError,
    RecursionError,
    StructError,
    TypeError,
    ValueError,
)
"""What Flower raises for objects that it cannot put together: a node may upload any bytes."""


def posted(grid: Grid, messages: Mapping[int, Message]) -> dict[str, int]:
    """Send a message to each node.

    Args:
        grid: Flower's, or the in-process one.
        messages: node -> what it is sent.

    Returns:
        Message id -> the node that owes its answer. Flower names no message that is too large to be
        sent: that node is as good as silent.
    """
    sent = zip(grid.push_messages(list(messages.values())), messages, strict=False)
    return {name: node for name, node in sent if name}


def replies(
    grid: Grid, waiting: Mapping[str, int], timeout: float
) -> Iterator[tuple[int, Message | None]]:
    """The first answer to each of some messages, as answers come.

    Each reply is asked for by its message's id: the SuperLink knows which node owes that one, while
    all that a reply says of itself, its sender included, is the sender's own word
    (``send_and_receive`` takes it, and one reply that cannot be read ends the whole exchange).

    Args:
        grid: Flower's, or the in-process one.
        waiting: message id -> node, as :func:`posted` says.
        timeout: seconds to wait.

    Yields:
        Node, and its reply or None for one that cannot be read; nothing for a node that is silent.
    """
    left, started = dict(waiting), time.monotonic()
    while left:
        for name, node in list(left.items()):
            if found := pulled(grid, name):
                del left[name]
                yield node, found[0]
        if not left or (waited := time.monotonic() - started) > timeout:
            return
        time.sleep(pause(waited))


def pause(waited: float) -> float:
    """Seconds until the next look, after so many."""
    return min(max(SHORTEST, SHARE * waited), LONGEST)


def pulled(grid: Grid, name: str) -> list[Message | None]:
    """What there is in answer to the message of this id."""
    try:
        return list(grid.pull_messages([name]))
    except MALFORMED:
        return [None]
