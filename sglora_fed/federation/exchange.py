"""The server's side of every exchange: send to nodes, wait, check, order what came back."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Generic, Protocol, TypeVar

import numpy as np
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from sglora_fed.adapters.layout import Layout
from sglora_fed.adapters.start import norm_bound
from sglora_fed.config.schema import FederationConfig, RunConfig
from sglora_fed.errors import MessageError, RepliesError
from sglora_fed.federation.codec import array_bytes, wire_bytes
from sglora_fed.federation.post import posted
from sglora_fed.federation.post import replies as received
from sglora_fed.federation.roster import Reply, Roster
from sglora_fed.units import lengths

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.1

SLACK_BYTES = 65_536
"""For headers, beyond the numbers and names that a reply must hold."""

NAME_BYTES = 80
"""Of an identifier in a message, at most."""

ROUNDING = 1e-6

ONE_REPLY = 1e-9
"""Share of the nodes that must answer where one will do: any above zero asks for one."""

Progress = Callable[[int, int], None]
"""Called with (done, total)."""

Reporter = Callable[[str], Progress]
"""From a stage's name to what is told its progress."""

Parsed = TypeVar("Parsed", bound=Reply)


class Request(Protocol):
    """What a node is asked."""

    @property
    def ids(self) -> tuple[str, ...] | None:
        """What the reply may be about; None where the node says itself what it has."""
        ...

    def pack(self) -> RecordDict:
        """The message body."""
        ...


Asked = TypeVar("Asked", bound=Request)


@dataclass(frozen=True)
class _Sent(Generic[Asked]):
    """Messages that are on their way.

    Attributes:
        requests: node -> what it was asked.
        waiting: message id -> the node that owes its answer.
    """

    requests: Mapping[int, Asked]
    waiting: Mapping[str, int]


@dataclass(frozen=True)
class Federation:
    """Who takes part in a run of one seed, and what fits.

    Attributes:
        grid: Flower's, or the in-process one.
        nodes: node ids.
        config: of the run.
        layout: of the adapters.
        dim: numbers of a description embedding, d.
        seed: of the run.
        reporter: of progress.
        roster: what each node may own.
        refusals: reasons of refused replies, in the order they came.
        traffic: (message type, ``down`` or ``up``) -> bytes of the arrays that were sent to nodes,
            and of those that were taken from them.
    """

    grid: Grid
    nodes: tuple[int, ...]
    config: RunConfig
    layout: Layout
    dim: int
    seed: int
    reporter: Reporter
    roster: Roster
    refusals: list[str] = field(default_factory=list)
    traffic: Counter[tuple[str, str]] = field(default_factory=Counter)

    def of_seed(self, seed: int) -> Federation:
        """The same nodes for another seed, with a zoo of its own; what they said binds them."""
        return replace(self, seed=seed, roster=self.roster.of_another_zoo())

    def ask(
        self,
        kind: str,
        requests: Mapping[int, Asked],
        parse: Callable[[Asked, RecordDict], Parsed],
        most_bytes: int,
        min_replies: float | None = None,
    ) -> dict[int, Parsed]:
        """Send one message per node and read the replies.

        Args:
            kind: message type.
            requests: node id -> what it is asked.
            parse: checks and reads the reply to a request; what it refuses counts as no reply.
            most_bytes: of the numbers and names that an honest reply holds.
            min_replies: share of all nodes of the run that must not fail; by default the configured
                one. As many as it spares may fail, also where only a few are asked: else the last
                one that is asked could end the run alone.

        Returns:
            Node id -> reply, in the order of the roster.

        Raises:
            RepliesError: when fewer usable replies came than are needed.
        """
        (found,) = self.ask_ahead(kind, [requests], parse, most_bytes, min_replies)
        return found

    def ask_ahead(
        self,
        kind: str,
        rounds: Iterable[Mapping[int, Asked]],
        parse: Callable[[Asked, RecordDict], Parsed],
        most_bytes: int,
        min_replies: float | None = None,
    ) -> Iterator[dict[int, Parsed]]:
        """As :meth:`ask`, round after round, of which none depends on another's replies.

        The next round is on its way before the replies to one are read: no node waits for the
        slowest, nor for the server.

        Yields:
            The replies to each round, in order.
        """
        before: _Sent[Asked] | None = None
        for requests in rounds:
            sent = self._send(kind, requests)
            if before is not None:
                yield self._received(kind, before, parse, most_bytes, min_replies)
            before = sent
        if before is not None:
            yield self._received(kind, before, parse, most_bytes, min_replies)

    def _send(self, kind: str, requests: Mapping[int, Asked]) -> _Sent[Asked]:
        messages = {node: Message(one.pack(), node, kind) for node, one in requests.items()}
        self.traffic[kind, "down"] += sum(array_bytes(one.content) for one in messages.values())
        return _Sent(requests, posted(self.grid, messages))

    def _received(
        self,
        kind: str,
        sent: _Sent[Asked],
        parse: Callable[[Asked, RecordDict], Parsed],
        most_bytes: int,
        min_replies: float | None,
    ) -> dict[int, Parsed]:
        """What has come of a round, when all have answered or the time is over."""
        started = time.monotonic()
        replies: dict[int, Parsed] = {}
        refused: list[str] = []
        for node, message in received(self.grid, sent.waiting, self.config.federation.timeout):
            request = sent.requests[node]
            try:
                read = partial(parse, request)
                replies[node] = self.read(node, message, read, most_bytes, request.ids)
                self.traffic[kind, "up"] += array_bytes(_body(message))
            except MessageError as error:
                refused.append(str(error))
                logger.warning("%s: reply refused: %s", kind, error)
        self.refusals.extend(refused)
        seconds, asked = time.monotonic() - started, len(sent.requests)
        logger.info("%s: %d of %d nodes, %.1f s", kind, len(replies), asked, seconds)
        self._check_enough(kind, len(replies), asked - self._spared(min_replies), refused)
        return dict(sorted(replies.items(), key=lambda item: self.roster.place(item[0])))

    def read(
        self,
        node: int,
        message: Message | None,
        parse: Callable[[RecordDict], Parsed],
        most_bytes: int,
        about: Collection[str] | None,
    ) -> Parsed:
        """A node's reply, parsed, and held against what it was asked and what it may own.

        Args:
            node: that owes it.
            message: as it came; None for one that cannot be read.
            parse: checks and reads its body.
            most_bytes: of the numbers and names that an honest reply holds.
            about: ids that it was asked about; None where it says itself what it has.

        Raises:
            MessageError: for whatever is no honest reply.
        """
        body = _body(message)
        if (size := wire_bytes(body)) > most_bytes + SLACK_BYTES:
            raise MessageError(f"a reply of {size} bytes; at most {most_bytes + SLACK_BYTES}")
        reply = parse(body)
        if about is not None and (foreign := set(reply.ids) - set(about)):
            raise MessageError(f"{len(foreign)} {reply.about} that were not asked")
        self.roster.admit(node, reply)
        return reply

    def _spared(self, min_replies: float | None) -> int:
        """Nodes that may fail."""
        share = self.config.federation.min_replies if min_replies is None else min_replies
        # 0.55 * 20 is a little more than 11.
        return len(self.nodes) - max(1, math.ceil(share * len(self.nodes) - ROUNDING))

    def _check_enough(self, kind: str, usable: int, needed: int, refused: list[str]) -> None:
        if usable < needed:
            silence = f"no answer within {self.config.federation.timeout:.0f} s"
            reasons = "; ".join(sorted(set(refused))) or silence
            raise RepliesError(f"{kind}: {usable} usable replies, need {needed}: {reasons}")

    def check_norms(self, rows: np.ndarray, times: float = 1.0) -> None:
        """Refuse vectors that no training could have made: one would spoil all made with it.

        Args:
            rows: [n, D].
            times: the bound's multiple; a difference of two adapters may be twice as long.

        Raises:
            MessageError: when the largest norm is beyond the bound.
        """
        largest = float(lengths(rows).max(initial=0.0))
        if largest > (most := times * norm_bound(self.layout)):
            raise MessageError(f"a vector has norm {largest:.4g}; at most {most:.4g}")


def _body(message: Message | None) -> RecordDict:
    """What a reply holds; a MessageError for one that failed, or holds no records."""
    if message is None or not (message.has_error() or message.has_content()):
        raise MessageError("a reply that cannot be read")
    if message.has_error():
        raise MessageError(f"a client failed with code {message.error.code}")
    if not isinstance(message.content, RecordDict):
        raise MessageError(f"a reply that is a {type(message.content).__name__}, no records")
    return message.content


def wait_for_nodes(grid: Grid, config: FederationConfig) -> tuple[int, ...]:
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
    return tuple(nodes)
