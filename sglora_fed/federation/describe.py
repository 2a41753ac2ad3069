"""``query.describe``: a node answers with its clients' privatised description embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from flwr.app import RecordDict

from sglora_fed.backbones.types import Describer
from sglora_fed.errors import MessageError, RepliesError
from sglora_fed.federation.codec import MOST_CLIENTS, MOST_SEED, Reader, pack
from sglora_fed.federation.exchange import NAME_BYTES, Federation
from sglora_fed.federation.node import Node, spoken
from sglora_fed.federation.roster import Part
from sglora_fed.federation.terms import Agreement, Terms, agree, check_terms, in_clear
from sglora_fed.privacy.floor import Floor
from sglora_fed.privacy.ledger import Request as LedgerRequest
from sglora_fed.privacy.mechanisms import promise
from sglora_fed.tasks.types import Task

if TYPE_CHECKING:  # a node has no files of requests
    from sglora_fed.zoo.rows import Rows

DESCRIBE = "query.describe"


ARRAYS = {"float16": "embeddings", "uint16": "places", "uint64": "shares"}
"""Type of a release -> what a message calls it."""


@dataclass(frozen=True)
class DescribeRequest:
    """Ask a node for its virtual clients' requests.

    Attributes:
        seed: of the run.
        terms: what releases refer to.
        ids: of the clients that are asked; None for all of the node's.
        most: requests that are wanted at once: a node with more clients tells their ids alone.
    """

    seed: int
    terms: Terms = field(default_factory=Terms)
    ids: tuple[str, ...] | None = None
    most: int = MOST_CLIENTS

    def pack(self) -> RecordDict:
        """The message body."""
        fields = {"seed": self.seed, "ids": list(self.ids or ()), "most": self.most}
        return pack(fields | self.terms.fields(), self.terms.arrays())

    @classmethod
    def parse(cls, body: RecordDict) -> DescribeRequest:
        """Check and read a body."""
        read = Reader(body)
        return cls(
            read.integer("seed", 0, MOST_SEED),
            Terms.parse(read),
            read.identifiers("ids", MOST_CLIENTS) or None,
            read.integer("most", 1, MOST_CLIENTS),
        )


@dataclass(frozen=True)
class DescribeReply:
    """The requests of a node's virtual clients.

    Attributes:
        partition: of the node.
        ids: n virtual clients; opaque to the server.
        released: [n, ...] what the mechanism lets out of each description: vectors, which travel in
            half precision, places of a catalogue, or numbers of a ring; [0, ...] where n is more
            than was asked for at once.
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
    def parse(
        cls, body: RecordDict, agreement: Agreement, most: int = MOST_CLIENTS
    ) -> DescribeReply:
        """Check and read a body; ``most`` as in the request."""
        read, form = Reader(body), agreement.mechanism.form
        ids = read.identifiers("ids", MOST_CLIENTS)
        count = len(ids) if len(ids) <= most else 0
        released = read.array(ARRAYS[form.dtype], form.dtype, (count, *form.shape))
        agreement.decoded(released)
        if form.dtype == "float16":
            released = released.astype(np.float32)
        return cls(read.integer("partition", 0, MOST_CLIENTS), ids, released)


@dataclass(frozen=True)
class Decoded:
    """[n, m, d] what adapters are made for, m for each client, of n releases: read row by row.

    Attributes:
        released: [n, ...], in memory or in files.
        agreement: what a release means.
    """

    released: np.ndarray | Rows
    agreement: Agreement

    def __len__(self) -> int:
        return len(self.released)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        return self.agreement.decoded(self.released[rows])


@dataclass(frozen=True)
class Clients:
    """All virtual clients, ordered by name.

    Attributes:
        names: n names, all different: a client's own id, unless another node has used it.
        own_ids: what their nodes call them.
        nodes: [n] the node that carries each.
    """

    names: tuple[str, ...]
    own_ids: tuple[str, ...]
    nodes: np.ndarray

    def called(self, rows: np.ndarray) -> tuple[str, ...]:
        """The own ids in some rows."""
        return tuple(self.own_ids[row] for row in rows)


@dataclass(frozen=True)
class Requests(Clients):
    """All virtual clients' requests, ordered by name.

    Attributes:
        released: [n, ...] what came of each description; of many clients it lies in a file.
        agreement: what a release means.
    """

    released: np.ndarray | Rows
    agreement: Agreement

    @property
    def embeddings(self) -> Decoded:
        """[n, m, d] what adapters are made for, m of each: unit vectors."""
        return Decoded(self.released, self.agreement)


def collect_requests(federation: Federation, agreement: Agreement | None = None) -> Requests:
    """Ask every node for all its virtual clients' privatised descriptions at once.

    Args:
        federation: who takes part.
        agreement: mechanism and terms; None: embeddings in clear.

    Raises:
        RepliesError: when too few nodes answer, or there is no client.
    """
    agreement = agreement or in_clear(federation.dim)
    clients, replies = call_roll(federation, agreement, MOST_CLIENTS)
    shape = (len(clients.names), *agreement.mechanism.form.shape)
    released = np.empty(shape, replies[0][1].dtype)
    for rows, some in replies:
        released[rows] = some
    return Requests(clients.names, clients.own_ids, clients.nodes, released, agreement)


def call_roll(
    federation: Federation, agreement: Agreement, most: int
) -> tuple[Clients, list[tuple[np.ndarray, np.ndarray]]]:
    """Ask every node who its virtual clients are, and for all their requests where they are few.

    Args:
        federation: who takes part.
        agreement: mechanism and terms.
        most: requests that a node sends at once.

    Returns:
        The clients; of each node that has sent them, the rows of its clients and their releases.

    Raises:
        RepliesError: when too few nodes answer, or there is no client.
    """
    asked = DescribeRequest(federation.seed, agreement.terms, most=most)
    replies = federation.ask(
        DESCRIBE,
        dict.fromkeys(federation.nodes, asked),
        lambda _, body: DescribeReply.parse(body, agreement, most),
        bytes_of(agreement, federation.config.federation.clients_per_node),
    )
    own = [(node, name) for node, reply in replies.items() for name in reply.ids]
    if not own:
        raise RepliesError(f"{DESCRIBE}: {len(replies)} nodes have no client; need at least one")
    names = [federation.roster.client_name(node, name) for node, name in own]
    order = sorted(range(len(names)), key=names.__getitem__)
    clients = Clients(
        tuple(names[i] for i in order),
        tuple(own[i][1] for i in order),
        np.array([own[i][0] for i in order], object),
    )
    ends = np.cumsum([len(reply.ids) for reply in replies.values()])
    rows = np.split(np.argsort(order), ends[:-1])
    pairs = zip(rows, (reply.released for reply in replies.values()), strict=True)
    return clients, [(here, some) for here, some in pairs if len(here) == len(some)]


def bytes_of(agreement: Agreement, clients: int) -> int:
    """Of the numbers and names in an honest reply of so many clients."""
    return clients * (agreement.mechanism.form.nbytes + NAME_BYTES)


def describe(node: Node, request: DescribeRequest) -> DescribeReply:
    """The requests of the node's virtual clients: embed on the device, privatise, and pay.

    Raises:
        PromiseError: when the run asks for less than the node promises; nothing was drawn.
        CatalogueError, PrivacyError: when the two sides do not mean the same; nor then.
        BudgetError, LedgerError: when it cannot be paid; nothing leaves.
        MessageError: for a client that is not on this node.
    """
    node.floor.check(node.config.privacy.mechanism, *promise(node.config.privacy))
    agreement = agree(node.config, node.describer, request.terms, node.catalogue)
    check_terms(agreement, request.terms)
    names = tuple(node.clients) if request.ids is None else request.ids
    if foreign := [own for own in names if own not in node.clients]:
        raise MessageError(f"{len(foreign)} of {len(names)} clients are not on this node")
    asked = names if len(names) <= request.most else ()
    said = [words(node.clients[name], request.seed) for name in asked]
    return DescribeReply(node.partition, names, release(node, agreement, asked, said))


def release(
    node: Node, agreement: Agreement, names: Sequence[str], said: Sequence[str]
) -> np.ndarray:
    """[n, ...] what the server may see of what some of the node's clients say."""
    nothing = not agreement.mechanism.form.nbytes
    clear = np.empty((len(said), node.describer.dim)) if nothing else node.embed(said)
    return let_out(agreement, node.describer, node.floor, names, said, clear)


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
