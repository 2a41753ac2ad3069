"""``evaluate.compare``: the experiment. Many methods measured beside each other on each client.

The server sends what it made; the node measures that and what its clients could have done alone,
all on the same test examples (:mod:`~sglora_fed.federation.bench`). A client that only wants an
adapter takes no part in this (:mod:`~sglora_fed.federation.adopt`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from flwr.app import RecordDict

from sglora_fed.adapters.layout import Layout
from sglora_fed.adapters.start import within_bound
from sglora_fed.backbones.metrics import METRIC_SETS
from sglora_fed.config.schema import POLICY_METHOD, SHARED_METHOD, RunConfig
from sglora_fed.errors import MessageError
from sglora_fed.federation.answers import States
from sglora_fed.federation.comparison import CompareReply, CompareRequest
from sglora_fed.federation.describe import Requests
from sglora_fed.federation.exchange import NAME_BYTES, Federation
from sglora_fed.federation.finetuned import METHODS
from sglora_fed.privacy.mechanisms.shares import Answers
from sglora_fed.tasks.types import KINDS, Kind

COMPARE = "evaluate.compare"

MOST_SPLITS = 32
"""Kinds of unseen task among one node's clients."""

HINTS = {"zero_shot": "none", "described": "phrases"}
"""Methods without an adapter -> the client's own words in the candidate texts."""

LOCAL_METHODS = (*HINTS, *METHODS)

SOUP = "soup"
"""The generator whose adapter is the same for all clients: it is sent once in a message."""

COMMON = (SOUP, SHARED_METHOD)
"""Methods with one adapter for all."""


@dataclass(frozen=True)
class Delivery:
    """What is measured on some clients.

    Attributes:
        rows: [n] of the requests.
        methods: all that are measured, in the order of the results.
        made: method -> [n, m, D], adapters for each client, of which it takes one.
        common: method -> [D], one adapter for all.
        confidence: [n], or None where nobody needs it: without the policy, or for clients who can
            tell for themselves.
        places: [n, m] of the catalogue that the adapters are for; None where clients named none.
        shares: two servers' answers, or None.
        generators: method -> state of a generator with which the clients make their own.
    """

    rows: np.ndarray
    methods: tuple[str, ...]
    made: Mapping[str, np.ndarray]
    common: Mapping[str, np.ndarray]
    confidence: np.ndarray | None
    places: np.ndarray | None = None
    shares: Answers | None = None
    generators: States = field(default_factory=dict)

    def request(
        self, federation: Federation, requests: Requests, places: np.ndarray
    ) -> CompareRequest:
        """The message about the clients in some places of the rows."""
        half = partial(_in_half, federation.layout)
        made = [half(array[places]) for array in self.made.values()]
        shared = [half(vector) for vector in self.common.values()]
        size = federation.layout.size
        sure = np.empty(0) if self.confidence is None else self.confidence[places]
        return CompareRequest(
            seed=federation.seed,
            ids=requests.called(self.rows[places]),
            methods=self.methods,
            made=tuple(self.made),
            adapters=_beside(made, len(places), size),
            common=tuple(self.common),
            shared=np.stack(shared) if shared else np.empty((0, size), np.float16),
            confidence=sure,
            places=None if self.places is None else self.places[places],
            shares=None if self.shares is None else self.shares.of(places),
            generators=self.generators,
        )


def _in_half(layout: Layout, vectors: np.ndarray) -> np.ndarray:
    return within_bound(vectors, layout).astype(np.float16, copy=False)


def _beside(made: Sequence[np.ndarray], count: int, size: int) -> np.ndarray:
    """[n, M m, D] of M arrays [n, m, D]; one alone, which is most of a message, is not copied."""
    if len(made) == 1:
        return made[0]
    return np.concatenate([np.empty((count, 0, size), np.float16), *made], axis=1)


@dataclass(frozen=True)
class Measured:
    """A node's results by the names that the server gave its clients.

    Attributes:
        node: whose they are.
        names: n clients.
        reply: of the node.
    """

    node: int
    names: tuple[str, ...]
    reply: CompareReply


def compare(federation: Federation, requests: Requests, delivery: Delivery) -> Iterator[Measured]:
    """Send clients what was made for them; what they measured, message by message.

    Raises:
        RepliesError: when too few nodes answer.
    """
    queues = _queues(federation, requests, delivery)
    rounds = (
        {node: delivery.request(federation, requests, places) for node, places in chunks.items()}
        for chunks in queues
    )
    replies = federation.ask_ahead(
        COMPARE,
        rounds,
        partial(_parse, federation),
        federation.config.federation.clients_per_message
        * (8 * len(delivery.methods) * max(map(len, METRIC_SETS)) + 2 * NAME_BYTES + 8),
    )
    for chunks, found in zip(queues, replies, strict=True):
        for node, reply in found.items():
            rows = delivery.rows[chunks[node]]
            yield Measured(node, tuple(requests.names[row] for row in rows), reply)


def _queues(
    federation: Federation, requests: Requests, delivery: Delivery
) -> list[dict[int, np.ndarray]]:
    """Message by message, node -> places in the delivery's rows.

    A message takes a node's clients from everywhere: none holds all the slow ones, and who are
    alike but for their words, which families list far apart, may come together and be measured
    once. Each node gets as few as it can: in deployment a message costs it a process.
    """
    nodes = requests.nodes[delivery.rows]
    step = federation.config.federation.clients_per_message
    own = {node: _dealt(np.flatnonzero(nodes == node), step) for node in federation.nodes}
    return [
        {node: some[number] for node, some in own.items() if number < len(some)}
        for number in range(max(map(len, own.values())))
    ]


def _dealt(places: np.ndarray, most: int) -> list[np.ndarray]:
    """In as few parts of so many at most as there can be, one to each part in turn."""
    count = -(-len(places) // most)
    return [places[number::count] for number in range(count)]


def _parse(federation: Federation, request: CompareRequest, body: RecordDict) -> CompareReply:
    longest = federation.config.federation.timeout
    judged = POLICY_METHOD in request.methods
    reply = CompareReply.parse(body, len(request.methods), longest, judged)
    if reply.ids != request.ids:
        raise MessageError(f"results of {len(reply.ids)} clients are not those asked for")
    return reply


def delivered_bytes(method: str, config: RunConfig, made: int, common: int) -> int:
    """What a client must be sent for a method.

    Args:
        method: in question.
        config: of the run.
        made: bytes of a message with what is made for one client: several adapters, where it
            chooses among readings or places.
        common: bytes of one with a single adapter, the same for all.
    """
    if method == POLICY_METHOD:
        return made + common * (SHARED_METHOD in config.experiment.methods)
    if method in LOCAL_METHODS:
        start = METHODS[method].start if method in METHODS else "untrained"
        return {"untrained": 0, "shared": common, "generated": made}[start]
    return common if method in COMMON else made


def agreeing(measured: Sequence[Measured], kind: Kind) -> list[Measured]:
    """The results in the metrics of one kind of task, as a run is about one.

    Those of a node that tells more kinds of unseen task than there can be are left out, too: each
    kind has its own part of the report.

    Args:
        measured: results of some clients; there may be nobody among them but a liar's.
        kind: of most nodes' tasks, which they told before anything was measured.
    """
    told: dict[int, set[str]] = defaultdict(set)
    for one in measured:
        told[one.node].update(one.reply.splits)
    right = METRIC_SETS[KINDS.index(kind)]
    return [
        one for one in measured if len(told[one.node]) <= MOST_SPLITS and one.reply.metrics == right
    ]
