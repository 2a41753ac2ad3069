"""``evaluate.adopt``: the service. A client gets one adapter and keeps it; nothing is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from flwr.app import RecordDict

from sglora_fed.adapters.layout import check_vectors
from sglora_fed.adapters.peft_io import write_peft
from sglora_fed.adapters.start import norm_bound, within_bound
from sglora_fed.backbones.weights import base_model
from sglora_fed.errors import MessageError, ResultsError
from sglora_fed.federation.codec import MOST_CLIENTS, Reader, pack
from sglora_fed.federation.describe import Requests
from sglora_fed.federation.exchange import NAME_BYTES, ONE_REPLY, Federation
from sglora_fed.federation.node import Node
from sglora_fed.federation.roster import Part
from sglora_fed.generators.base import Generated

ADOPT = "evaluate.adopt"


@dataclass(frozen=True)
class AdoptRequest:
    """An adapter for each of a node's virtual clients.

    Attributes:
        ids: n virtual clients.
        adapters: [n, D] half precision.
    """

    ids: tuple[str, ...]
    adapters: np.ndarray

    def pack(self) -> RecordDict:
        """The message body."""
        return pack({"ids": list(self.ids)}, {"adapters": self.adapters.astype(np.float16)})

    @classmethod
    def parse(cls, body: RecordDict, size: int) -> AdoptRequest:
        """Check and read a body; ``size`` is D."""
        read = Reader(body)
        ids = read.identifiers("ids", MOST_CLIENTS)
        return cls(ids, read.array("adapters", "float16", (len(ids), size)))


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
    federation: Federation, requests: Requests, rows: np.ndarray, made: Generated
) -> dict[int, tuple[str, ...]]:
    """Send some clients their adapters.

    Args:
        federation: who takes part.
        requests: of the clients.
        rows: [n] of the requests.
        made: n adapters for them.

    Returns:
        Node -> its clients, by their own ids, that keep their adapter.

    Raises:
        RepliesError: when no node answers.
    """
    asked = {}
    for node in federation.nodes:
        places = np.flatnonzero(requests.nodes[rows] == node)
        if len(places):
            ids = requests.called(rows[places])
            adapters = within_bound(made.adapters[places, 0], federation.layout)
            asked[node] = AdoptRequest(ids, adapters)
    replies = federation.ask(
        ADOPT,
        {node: request.pack() for node, request in asked.items()},
        partial(_parse, asked),
        NAME_BYTES * len(rows),
        ONE_REPLY,
    )
    return {node: reply.ids for node, reply in replies.items()}


def _parse(asked: Mapping[int, AdoptRequest], node: int, body: RecordDict) -> AdoptReply:
    reply = AdoptReply.parse(body)
    if foreign := set(reply.ids) - set(asked[node].ids):
        raise MessageError(f"{len(foreign)} clients that were sent nothing")
    return reply


def adopt(node: Node, request: AdoptRequest) -> AdoptReply:
    """Check the adapters and keep each as a PEFT folder named by its client.

    Raises:
        ResultsError: when the node names no folder for adapters, or it cannot be written.
        MessageError: for a client that is not on this node.
        AdapterValueError: for an adapter beyond the norm bound; none is kept then.
    """
    if node.adapters is None:
        raise ResultsError("node config has no adapters; name the folder that keeps them")
    if foreign := set(request.ids) - set(node.clients):
        raise MessageError(f"{len(foreign)} of {len(request.ids)} clients are not on this node")
    check_vectors(request.adapters, node.layout, norm_bound(node.layout))
    base = base_model(node.config.backbone.path, node.config.backbone.revision)
    for own, vector in zip(request.ids, request.adapters.astype(np.float32), strict=True):
        write_peft(vector, node.layout, base, node.adapters / own)
    return AdoptReply(node.partition, request.ids)
