"""What server and client say to each other. Each message is about a list of virtual clients.

``train.expert``: the server asks for experts (or for one round of the shared LoRA), the node
answers with parameters' statistics. ``query.describe``: the node answers with privatised
description embeddings. ``evaluate.adopt``: the server delivers adapters, the node measures them.
``train.round`` (:mod:`~sglora_fed.federation.functional`) and ``evaluate.calibrate``
(:mod:`~sglora_fed.federation.calibration`) are beside what they are for. Everything read is
validated; no text of a user is part of any message.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from flwr.app import RecordDict

from sglora_fed.backbones.metrics import METRICS
from sglora_fed.errors import MessageError
from sglora_fed.federation.codec import Reader, pack
from sglora_fed.units import UNIT_TOLERANCE, off_unit

TRAIN, DESCRIBE, ADOPT = "train.expert", "query.describe", "evaluate.adopt"
MOST_CLIENTS = 100_000
MOST_SEED = 2**62

WORDINGS = 6
"""Wordings of its description that an expert sends: one user's words must not decide alone."""


@dataclass(frozen=True)
class TrainRequest:
    """Ask a node to train.

    Attributes:
        seed: of the run.
        known: experts that the server already has (``start`` None), or those that take part in
            this round (``start`` given).
        limit: experts to train for one reply.
        round: of the shared LoRA; 0 for experts.
        start: [D] the shared LoRA of this round, or None to train experts.
    """

    seed: int
    known: tuple[str, ...]
    limit: int
    round: int = 0
    start: np.ndarray | None = None

    def pack(self) -> RecordDict:
        """The message body."""
        fields = {"seed": self.seed, "limit": self.limit, "round": self.round}
        arrays: dict[str, np.ndarray] = (
            {} if self.start is None else {"start": self.start.astype(np.float32)}
        )
        shared = {"shared": int(self.start is not None)}
        return pack({**fields, **shared, "known": list(self.known)}, arrays)

    @classmethod
    def parse(cls, body: RecordDict, size: int) -> TrainRequest:
        """Check and read a body; ``size`` is D."""
        read = Reader(body)
        shared = read.integer("shared", 0, 1)
        return cls(
            seed=read.integer("seed", 0, MOST_SEED),
            known=read.identifiers("known", MOST_CLIENTS),
            limit=read.integer("limit", 1, MOST_CLIENTS),
            round=read.integer("round", 0, 1_000_000),
            start=read.array("start", "float32", (size,)) if shared else None,
        )


@dataclass(frozen=True)
class ExpertReply:
    """Experts trained on a node: description embeddings and parameter statistics, no examples.

    Attributes:
        partition: of the node.
        ids: n experts.
        wordings: [n, W, d] unit embeddings of W wordings of each description.
        means, variances: [n, D] over the last M checkpoints.
        examples: [n] numbers of training examples.
        remaining: experts this node has still to train.
    """

    partition: int
    ids: tuple[str, ...]
    wordings: np.ndarray
    means: np.ndarray
    variances: np.ndarray
    examples: np.ndarray
    remaining: int

    def pack(self) -> RecordDict:
        """The message body."""
        fields = {"partition": self.partition, "remaining": self.remaining, "ids": list(self.ids)}
        arrays: dict[str, np.ndarray] = {
            "wordings": self.wordings.astype(np.float32),
            "means": self.means.astype(np.float32),
            "variances": self.variances.astype(np.float32),
            "examples": self.examples.astype(np.int64),
        }
        return pack(fields, arrays)

    @classmethod
    def parse(cls, body: RecordDict, dim: int, size: int) -> ExpertReply:
        """Check and read a body; ``dim`` is d, ``size`` is D."""
        read = Reader(body)
        ids = read.identifiers("ids", MOST_CLIENTS)
        variances = read.array("variances", "float32", (len(ids), size))
        examples = read.array("examples", "int64", (len(ids),))
        if (variances < 0).any() or (examples < 1).any():
            raise MessageError("an expert has a negative variance or no examples")
        wordings = _unit(read.array("wordings", "float32", (len(ids), WORDINGS, dim)))
        if (np.linalg.norm(wordings.mean(axis=1), axis=-1) < UNIT_TOLERANCE).any():
            raise MessageError("the wordings of an expert cancel out; they have no direction")
        return cls(
            partition=read.integer("partition", 0, MOST_CLIENTS),
            ids=ids,
            wordings=wordings,
            means=read.array("means", "float32", (len(ids), size)),
            variances=variances,
            examples=examples,
            remaining=read.integer("remaining", 0, MOST_CLIENTS),
        )


@dataclass(frozen=True)
class SharedReply:
    """A node's share of one FedAvg round.

    Attributes:
        partition: of the node.
        total: [D] sum of the trained LoRAs, each times its number of examples.
        examples: the sum of those numbers; 0 when no expert of the node took part.
    """

    partition: int
    total: np.ndarray
    examples: int

    def pack(self) -> RecordDict:
        """The message body."""
        fields = {"partition": self.partition, "examples": self.examples}
        return pack(fields, {"total": self.total.astype(np.float64)})

    @classmethod
    def parse(cls, body: RecordDict, size: int) -> SharedReply:
        """Check and read a body; ``size`` is D."""
        read = Reader(body)
        return cls(
            partition=read.integer("partition", 0, MOST_CLIENTS),
            total=read.array("total", "float64", (size,)),
            examples=read.integer("examples", 0, 2**53),
        )


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
        embeddings: [n, d] privatised description embeddings, unit rows.
    """

    partition: int
    ids: tuple[str, ...]
    embeddings: np.ndarray

    def pack(self) -> RecordDict:
        """The message body."""
        fields = {"partition": self.partition, "ids": list(self.ids)}
        return pack(fields, {"embeddings": self.embeddings.astype(np.float32)})

    @classmethod
    def parse(cls, body: RecordDict, dim: int) -> DescribeReply:
        """Check and read a body; ``dim`` is d."""
        read = Reader(body)
        ids = read.identifiers("ids", MOST_CLIENTS)
        return cls(
            partition=read.integer("partition", 0, MOST_CLIENTS),
            ids=ids,
            embeddings=_unit(read.array("embeddings", "float32", (len(ids), dim))),
        )


@dataclass(frozen=True)
class AdoptRequest:
    """Adapters for a node's virtual clients.

    Attributes:
        seed: of the run.
        ids: n virtual clients.
        methods: M names of the adapters made for each client.
        adapters: [n, M, D] half precision.
        confidence: [n] probability that the configured generator's adapter beats the fall-back.
        common_methods: names of the adapters that all clients share.
        common: [len(common_methods), D] half precision.
    """

    seed: int
    ids: tuple[str, ...]
    methods: tuple[str, ...]
    adapters: np.ndarray
    confidence: np.ndarray
    common_methods: tuple[str, ...]
    common: np.ndarray

    def pack(self) -> RecordDict:
        """The message body."""
        fields = {
            "seed": self.seed,
            "ids": list(self.ids),
            "methods": list(self.methods),
            "common_methods": list(self.common_methods),
        }
        arrays: dict[str, np.ndarray] = {
            "adapters": self.adapters.astype(np.float16),
            "confidence": self.confidence.astype(np.float32),
            "common": self.common.astype(np.float16),
        }
        return pack(fields, arrays)

    @classmethod
    def parse(cls, body: RecordDict, size: int) -> AdoptRequest:
        """Check and read a body; ``size`` is D."""
        read = Reader(body)
        ids = read.identifiers("ids", MOST_CLIENTS)
        methods = read.identifiers("methods", 1000)
        common_methods = read.identifiers("common_methods", 1000)
        confidence = read.array("confidence", "float32", (len(ids),))
        if (confidence < 0).any() or (confidence > 1).any():
            raise MessageError("a confidence lies outside [0, 1]")
        return cls(
            seed=read.integer("seed", 0, MOST_SEED),
            ids=ids,
            methods=methods,
            adapters=read.array("adapters", "float16", (len(ids), len(methods), size)),
            confidence=confidence,
            common_methods=common_methods,
            common=read.array("common", "float16", (len(common_methods), size)),
        )


@dataclass(frozen=True)
class AdoptReply:
    """What a node measured, for n virtual clients.

    Attributes:
        partition: of the node.
        ids: the virtual clients.
        splits: n kinds of unseen task, for the results only.
        methods: M names, baselines of the client included.
        metrics: K names.
        values: [n, M, K] fractions.
        seconds: [M] the node's time per client and method: training and evaluation.
    """

    partition: int
    ids: tuple[str, ...]
    splits: tuple[str, ...]
    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    values: np.ndarray
    seconds: np.ndarray

    def pack(self) -> RecordDict:
        """The message body."""
        fields = {
            "partition": self.partition,
            "ids": list(self.ids),
            "splits": list(self.splits),
            "methods": list(self.methods),
            "metrics": list(self.metrics),
        }
        return pack(fields, {"values": self.values, "seconds": self.seconds})

    @classmethod
    def parse(cls, body: RecordDict) -> AdoptReply:
        """Check and read a body."""
        read = Reader(body)
        ids, splits = read.identifiers("ids", MOST_CLIENTS), read.names("splits", MOST_CLIENTS)
        methods, metrics = read.identifiers("methods", 1000), read.identifiers("metrics", 100)
        values = read.array("values", "float64", (len(ids), len(methods), len(metrics)))
        seconds = read.array("seconds", "float64", (len(methods),))
        if len(splits) != len(ids):
            raise MessageError(f"{len(splits)} splits for {len(ids)} clients")
        if (values < 0).any() or (values > 1).any() or (seconds < 0).any():
            raise MessageError("a metric lies outside [0, 1] or a time is negative")
        if unknown := set(metrics) - set(METRICS):
            raise MessageError(f"{len(unknown)} metrics are none of {', '.join(METRICS)}")
        partition = read.integer("partition", 0, MOST_CLIENTS)
        return cls(partition, ids, splits, methods, metrics, values, seconds)

    def answering(self, request: AdoptRequest) -> AdoptReply:
        """This reply; a MessageError unless it is about the clients and adapters that were sent."""
        if set(self.ids) != set(request.ids):
            raise MessageError(f"results of {len(self.ids)} clients are not those asked for")
        sent = {*request.methods, *request.common_methods}
        if missing := sent - set(self.methods):
            raise MessageError(f"no results for {', '.join(sorted(missing))}")
        return self


def _unit(rows: np.ndarray) -> np.ndarray:
    if (norm := off_unit(rows)) is not None:
        raise MessageError(f"an embedding has norm {norm:.4g}; need 1")
    return rows
