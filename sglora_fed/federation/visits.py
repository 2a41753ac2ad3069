"""The service: nodes come and go, each is asked and served by itself, and none waits for another.

In every step the service looks which nodes are there, asks those that are due for their requests,
makes adapters for all requests that have come meanwhile together, and sends them. A node that is
silent, fails, lies, or asks for what cannot be made costs its own turn alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from sglora_fed.config.schema import FederationConfig
from sglora_fed.errors import MessageError
from sglora_fed.failures import code_of, told
from sglora_fed.federation.adopt import ADOPT, AdoptReply, AdoptRequest
from sglora_fed.federation.book import Book
from sglora_fed.federation.describe import DESCRIBE, DescribeReply, DescribeRequest
from sglora_fed.federation.exchange import NAME_BYTES, Federation
from sglora_fed.federation.post import pulled
from sglora_fed.federation.terms import Agreement

logger = logging.getLogger(__name__)

CLIENTS_AT_ONCE = 128
"""Whose adapters are in memory together: each may get one for every reading."""


class Maker(Protocol):
    """What makes adapters, and on which terms."""

    @property
    def agreement(self) -> Agreement:
        """Of what releases refer to."""
        ...

    def make(
        self, federation: Federation, replies: Sequence[DescribeReply]
    ) -> Sequence[AdoptRequest]:
        """What to send to some nodes, each for its own clients; all are one batch."""
        ...


class Witness(Protocol):
    """What is told of every event; no payload is in it."""

    def note(
        self, event: str, node: int, kind: str, seconds: float, reason: str = "", code: int = 0
    ) -> None:
        """Something happened with a node.

        Args:
            event: ``asked``, ``served``, ``refused``, ``failed`` or ``silent``.
            node: Flower's id.
            kind: of the message.
            seconds: since the node was first asked in this visit.
            reason: why it was refused or failed.
            code: of the service's own error that stood in its way; 0 for anything else.
        """
        ...


@dataclass(frozen=True)
class Pending:
    """A message that was sent and not answered.

    Attributes:
        node: to which it was sent.
        kind: of message.
        ids: virtual clients in it.
        begun: when the node was first asked in this visit, monotonic seconds.
        sent: when this message was sent, monotonic seconds.
    """

    node: int
    kind: str
    ids: tuple[str, ...]
    begun: float
    sent: float


@dataclass(frozen=True)
class _Ready:
    """Requests of a node that were accepted."""

    pending: Pending
    reply: DescribeReply


class Service:
    """Serves the nodes of a grid.

    Args:
        federation: the grid, and what fits.
        maker: of adapters.
        book: of the nodes.
        witness: of events.
    """

    def __init__(self, federation: Federation, maker: Maker, book: Book, witness: Witness) -> None:
        self._federation, self._maker = federation, maker
        self._book, self._witness = book, witness
        self._waiting: dict[str, Pending] = {}
        self._online: frozenset[int] = frozenset()

    @property
    def in_flight(self) -> int:
        """Messages that were not answered yet."""
        return len(self._waiting)

    @property
    def online(self) -> int:
        """Nodes that were there when the service looked last."""
        return len(self._online)

    def step(self) -> None:
        """Look once at all nodes and all replies.

        Raises:
            ResultsError: when the book cannot be written.
        """
        self._serve(self._collected())
        self._give_up()
        self._ask(self._due())

    def _due(self) -> list[int]:
        now, online = time.time(), frozenset(self._grid.get_node_ids())
        for node in online - self._online:
            self._book.note_back(node, now)
        self._online = online
        busy = {pending.node for pending in self._waiting.values()}
        return [node for node in sorted(online - busy) if self._book.is_due(node, now)]

    def _ask(self, nodes: Sequence[int]) -> None:
        now = time.monotonic()
        body = DescribeRequest(self._federation.seed, self._maker.agreement.terms)
        self._send([(Pending(node, DESCRIBE, (), now, now), body.pack()) for node in nodes])

    def _send(self, letters: Sequence[tuple[Pending, RecordDict]]) -> None:
        """Each in a call of its own: one that is too large must not take others with it."""
        for pending, body in letters:
            message = Message(body, pending.node, pending.kind, ttl=self._config.timeout)
            names = list(self._grid.push_messages([message]))
            if names and names[0]:
                self._waiting[names[0]] = pending
                self._note("asked", pending)
            else:
                self._failed(pending, "it could not be sent")

    def _collected(self) -> list[_Ready]:
        ready = []
        for name, pending in list(self._waiting.items()):
            if not (found := pulled(self._grid, name)):
                continue
            del self._waiting[name]
            try:
                reply = self._read(pending, found[0])
            except MessageError as error:
                self._failed(pending, str(error))
            except Exception as error:  # noqa: BLE001 - one node's reply ends no service of many
                self._could_not(pending, error)
            else:
                if reply is None:
                    self._served(pending)
                else:
                    ready.append(_Ready(pending, reply))
        return ready

    def _read(self, pending: Pending, message: Message | None) -> DescribeReply | None:
        """Requests; None for a confirmation."""
        if pending.kind == ADOPT:
            self._check_confirmed(pending, message)
            return None
        return self._described(pending, message)

    def _described(self, pending: Pending, message: Message | None) -> DescribeReply:
        agreement = self._maker.agreement
        reply = self._federation.read(
            pending.node,
            message,
            partial(DescribeReply.parse, agreement=agreement),
            self._config.clients_per_node * (agreement.mechanism.form.nbytes + NAME_BYTES),
            None,
        )
        if not reply.ids:
            raise MessageError("the node has no client")
        return reply

    def _check_confirmed(self, pending: Pending, message: Message | None) -> None:
        most = NAME_BYTES * len(pending.ids)
        reply = self._federation.read(pending.node, message, AdoptReply.parse, most, pending.ids)
        if len(reply.ids) < len(pending.ids):
            raise MessageError(f"{len(reply.ids)} of {len(pending.ids)} clients keep theirs")

    def _served(self, pending: Pending) -> None:
        self._book.note_served(pending.node, time.time())
        self._note("served", pending)

    def _serve(self, ready: Sequence[_Ready]) -> None:
        admitted = [one for one in ready if self._admitted(one)]
        for some in _together(admitted):
            self._send([(self._following(one), body) for one, body in self._made(some)])

    def _made(self, ready: Sequence[_Ready]) -> list[tuple[_Ready, RecordDict]]:
        """Each node's requests with its adapters; all are one batch for the generator.

        Where that fails, each is made alone: whoever it fails for is refused, and nobody else.
        """
        if not ready:
            return []
        try:
            requests = self._maker.make(self._federation, [one.reply for one in ready])
            return [(one, made.pack()) for one, made in zip(ready, requests, strict=True)]
        except Exception as error:  # noqa: BLE001 - one node's request ends no service of many
            if len(ready) > 1:
                return [pair for one in ready for pair in self._made([one])]
            self._could_not(ready[0].pending, error)
            return []

    def _could_not(self, pending: Pending, error: Exception) -> None:
        """Refuse a node that the service itself has failed for."""
        code = code_of(error)
        logger.error("node %d %s: SGL-%d\n%s", pending.node, pending.kind, code, told(error))
        self._book.note_failed(pending.node, time.time())
        self._note("refused", pending, f"SGL-{code}", code)

    def _following(self, one: _Ready) -> Pending:
        node, begun = one.pending.node, one.pending.begun
        return Pending(node, ADOPT, one.reply.ids, begun, time.monotonic())

    def _admitted(self, one: _Ready) -> bool:
        node = one.pending.node
        if all(self._book.admits(node, row) for row in one.reply.released):
            return True
        self._book.note_failed(node, time.time())
        self._note("refused", one.pending, "more different requests than a node may make")
        return False

    def _give_up(self) -> None:
        """On nodes that have been silent for too long."""
        latest = time.monotonic() - self._config.timeout
        for name, pending in list(self._waiting.items()):
            if pending.sent < latest:
                del self._waiting[name]
                self._failed(pending, "no answer", "silent")

    def _failed(self, pending: Pending, reason: str, event: str = "failed") -> None:
        self._book.note_failed(pending.node, time.time())
        self._note(event, pending, reason)

    def _note(self, event: str, pending: Pending, reason: str = "", code: int = 0) -> None:
        seconds = time.monotonic() - pending.begun
        self._witness.note(event, pending.node, pending.kind, seconds, reason, code)

    @property
    def _grid(self) -> Grid:
        return self._federation.grid

    @property
    def _config(self) -> FederationConfig:
        return self._federation.config.federation


def _together(ready: Sequence[_Ready]) -> Iterator[list[_Ready]]:
    """Nodes whose adapters are made at once: as many as have so many clients, or one."""
    some: list[_Ready] = []
    for one in ready:
        if some and sum(len(other.reply.ids) for other in (*some, one)) > CLIENTS_AT_ONCE:
            yield some
            some = []
        some.append(one)
    if some:
        yield some
