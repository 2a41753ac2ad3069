"""``query.describe``: a node answers with its clients' privatised description embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from flwr.app import RecordDict

from sglora_fed.backbones.types import Describer
from sglora_fed.errors import RepliesError
from sglora_fed.federation.codec import MOST_CLIENTS, MOST_SEED, Reader, pack
from sglora_fed.federation.exchange import NAME_BYTES, Federation
from sglora_fed.federation.node import Node, spoken
from sglora_fed.federation.roster import Part
from sglora_fed.federation.terms import Agreement, Terms, agree, check_terms, in_clear
from sglora_fed.privacy.floor import Floor
from sglora_fed.privacy.ledger import Request as LedgerRequest
from sglora_fed.privacy.mechanisms import promise
from sglora_fed.tasks.types import Task

DESCRIBE = "query.describe"


ARRAYS = {"float16": "embeddings", "uint16": "places", "uint64": "shares"}
"""Type of a release -> what a message calls it."""


@dataclass(frozen=True)
class DescribeRequest:
    """Ask a node for its virtual clients' requests.

    Attributes:
        seed: of the run.
        terms: what releases refer to.
    """

    ids: ClassVar[None] = None
    seed: int
    terms: Terms = field(default_factory=Terms)

    def pack(self) -> RecordDict:
        """The message body."""
        return pack({"seed": self.seed, **self.terms.fields()}, self.terms.arrays())

    @classmethod
    def parse(cls, body: RecordDict) -> DescribeRequest:
        """Check and read a body."""
        read = Reader(body)
        return cls(read.integer("seed", 0, MOST_SEED), Terms.read(read))


@dataclass(frozen=True)
class DescribeReply:
    """The requests of a node's virtual clients.

    Attributes:
        partition: of the node.
        ids: n virtual clients; opaque to the server.
        released: [n, ...] what the mechanism lets out of each description: vectors, which travel in
            half precision, places of a catalogue, or numbers of a ring.
    """

    about: ClassVar[Part] = "clients"
    partition: int
    ids: tuple[str, ...]
    released: np.ndarray

    def pack(self) -> RecordDict:
        """The message body."""
        fields = {"partition": self.partition, "ids": list(self.ids)}
        vectors = self.released.dtype.kind == "f"
        released = self.released.astype(np.float16) if vectors else self.released
        return pack(fields, {ARRAYS[released.dtype.name]: released})

    @classmethod
    def parse(cls, body: RecordDict, agreement: Agreement) -> DescribeReply:
        """Check and read a body."""
        read, form = Reader(body), agreement.mechanism.form
        ids = read.identifiers("ids", MOST_CLIENTS)
        released = read.array(ARRAYS[form.dtype], form.dtype, (len(ids), *form.shape))
        agreement.decoded(released)
        if form.dtype == "float16":
            released = released.astype(np.float32)
        return cls(read.integer("partition", 0, MOST_CLIENTS), ids, released)


@dataclass(frozen=True)
class Requests:
    """All virtual clients' requests, ordered by name.

    Attributes:
        names: n names, all different: a client's own id, unless another node has used it.
        own_ids: what their nodes call them.
        nodes: [n] the node that carries each.
        released: [n, ...] what came of each description.
        embeddings: [n, m, d] what adapters are made for, m of each: unit vectors.
    """

    names: tuple[str, ...]
    own_ids: tuple[str, ...]
    nodes: np.ndarray
    released: np.ndarray
    embeddings: np.ndarray

    def of_node(self, node: int) -> np.ndarray:
        """Rows of a node's clients."""
        return np.flatnonzero(self.nodes == node)

    def called(self, rows: np.ndarray) -> tuple[str, ...]:
        """The own ids in some rows."""
        return tuple(self.own_ids[row] for row in rows)


def collect_requests(federation: Federation, agreement: Agreement | None = None) -> Requests:
    """Ask every node for its virtual clients' privatised descriptions.

    Args:
        federation: who takes part.
        agreement: mechanism and terms; None: embeddings in clear.

    Raises:
        RepliesError: when too few nodes answer, or there is no client.
    """
    agreement = agreement or in_clear(federation.dim)
    most = federation.config.federation.clients_per_node
    asked = DescribeRequest(federation.seed, agreement.terms)
    replies = federation.ask(
        DESCRIBE,
        dict.fromkeys(federation.nodes, asked),
        lambda _, body: DescribeReply.parse(body, agreement),
        most * (agreement.mechanism.form.nbytes + NAME_BYTES),
    )
    found = [(own, node) for node, reply in replies.items() for own in reply.ids]
    if not found:
        raise RepliesError(f"{DESCRIBE}: {len(replies)} nodes have no client; need at least one")
    names = [federation.roster.client_name(node, own) for own, node in found]
    order = np.argsort(np.array(names))
    released = np.concatenate([reply.released for reply in replies.values()])[order]
    nodes = np.array([node for _, node in found], object)
    return Requests(
        tuple(names[i] for i in order),
        tuple(found[i][0] for i in order),
        nodes[order],
        released,
        agreement.decoded(released),
    )


def describe(node: Node, request: DescribeRequest) -> DescribeReply:
    """The requests of the node's virtual clients: embed on the device, privatise, and pay.

    Raises:
        PromiseError: when the run asks for less than the node promises; nothing was drawn.
        CatalogueError, PrivacyError: when the two sides do not mean the same; nor then.
        BudgetError, LedgerError: when it cannot be paid; nothing leaves.
    """
    node.floor.check(node.config.privacy.mechanism, *promise(node.config.privacy))
    agreement = agree(node.config, node.describer, request.terms, node.catalogue)
    check_terms(agreement, request.terms)
    tasks = list(node.clients.values())
    said = [words(task, request.seed) for task in tasks]
    return DescribeReply(
        node.partition, tuple(task.id for task in tasks), release(node, agreement, said)
    )


def release(node: Node, agreement: Agreement, said: Sequence[str]) -> np.ndarray:
    """[n, ...] what the server may see of what the node's clients say, in their order."""
    nothing = not agreement.mechanism.form.nbytes
    clear = np.empty((len(said), node.describer.dim)) if nothing else node.embed(said)
    return let_out(agreement, node.describer, node.floor, list(node.clients), said, clear)


def let_out(
    agreement: Agreement,
    describer: Describer,
    floor: Floor,
    names: Sequence[str],
    said: Sequence[str],
    clear: np.ndarray,
) -> np.ndarray:
    """[n, ...] what the mechanism releases; what costs something is debited in the ledger first.

    Args:
        agreement: with the mechanism.
        describer: that made the embeddings.
        floor: whose ledger it is.
        names: n, under which each is debited.
        said: the words of each.
        clear: [n, d] their embeddings.

    Raises:
        BudgetError, LedgerError: when it cannot be paid; nothing leaves.
    """
    mechanism, form = agreement.mechanism, agreement.mechanism.form
    if not said or not mechanism.epsilon:
        released = [mechanism.release(embedding) for embedding in clear]
        return np.array(released, form.dtype).reshape(len(said), *form.shape)
    public = agreement.public(describer)
    requests = [LedgerRequest(name, words, public) for name, words in zip(names, said, strict=True)]
    return floor.opened().release_all(requests, mechanism, clear)


def words(task: Task, seed: int) -> str:
    """The words this client uses for its task in a run: its description or a paraphrase."""
    choices = (task.description, *task.paraphrases)
    return choices[spoken(task.id, len(choices), seed)]
