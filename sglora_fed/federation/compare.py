"""``evaluate.compare``: the experiment. Many methods measured beside each other on each client.

The server sends what it made; the node measures that and what its clients could have done alone,
all on the same test examples (:mod:`~sglora_fed.federation.bench`). A client that only wants an
adapter takes no part in this (:mod:`~sglora_fed.federation.adopt`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import numpy as np
from flwr.app import RecordDict

from sglora_fed.adapters.layout import Layout
from sglora_fed.adapters.start import within_bound
from sglora_fed.backbones.metrics import METRIC_SETS
from sglora_fed.config.schema import POLICY_METHOD, SHARED_METHOD, RunConfig
from sglora_fed.errors import MessageError
from sglora_fed.federation.codec import MOST_CLIENTS, MOST_SEED, Reader, pack
from sglora_fed.federation.describe import Requests
from sglora_fed.federation.exchange import NAME_BYTES, Federation
from sglora_fed.federation.finetuned import FINE_TUNED, STARTED
from sglora_fed.federation.roster import Part

COMPARE = "evaluate.compare"

MOST_METHODS = 1000

MOST_SPLITS = 32
"""Kinds of unseen task among one node's clients."""

HINTS = {"zero_shot": "none", "described": "phrases"}
"""Methods without an adapter -> the client's own words in the candidate texts."""

LOCAL_METHODS = (*HINTS, *FINE_TUNED)


@dataclass(frozen=True)
class CompareRequest:
    """Methods to measure on a node's virtual clients, and the adapters that the server made.

    Attributes:
        seed: of the run.
        ids: n virtual clients.
        methods: all that are to be measured, in this order.
        made: M of them, for which each client has an adapter.
        adapters: [n, M, D] half precision.
        common: C of the methods, for which all clients share an adapter.
        shared: [C, D] half precision.
        confidence: [n] probability that the configured generator's adapter beats the fall-back;
            [0] when the policy is not among the methods, or the clients can tell for themselves.
    """

    seed: int
    ids: tuple[str, ...]
    methods: tuple[str, ...]
    made: tuple[str, ...]
    adapters: np.ndarray
    common: tuple[str, ...]
    shared: np.ndarray
    confidence: np.ndarray

    def pack(self) -> RecordDict:
        """The message body."""
        names = {name: list(getattr(self, name)) for name in ("ids", "methods", "made", "common")}
        arrays: dict[str, np.ndarray] = {
            "adapters": self.adapters.astype(np.float16),
            "shared": self.shared.astype(np.float16),
            "confidence": self.confidence.astype(np.float32),
        }
        return pack({"seed": self.seed, **names}, arrays)

    @classmethod
    def parse(cls, body: RecordDict, size: int) -> CompareRequest:
        """Check and read a body; ``size`` is D."""
        read = Reader(body)
        ids = read.identifiers("ids", MOST_CLIENTS)
        methods, made, common = (
            read.identifiers(name, MOST_METHODS) for name in ("methods", "made", "common")
        )
        if foreign := {*made, *common} - set(methods):
            raise MessageError(f"adapters of {len(foreign)} methods that are not to be measured")
        confidence = _fractions(read, "confidence", (None,))
        if len(confidence) not in ((0, len(ids)) if POLICY_METHOD in methods else (0,)):
            raise MessageError(f"{len(confidence)} confidences of {len(ids)} clients")
        return cls(
            seed=read.integer("seed", 0, MOST_SEED),
            ids=ids,
            methods=methods,
            made=made,
            adapters=read.array("adapters", "float16", (len(ids), len(made), size)),
            common=common,
            shared=read.array("shared", "float16", (len(common), size)),
            confidence=confidence,
        )


def _fractions(read: Reader, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    values = read.array(name, "float32", shape)
    if (values < 0).any() or (values > 1).any():
        raise MessageError(f"{name} holds something outside [0, 1]")
    return values


@dataclass(frozen=True)
class CompareReply:
    """What a node measured, for n virtual clients and the methods that it was asked about.

    Attributes:
        partition: of the node.
        ids: the virtual clients.
        splits: n kinds of unseen task, for the results only.
        metrics: K names.
        values: [n, M, K] fractions; the methods in the order of the request.
        seconds: [M] the node's time per client and method: training and evaluation.
        trust: [n, 2] the confidence that the policy decided by, and 1 for who adopted, else 0;
            [0, 2] without the policy.
    """

    about: ClassVar[Part] = "clients"
    partition: int
    ids: tuple[str, ...]
    splits: tuple[str, ...]
    metrics: tuple[str, ...]
    values: np.ndarray
    seconds: np.ndarray
    trust: np.ndarray = field(default_factory=lambda: np.empty((0, 2), np.float32))

    def pack(self) -> RecordDict:
        """The message body."""
        names = {name: list(getattr(self, name)) for name in ("ids", "splits", "metrics")}
        arrays = {"values": self.values, "seconds": self.seconds}
        arrays["trust"] = self.trust.astype(np.float32)
        return pack({"partition": self.partition, **names}, arrays)

    @classmethod
    def parse(
        cls, body: RecordDict, methods: int, longest: float, judged: bool = False
    ) -> CompareReply:
        """Check and read a body.

        Args:
            body: of the reply.
            methods: M.
            longest: the most seconds of any.
            judged: whether the policy is among the methods.
        """
        read = Reader(body)
        ids, splits = read.identifiers("ids", MOST_CLIENTS), read.names("splits", MOST_CLIENTS)
        metrics = read.identifiers("metrics", MOST_METHODS)
        if metrics not in METRIC_SETS:
            raise MessageError(f"{len(metrics)} metrics that are no task's: {metrics}")
        values = read.array("values", "float64", (len(ids), methods, len(metrics)))
        seconds = read.array("seconds", "float64", (methods,))
        if len(splits) != len(ids):
            raise MessageError(f"{len(splits)} splits for {len(ids)} clients")
        if (values < 0).any() or (values > 1).any():
            raise MessageError("a metric lies outside [0, 1]")
        if (seconds < 0).any() or (seconds > longest).any():
            raise MessageError(f"a time lies outside [0, {longest:.0f}] seconds")
        trust = _fractions(read, "trust", (len(ids) if judged else 0, 2))
        partition = read.integer("partition", 0, MOST_CLIENTS)
        return cls(partition, ids, splits, metrics, values, seconds, trust)


@dataclass(frozen=True)
class Delivery:
    """What is measured on some clients.

    Attributes:
        rows: [n] of the requests.
        methods: all that are measured, in the order of the results.
        made: method -> [n, D], an adapter for each client.
        common: method -> [D], one adapter for all.
        confidence: [n], or None where nobody needs it: without the policy, or for clients who can
            tell for themselves.
    """

    rows: np.ndarray
    methods: tuple[str, ...]
    made: Mapping[str, np.ndarray]
    common: Mapping[str, np.ndarray]
    confidence: np.ndarray | None

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
            adapters=np.stack(made, 1) if made else np.empty((len(places), 0, size), np.float16),
            common=tuple(self.common),
            shared=np.stack(shared) if shared else np.empty((0, size), np.float16),
            confidence=sure,
        )


def _in_half(layout: Layout, vectors: np.ndarray) -> np.ndarray:
    return within_bound(vectors, layout).astype(np.float16)


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
    nodes = requests.nodes[delivery.rows]
    queues = {node: np.flatnonzero(nodes == node) for node in federation.nodes}
    step = federation.config.federation.clients_per_message
    for start in range(0, max(len(queue) for queue in queues.values()), step):
        chunks = {node: queue[start : start + step] for node, queue in queues.items()}
        asked = {
            node: delivery.request(federation, requests, places)
            for node, places in chunks.items()
            if len(places)
        }
        replies = federation.ask(
            COMPARE,
            {node: request.pack() for node, request in asked.items()},
            partial(_parse, federation, asked),
            step * (8 * len(delivery.methods) * max(map(len, METRIC_SETS)) + 2 * NAME_BYTES + 8),
        )
        for node, reply in replies.items():
            rows = delivery.rows[chunks[node]]
            yield Measured(node, tuple(requests.names[row] for row in rows), reply)


def _parse(
    federation: Federation, asked: Mapping[int, CompareRequest], node: int, body: RecordDict
) -> CompareReply:
    request, longest = asked[node], federation.config.federation.timeout
    judged = POLICY_METHOD in request.methods
    reply = CompareReply.parse(body, len(request.methods), longest, judged)
    if reply.ids != request.ids:
        raise MessageError(f"results of {len(reply.ids)} clients are not those asked for")
    return reply


def delivered_adapters(method: str, config: RunConfig) -> int:
    """Adapters that a client must be sent for a method: the policy needs both that it chooses."""
    if method == POLICY_METHOD:
        return 1 + (SHARED_METHOD in config.experiment.methods)
    return 0 if method in LOCAL_METHODS and method not in STARTED else 1


def agreeing(measured: Sequence[Measured]) -> list[Measured]:
    """The results in the metrics that most nodes have: a run is about one kind of task.

    Those of a node that tells more kinds of unseen task than there can be are left out, too: each
    kind has its own part of the report.
    """
    told: dict[int, set[str]] = defaultdict(set)
    for one in measured:
        told[one.node].update(one.reply.splits)
    measured = [one for one in measured if len(told[one.node]) <= MOST_SPLITS]
    votes = Counter(dict.fromkeys((one.node, one.reply.metrics) for one in measured))
    kinds = Counter(metrics for _, metrics in votes)
    most = max(METRIC_SETS, key=lambda metrics: kinds[metrics])
    return [one for one in measured if one.reply.metrics == most]
