"""``query.describe``: a node answers with its clients' privatised description embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from flwr.app import RecordDict

from sglora_fed.errors import RepliesError
from sglora_fed.federation.codec import MOST_CLIENTS, MOST_SEED, Reader, pack, unit_rows
from sglora_fed.federation.exchange import NAME_BYTES, Federation
from sglora_fed.federation.node import Node, spoken
from sglora_fed.federation.roster import Part
from sglora_fed.privacy import Mechanism, make_mechanism
from sglora_fed.privacy.ledger import Request as LedgerRequest
from sglora_fed.tasks.types import Task

DESCRIBE = "query.describe"


@dataclass(frozen=True)
class DescribeRequest:
    """Ask a node for its virtual clients' requests."""

    seed: int

    def pack(self) -> RecordDict:
        """The message body."""
        return pack({"seed": self.seed}, {})

    @classmethod
    def parse(cls, body: RecordDict) -> DescribeRequest:
        """Check and read a body."""
        return cls(Reader(body).integer("seed", 0, MOST_SEED))


@dataclass(frozen=True)
class DescribeReply:
    """The requests of a node's virtual clients.

    Attributes:
        partition: of the node.
        ids: n virtual clients; opaque to the server.
        embeddings: [n, d] privatised description embeddings, unit rows; they travel in half
            precision.
    """

    about: ClassVar[Part] = "clients"
    partition: int
    ids: tuple[str, ...]
    embeddings: np.ndarray

    def pack(self) -> RecordDict:
        """The message body."""
        fields = {"partition": self.partition, "ids": list(self.ids)}
        return pack(fields, {"embeddings": self.embeddings.astype(np.float16)})

    @classmethod
    def parse(cls, body: RecordDict, dim: int) -> DescribeReply:
        """Check and read a body; ``dim`` is d."""
        read = Reader(body)
        ids = read.identifiers("ids", MOST_CLIENTS)
        return cls(
            partition=read.integer("partition", 0, MOST_CLIENTS),
            ids=ids,
            embeddings=unit_rows(
                read.array("embeddings", "float16", (len(ids), dim)).astype(np.float32)
            ),
        )


@dataclass(frozen=True)
class Requests:
    """All virtual clients' requests, ordered by name.

    Attributes:
        names: n names, all different: a client's own id, unless another node has used it.
        own_ids: what their nodes call them.
        nodes: [n] the node that carries each.
        embeddings: [n, d] privatised.
    """

    names: tuple[str, ...]
    own_ids: tuple[str, ...]
    nodes: np.ndarray
    embeddings: np.ndarray

    def of_node(self, node: int) -> np.ndarray:
        """Rows of a node's clients."""
        return np.flatnonzero(self.nodes == node)

    def called(self, rows: np.ndarray) -> tuple[str, ...]:
        """The own ids in some rows."""
        return tuple(self.own_ids[row] for row in rows)


def collect_requests(federation: Federation) -> Requests:
    """Ask every node for its virtual clients' privatised description embeddings.

    Raises:
        RepliesError: when too few nodes answer, or there is no client.
    """
    most = federation.config.federation.clients_per_node
    replies = federation.ask(
        DESCRIBE,
        dict.fromkeys(federation.nodes, DescribeRequest(federation.seed).pack()),
        lambda _, body: DescribeReply.parse(body, federation.dim),
        most * (2 * federation.dim + NAME_BYTES),
    )
    found = [(own, node) for node, reply in replies.items() for own in reply.ids]
    if not found:
        raise RepliesError(f"{DESCRIBE}: {len(replies)} nodes have no client; need at least one")
    names = [federation.roster.client_name(node, own) for own, node in found]
    order = np.argsort(np.array(names))
    embeddings = np.concatenate([reply.embeddings for reply in replies.values()])
    nodes = np.array([node for _, node in found], object)
    own_ids = tuple(found[i][0] for i in order)
    return Requests(tuple(names[i] for i in order), own_ids, nodes[order], embeddings[order])


def describe(node: Node, request: DescribeRequest) -> DescribeReply:
    """The requests of the node's virtual clients: embed on the device, privatise, and pay.

    Raises:
        PromiseError: when the run asks for less than the node promises; nothing was drawn.
        BudgetError, LedgerError: when it cannot be paid; nothing leaves.
    """
    config, tasks = node.config.privacy, list(node.clients.values())
    mechanism = make_mechanism(config, node.describer.dim)
    node.floor.check(config.mechanism, mechanism.epsilon, mechanism.delta)
    released = release(node, mechanism, [words(task, request.seed) for task in tasks])
    return DescribeReply(node.partition, tuple(task.id for task in tasks), released)


def release(node: Node, mechanism: Mechanism, said: Sequence[str]) -> np.ndarray:
    """[n, ...] what the server may see of what the node's clients say, in their order.

    What promises something goes through the ledger: debited before it is released.
    """
    clear = node.embed(said)
    if not said or mechanism.epsilon is None:
        released = [mechanism.release(embedding) for embedding in clear]
        return np.array(released, mechanism.form.dtype).reshape(len(said), *mechanism.form.shape)
    requests = [
        LedgerRequest(name, words, node.describer.fingerprint)
        for name, words in zip(node.clients, said, strict=True)
    ]
    return node.floor.opened().release_all(requests, mechanism, clear)


def words(task: Task, seed: int) -> str:
    """The words this client uses for its task in a run: its description or a paraphrase."""
    choices = (task.description, *task.paraphrases)
    return choices[spoken(task.id, len(choices), seed)]
