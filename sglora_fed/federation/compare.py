"""``evaluate.compare``: the experiment. Many methods measured beside each other on each client.

The server sends what it made; the node measures that and what its clients could have done alone,
all on the same test examples. A client that only wants an adapter takes no part in this
(:mod:`~sglora_fed.federation.adopt`).
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from flwr.app import RecordDict
from torch import Tensor

from sglora_fed.adapters.data import Prepared, prepare
from sglora_fed.adapters.evaluation import score_tasks
from sglora_fed.adapters.layout import Layout, check_vectors
from sglora_fed.adapters.start import federation_start, norm_bound, within_bound
from sglora_fed.backbones.metrics import METRIC_SETS, task_metrics
from sglora_fed.config.schema import POLICY_METHOD, SHARED_METHOD, RunConfig
from sglora_fed.errors import MessageError
from sglora_fed.federation.codec import MOST_CLIENTS, MOST_SEED, Reader, pack
from sglora_fed.federation.describe import Requests
from sglora_fed.federation.exchange import NAME_BYTES, Federation
from sglora_fed.federation.finetuned import FINE_TUNED, STARTED, examples_of, training_of
from sglora_fed.federation.node import Node
from sglora_fed.federation.roster import Part
from sglora_fed.generators.confidence import SURE
from sglora_fed.kept.local import Lesson, train_or_recall
from sglora_fed.seeds import derive_seed

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
            [0] when the policy is not among the methods.
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
        judged = len(ids) if POLICY_METHOD in methods else 0
        confidence = read.array("confidence", "float32", (judged,))
        if (confidence < 0).any() or (confidence > 1).any():
            raise MessageError("a confidence lies outside [0, 1]")
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
    """

    about: ClassVar[Part] = "clients"
    partition: int
    ids: tuple[str, ...]
    splits: tuple[str, ...]
    metrics: tuple[str, ...]
    values: np.ndarray
    seconds: np.ndarray

    def pack(self) -> RecordDict:
        """The message body."""
        names = {name: list(getattr(self, name)) for name in ("ids", "splits", "metrics")}
        arrays = {"values": self.values, "seconds": self.seconds}
        return pack({"partition": self.partition, **names}, arrays)

    @classmethod
    def parse(cls, body: RecordDict, methods: int, longest: float) -> CompareReply:
        """Check and read a body; ``methods`` is M, ``longest`` the most seconds of any."""
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
        return cls(
            read.integer("partition", 0, MOST_CLIENTS), ids, splits, metrics, values, seconds
        )


@dataclass(frozen=True)
class Delivery:
    """What is measured on some clients.

    Attributes:
        rows: [n] of the requests.
        methods: all that are measured, in the order of the results.
        made: method -> [n, D], an adapter for each client.
        common: method -> [D], one adapter for all.
        confidence: [n], or None without the policy.
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
            step * (8 * len(delivery.methods) * max(map(len, METRIC_SETS)) + 2 * NAME_BYTES),
        )
        for node, reply in replies.items():
            rows = delivery.rows[chunks[node]]
            yield Measured(node, tuple(requests.names[row] for row in rows), reply)


def _parse(
    federation: Federation, asked: Mapping[int, CompareRequest], node: int, body: RecordDict
) -> CompareReply:
    request, longest = asked[node], federation.config.federation.timeout
    reply = CompareReply.parse(body, len(request.methods), longest)
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


def measure(node: Node, request: CompareRequest) -> CompareReply:
    """Check the delivered adapters, measure them, and measure the clients' alternatives.

    Raises:
        MessageError: for a client that is not on this node.
        AdapterValueError: for an adapter beyond the norm bound.
    """
    if foreign := set(request.ids) - set(node.clients):
        raise MessageError(f"{len(foreign)} of {len(request.ids)} clients are not on this node")
    bound = norm_bound(node.layout)
    check_vectors(request.adapters, node.layout, bound)
    check_vectors(request.shared, node.layout, bound)
    bench = Bench(node, request)
    measured = [bench.measure(method) for method in request.methods]
    return CompareReply(
        partition=node.partition,
        ids=request.ids,
        splits=tuple(task.split for task in bench.tasks),
        metrics=bench.metrics,
        values=np.stack([values for values, _ in measured], axis=1),
        seconds=np.array([seconds for _, seconds in measured]),
    )


class Bench:
    """Some virtual clients of a node; all methods see the same test examples.

    Args:
        node: that carries them.
        request: what was delivered to them; at least one client.
    """

    def __init__(self, node: Node, request: CompareRequest) -> None:
        self._encoder, self._layout, self._config = node.encoder, node.layout, node.config
        self.tasks = [node.clients[name] for name in request.ids]
        self._request = request
        self._prepared: dict[str, list[Prepared]] = {}
        self.metrics: tuple[str, ...] = ()

    def measure(self, method: str) -> tuple[np.ndarray, float]:
        """[n, K] metrics of a method and its mean seconds per client, training included."""
        scores, seconds = self.scores(method)
        return self.metrics_of(method, scores), seconds

    def scores(self, method: str) -> tuple[list[Tensor], float]:
        """For each client [items, texts] of a method, and its mean seconds per client."""
        vectors, trained = self._adapters(method)
        tests = self._tests(method)
        started = time.perf_counter()
        layout = None if vectors is None else self._layout
        scores = score_tasks(self._encoder, tests, layout, vectors)
        return scores, trained + (time.perf_counter() - started) / len(self.tasks)

    def metrics_of(self, method: str, scores: Sequence[Tensor]) -> np.ndarray:
        """[n, K] of the scores that a method gives each client."""
        found = [
            task_metrics(part.kind, score, part.targets, [(e.key, e.label) for e in task.test])
            for part, score, task in zip(self._tests(method), scores, self.tasks, strict=True)
        ]
        self.metrics = tuple(found[0])
        return np.array([[row[name] for name in self.metrics] for row in found])

    def _tests(self, method: str) -> list[Prepared]:
        hints = HINTS.get(method, self._config.adapter.hints)
        if hints not in self._prepared:
            tests = [prepare(self._encoder, task, task.test, hints) for task in self.tasks]
            self._prepared[hints] = tests
        return self._prepared[hints]

    def _adapters(self, method: str) -> tuple[np.ndarray | None, float]:
        """[n, D] float32, and the seconds that a client needed to train its own."""
        if method in HINTS:
            return None, 0.0
        if method == POLICY_METHOD:
            return self._chosen(), 0.0
        if method in LOCAL_METHODS:
            return self._trained(method)
        return self._delivered(method), 0.0

    def _chosen(self) -> np.ndarray:
        """The policy: what was generated if the server is sure enough of it, else the fall-back."""
        sure = self._request.confidence >= SURE
        adopted = self._delivered(self._config.generator.name)
        if SHARED_METHOD in self._request.common:
            fallback = self._delivered(SHARED_METHOD)
        else:
            fallback = federation_start(self._layout, self._request.seed)
        return np.where(sure[:, None], adopted, fallback)

    def _delivered(self, method: str) -> np.ndarray:
        request = self._request
        if method in request.made:
            return request.adapters[:, request.made.index(method)].astype(np.float32)
        if method not in request.common:
            raise MessageError(f"no adapter came for the method {method!r}")
        shared = request.shared[request.common.index(method)].astype(np.float32)
        return np.broadcast_to(shared, (len(self.tasks), shared.size))

    def _trained(self, method: str) -> tuple[np.ndarray, float]:
        config, seed = self._config, self._request.seed
        lessons = [
            Lesson(
                task, examples_of(method, task, seed), start, derive_seed(seed, "local", task.id)
            )
            for task, start in zip(self.tasks, self._starts(method), strict=True)
        ]
        train = training_of(getattr(config.experiment.tuning, method), config)
        vectors, seconds = train_or_recall(
            self._encoder, self._layout, train, lessons, config.adapter.hints
        )
        return vectors, float(seconds.mean())

    def _starts(self, method: str) -> np.ndarray:
        """[n, D] float32."""
        where = FINE_TUNED[method].start
        if where != "untrained":
            sent = {"generated": self._config.generator.name, "shared": SHARED_METHOD}
            return self._delivered(sent[where])
        start = federation_start(self._layout, self._request.seed)
        return np.broadcast_to(start, (len(self.tasks), self._layout.size))
