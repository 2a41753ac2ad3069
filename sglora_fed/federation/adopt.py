"""``evaluate.adopt``: the service. A client gets one adapter and keeps it; nothing is measured."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from flwr.app import RecordDict

from sglora_fed.adapters.layout import check_vectors
from sglora_fed.adapters.peft_io import write_peft
from sglora_fed.adapters.start import norm_bound, within_bound
from sglora_fed.backbones.weights import base_model
from sglora_fed.errors import MessageError, ResultsError
from sglora_fed.federation.answers import (
    States,
    added,
    chosen,
    made_here,
    optional_arrays,
    read_optional,
    replies_of,
)
from sglora_fed.federation.codec import MOST_CLIENTS, MOST_SEED, Reader, pack
from sglora_fed.federation.describe import Requests
from sglora_fed.federation.exchange import NAME_BYTES, ONE_REPLY, Federation
from sglora_fed.federation.node import Node
from sglora_fed.federation.roster import Part
from sglora_fed.privacy.mechanisms.shares import Answers

if TYPE_CHECKING:  # of the server: a node has no generators, let alone a zoo
    from sglora_fed.federation.making import Made

ADOPT = "evaluate.adopt"


@dataclass(frozen=True)
class AdoptRequest:
    """What the server made for each of a node's virtual clients.

    Attributes:
        ids: n virtual clients.
        adapters: [n m, D] half precision: m for each client, of which it takes one; none where the
            client makes its own, or adds two answers.
        seed: of the run.
        places: [n, m] of the catalogue that the adapters are for; None where clients named none.
        shares: two servers' answers, or None.
        generators: name -> state of the generator with which the clients make their own.
        made_by: sha256 of the generator; empty where the server does not say.
        confidence: [n] that each beats what its client would have without; n or none of them.
    """

    ids: tuple[str, ...]
    adapters: np.ndarray
    seed: int = 0
    places: np.ndarray | None = None
    shares: Answers | None = None
    generators: States = field(default_factory=dict)
    made_by: str = ""
    confidence: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))

    def pack(self) -> RecordDict:
        """The message body."""
        fields = {"ids": list(self.ids), "seed": self.seed, "generators": list(self.generators)}
        fields["made_by"] = [self.made_by] * bool(self.made_by)
        more = optional_arrays(self.places, self.shares, self.generators)
        if len(self.confidence):
            more["confidence"] = self.confidence.astype(np.float32)
        return pack(fields, {"adapters": self.adapters.astype(np.float16, copy=False), **more})

    @classmethod
    def parse(cls, body: RecordDict, size: int) -> AdoptRequest:
        """Check and read a body; ``size`` is D."""
        read = Reader(body)
        ids = read.identifiers("ids", MOST_CLIENTS)
        places, shares, generators = read_optional(read, len(ids), size)
        adapters = read.array("adapters", "float16", (None, size))
        replies_of(len(adapters), 0 if shares is not None or generators else len(ids), places)
        told = "confidence" in read
        sure = read.array("confidence", "float32", (len(ids),)) if told else np.empty(0, np.float32)
        if ((sure < 0) | (sure > 1)).any():
            raise MessageError("a confidence lies outside [0, 1]")
        return cls(
            ids,
            adapters,
            read.integer("seed", 0, MOST_SEED),
            places,
            shares,
            generators,
            "".join(read.names("made_by", 1)),
            sure,
        )

    def confidence_of(self, row: int) -> float | None:
        """That the adapter in a row beats its client's fall-back; None where nobody has asked."""
        return float(self.confidence[row]) if len(self.confidence) else None


@dataclass(frozen=True)
class AdoptReply:
    """Who keeps its adapter.

    Attributes:
        partition: of the node.
        ids: its virtual clients that have theirs on disk now.
    """

    about: ClassVar[Part] = "clients"
    partition: int
    ids: tuple[str, ...]

    def pack(self) -> RecordDict:
        """The message body."""
        return pack({"partition": self.partition, "ids": list(self.ids)}, {})

    @classmethod
    def parse(cls, body: RecordDict) -> AdoptReply:
        """Check and read a body."""
        read = Reader(body)
        ids = read.identifiers("ids", MOST_CLIENTS)
        return cls(read.integer("partition", 0, MOST_CLIENTS), ids)


def deliver(
    federation: Federation, requests: Requests, rows: np.ndarray, made: Made, made_by: str = ""
) -> dict[int, tuple[str, ...]]:
    """Send some clients what was made for them.

    Args:
        federation: who takes part.
        requests: of the clients.
        rows: [n] of the requests.
        made: for them, by the configured generator.
        made_by: sha256 of the generator.

    Returns:
        Node -> its clients, by their own ids, that keep their adapter.

    Raises:
        RepliesError: when no node answers.
    """
    asked = {}
    for node in federation.nodes:
        some = np.flatnonzero(requests.nodes[rows] == node)
        if len(some):
            one = adopt_request(federation, requests.called(rows[some]), made.of(some))
            asked[node] = replace(one, made_by=made_by)
    replies = federation.ask(
        ADOPT,
        asked,
        lambda _, body: AdoptReply.parse(body),
        NAME_BYTES * len(rows),
        ONE_REPLY,
    )
    return {node: reply.ids for node, reply in replies.items()}


def adopt_request(federation: Federation, ids: tuple[str, ...], made: Made) -> AdoptRequest:
    """The message to some clients about what was made for them."""
    size, name = federation.layout.size, federation.config.generator.name
    adapters = made.adapters.get(name, np.empty((len(ids), 0, size), np.float32))
    flat = within_bound(adapters.reshape(-1, size), federation.layout)
    generators = {name: made.generators[name]} if made.generators else {}
    return AdoptRequest(ids, flat, federation.seed, made.places, made.shares, generators)


def adopt(node: Node, request: AdoptRequest) -> AdoptReply:
    """Check the adapters and keep each as a PEFT folder named by its client.

    Raises:
        ResultsError: when the node names no folder for adapters, or it cannot be written.
        MessageError: for a client that is not on this node.
        AdapterValueError: for an adapter beyond the norm bound; none is kept then.
    """
    if node.adapters is None:
        raise ResultsError("node config has no adapters; name the folder that keeps them")
    if foreign := [own for own in request.ids if own not in node.clients]:
        raise MessageError(f"{len(foreign)} of {len(request.ids)} clients are not on this node")
    check_vectors(request.adapters, node.layout, norm_bound(node.layout))
    vectors = taken(node, request)
    base = base_model(node.config.backbone.path, node.config.backbone.revision)
    for own, vector in zip(request.ids, vectors, strict=True):
        write_peft(vector, node.layout, base, node.adapters / own)
    return AdoptReply(node.partition, request.ids)


def taken(node: Node, request: AdoptRequest) -> np.ndarray:
    """[n, D] float32 the adapter that each client keeps.

    Raises:
        MessageError, GeneratorError, AdapterValueError: for what is no usable answer.
    """
    tasks = [node.clients[own] for own in request.ids]
    for name, state in request.generators.items():
        return made_here(node, tasks, request.seed, name, state)
    if request.shares is not None:
        return added(node, tasks, request.seed, request.shares)
    adapters = request.adapters.astype(np.float32)
    several = adapters.reshape(len(tasks), len(adapters) // len(tasks), adapters.shape[1])
    return chosen(node, tasks, request.seed, several, request.places)
