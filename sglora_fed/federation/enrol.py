"""``train.expert``: nodes train their experts and send statistics, and words or places.

A node tells which experts it has, each with a hash of its task, and sends those that the server
lacks. An expert whose task has changed on its node is trained again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np
from flwr.app import RecordDict

from sglora_fed.adapters.data import prepare
from sglora_fed.adapters.start import configured_start
from sglora_fed.adapters.training import Trained, train_adapters
from sglora_fed.errors import MessageError
from sglora_fed.federation.allowance import check_wish
from sglora_fed.federation.codec import MOST_CLIENTS, MOST_SEED, Reader, pack, unit_rows
from sglora_fed.federation.exchange import NAME_BYTES, Federation
from sglora_fed.federation.node import Node
from sglora_fed.federation.private import Lesson, trained_as_promised
from sglora_fed.federation.roster import Part, another_name
from sglora_fed.federation.wordings import WORDINGS, Listed, listed, told_of
from sglora_fed.promises import promise_for
from sglora_fed.seeds import derive_seed
from sglora_fed.tasks.types import KINDS, Kind
from sglora_fed.units import UNIT_TOLERANCE
from sglora_fed.zoo import Zoo, ZooStore

ENROL = "train.expert"

SHOWN = (8, 32)
"""Digits of a task's hash in the name of an expert whose own id another node uses; nobody can find
a task whose hash has 32 given ones."""


@dataclass(frozen=True)
class EnrolRequest:
    """Ask a node for its experts.

    Attributes:
        seed: of the run.
        known: the node's experts that the server has.
        limit: experts to train for one reply; 0 to tell only which ones there are.
        catalogue: hash of the list whose places take the descriptions'; empty for none.
    """

    ids: ClassVar[None] = None
    seed: int
    known: tuple[str, ...]
    limit: int
    catalogue: str = ""

    def pack(self) -> RecordDict:
        """The message body."""
        fields = {"seed": self.seed, "known": list(self.known), "limit": self.limit}
        return pack(fields | {"catalogue": [self.catalogue] * bool(self.catalogue)}, {})

    @classmethod
    def parse(cls, body: RecordDict) -> EnrolRequest:
        """Check and read a body."""
        read = Reader(body)
        return cls(
            seed=read.integer("seed", 0, MOST_SEED),
            known=read.identifiers("known", MOST_CLIENTS),
            limit=read.integer("limit", 0, MOST_CLIENTS),
            catalogue="".join(read.names("catalogue", 1)),
        )


@dataclass(frozen=True)
class EnrolReply:
    """A node's experts, and some of them trained: words and statistics, no examples.

    Attributes:
        partition: of the node.
        ids: all its experts.
        task_digests: of their tasks, in hexadecimal.
        trained: n of the ids.
        wordings: [n, W, d] unit embeddings of W wordings of each description, or [n, 1] uint16
            places of a catalogue.
        means, variances: [n, D] over the last M checkpoints.
        examples: [n] numbers of training examples.
        kind: of the node's tasks.
    """

    about: ClassVar[Part] = "experts"
    partition: int
    ids: tuple[str, ...]
    task_digests: tuple[str, ...]
    trained: tuple[str, ...]
    wordings: np.ndarray
    means: np.ndarray
    variances: np.ndarray
    examples: np.ndarray
    kind: Kind

    def pack(self) -> RecordDict:
        """The message body."""
        names = {name: list(getattr(self, name)) for name in ("ids", "task_digests", "trained")}
        arrays: dict[str, np.ndarray] = {
            "means": self.means.astype(np.float32),
            "variances": self.variances.astype(np.float32),
            "examples": self.examples.astype(np.int64),
        }
        if self.wordings.dtype == np.uint16:
            arrays["places"] = self.wordings
        else:
            arrays["wordings"] = self.wordings.astype(np.float32)
        return pack({"partition": self.partition, "kind": self.kind, **names}, arrays)

    @classmethod
    def parse(cls, body: RecordDict, dim: int, size: int, entries: int = 0) -> EnrolReply:
        """Check and read a body; ``entries`` are those of the catalogue, 0 where words come."""
        read = Reader(body)
        trained = read.identifiers("trained", MOST_CLIENTS)
        count = len(trained)
        variances = read.array("variances", "float32", (count, size))
        examples = read.array("examples", "int64", (count,))
        if (variances < 0).any() or (examples < 1).any():
            raise MessageError("an expert has a negative variance or no examples")
        return cls(
            partition=read.integer("partition", 0, MOST_CLIENTS),
            ids=read.identifiers("ids", MOST_CLIENTS),
            task_digests=read.names("task_digests", MOST_CLIENTS),
            trained=trained,
            wordings=_places(read, count, entries) if entries else _wordings(read, count, dim),
            means=read.array("means", "float32", (count, size)),
            variances=variances,
            examples=examples,
            kind=read.word("kind", KINDS),
        )

    def answering(self, request: EnrolRequest) -> EnrolReply:
        """This reply; a MessageError unless it brings what was asked for, and no more."""
        if len(self.task_digests) != len(self.ids):
            raise MessageError(f"{len(self.task_digests)} task hashes of {len(self.ids)} experts")
        missing = set(self.ids) - set(request.known)
        if not set(self.trained) <= missing or len(self.trained) > request.limit:
            raise MessageError(
                f"{len(self.trained)} experts, of which"
                f" {len(set(self.trained) - missing)} were not asked for; at most {request.limit}"
            )
        if len(self.trained) < (due := min(request.limit, len(missing))):
            raise MessageError(f"{len(self.trained)} experts came where {due} were due")
        return self


def _wordings(read: Reader, count: int, dim: int) -> np.ndarray:
    wordings = unit_rows(read.array("wordings", "float32", (count, WORDINGS, dim)))
    if (np.linalg.norm(wordings.mean(axis=1), axis=-1) < UNIT_TOLERANCE).any():
        raise MessageError("the wordings of an expert cancel out; they have no direction")
    return wordings


def _places(read: Reader, count: int, entries: int) -> np.ndarray:
    places = read.array("places", "uint16", (count, 1))
    if places.size and places.max() >= entries:
        raise MessageError(f"a place beyond the {entries} of the catalogue")
    return places


def enrol(federation: Federation, store: ZooStore) -> None:
    """Have the nodes train the experts that the zoo lacks; each reply is stored at once.

    Raises:
        RepliesError: when too few nodes answer.
        CatalogueError: when experts' words are to be those of a catalogue that cannot be used.
    """
    words = listed(federation.config)
    terms = "" if words is None else words.catalogue.sha256
    report, limit = federation.reporter("experts"), federation.config.federation.clients_per_message
    # A zoo with experts is held against what the nodes have before anything is trained.
    first = EnrolRequest(federation.seed, (), 0 if store.ids() else limit, terms)
    asked = dict.fromkeys(federation.nodes, first)
    totals: dict[int, int] = {}
    while asked:
        replies = federation.ask(
            ENROL,
            asked,
            partial(_parse, federation, words),
            limit * _expert_bytes(federation) + _inventory_bytes(federation),
        )
        again = {}
        for node, reply in replies.items():
            known = _store(federation, store, node, reply)
            federation.roster.kinds[node] = reply.kind
            totals[node] = len(reply.ids)
            # Nobody is asked for ever: each answer but the first brings one expert at least.
            told_more = len(known) > len(asked[node].known) or not asked[node].limit
            if told_more and set(known) < set(reply.ids):
                again[node] = EnrolRequest(federation.seed, known, limit, terms)
        asked = again
        report(len(federation.roster.owners), sum(totals.values()))
    store.assign({name: str(node) for name, node in federation.roster.owners.items()})


def _expert_bytes(federation: Federation) -> int:
    return 4 * (WORDINGS * federation.dim + 2 * federation.layout.size) + 8 + NAME_BYTES


def _inventory_bytes(federation: Federation) -> int:
    """Of all experts' ids and their tasks' hashes."""
    return 2 * NAME_BYTES * federation.config.federation.experts_per_node


def _parse(
    federation: Federation,
    words: Listed | None,
    asked: EnrolRequest,
    body: RecordDict,
) -> EnrolReply:
    entries = 0 if words is None else len(words.catalogue.descriptions)
    reply = EnrolReply.parse(body, federation.dim, federation.layout.size, entries)
    reply = reply.answering(asked)
    federation.check_norms(reply.means)
    federation.check_norms(np.sqrt(reply.variances))
    return reply if words is None else replace(reply, wordings=words.wordings(reply.wordings))


def _store(
    federation: Federation, store: ZooStore, node: int, reply: EnrolReply
) -> tuple[str, ...]:
    """Store what a reply brings; the node's experts that the zoo has then."""
    digests = dict(zip(reply.ids, reply.task_digests, strict=True))
    names = _names(store, str(node), {own: digests[own] for own in reply.trained})
    rows = np.array([row for row, own in enumerate(reply.trained) if own in names], np.int64)
    if len(rows) < len(reply.trained):
        federation.refusals.append(f"{ENROL}: {len(reply.trained) - len(rows)} experts' names")
    if len(rows):
        store.remove(set(names.values()) & set(store.ids()))
        store.add(
            Zoo(
                tuple(names.values()),
                reply.wordings[rows],
                reply.means[rows],
                reply.variances[rows],
                reply.examples[rows],
                (str(node),) * len(rows),
                tuple(digests[own] for own in names),
                tuple(promise_for(federation.config, int(n)) for n in reply.examples[rows]),
            )
        )
    return _claimed(federation, store, node, digests)


def _candidates(own: str, digest: str) -> list[str]:
    """Names that an expert may have in the zoo: its own id, if no other node's expert has it."""
    return [own, *(another_name(own, digest[:digits]) for digits in SHOWN)]


def _names(store: ZooStore, owner: str, digests: Mapping[str, str]) -> dict[str, str]:
    """Own id of new experts -> name: one that is free, or that of the owner's older version."""
    owners, names = store.owners(), dict[str, str]()
    for own, digest in digests.items():
        free = (
            name
            for name in _candidates(own, digest)
            if owners.get(name, owner) == owner and name not in names.values()
        )
        if name := next(free, None):
            names[own] = name
    return names


def _claimed(
    federation: Federation, store: ZooStore, node: int, digests: Mapping[str, str]
) -> tuple[str, ...]:
    """A node's experts that are in the zoo; only who has a task knows its hash."""
    stored, roster, known = store.task_digests(), federation.roster, []
    for own, digest in digests.items():
        found = (name for name in _candidates(own, digest) if stored.get(name) == digest)
        if (name := next(found, None)) and roster.owners.get(name, node) == node:
            roster.enlist(node, own, name)
            known.append(own)
    return tuple(known)


def train_experts(node: Node, request: EnrolRequest) -> EnrolReply:
    """Train the node's next experts that the server does not know yet.

    Raises:
        PromiseError, CatalogueError, BudgetError, LedgerError: when their words, or what they learn
            from their examples, may not leave as the run wants; nothing was trained.
    """
    # Hashes of tasks, too, depend on examples where no noise is wished for.
    check_wish(node.floor, node.config, list(node.experts.values()))
    waiting = [task for name, task in node.experts.items() if name not in set(request.known)]
    tasks = waiting[: request.limit]
    wordings = told_of(node, tasks, request.catalogue)
    config, start = node.config, configured_start(node.config, node.layout, request.seed)
    train = config.adapter.train

    def plain(rows: Sequence[int]) -> Trained:
        some, hints = [tasks[row] for row in rows], config.adapter.hints
        seeds = [derive_seed(request.seed, "expert", task.id) for task in some]
        parts = [prepare(node.encoder, task, task.train, hints) for task in some]
        return train_adapters(node.encoder, node.layout, start, parts, train, seeds)

    trained = trained_as_promised(node, tasks, start, Lesson(ENROL, 0, request.seed, train), plain)
    return EnrolReply(
        partition=node.partition,
        ids=tuple(node.task_digests),
        task_digests=tuple(node.task_digests.values()),
        trained=tuple(task.id for task in tasks),
        wordings=wordings,
        means=trained.mean,
        variances=trained.variance,
        examples=np.array([len(task.train) for task in tasks], np.int64),
        kind=node.kind,
    )
