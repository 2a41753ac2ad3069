"""The messages of ``evaluate.compare``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from flwr.app import RecordDict

from sglora_fed.backbones.metrics import METRIC_SETS
from sglora_fed.config.schema import POLICY_METHOD
from sglora_fed.errors import MessageError
from sglora_fed.federation.answers import States, optional_arrays, read_optional, replies_of
from sglora_fed.federation.codec import MOST_CLIENTS, MOST_SEED, Reader, pack
from sglora_fed.federation.roster import Part
from sglora_fed.privacy.mechanisms.shares import Answers

MOST_METHODS = 1000

MOST_MB = 2**30
"""Of memory that a process can claim to have taken."""


@dataclass(frozen=True)
class CompareRequest:
    """Methods to measure on a node's virtual clients, and the adapters that the server made.

    Attributes:
        seed: of the run.
        ids: n virtual clients.
        methods: all that are to be measured, in this order.
        made: M of them, for which each client has adapters.
        adapters: [n, M m, D] half precision: m of each method, of which the client takes one.
        common: C of the methods, for which all clients share an adapter.
        shared: [C, D] half precision.
        confidence: [n] probability that the configured generator's adapter beats the fall-back;
            [0] when the policy is not among the methods, or the clients can tell for themselves.
        places: [n, m] of the catalogue that the adapters are for; None where clients named none.
        shares: two servers' answers with the configured generator, or None.
        generators: method -> state of a generator with which the clients make their own.
    """

    seed: int
    ids: tuple[str, ...]
    methods: tuple[str, ...]
    made: tuple[str, ...]
    adapters: np.ndarray
    common: tuple[str, ...]
    shared: np.ndarray
    confidence: np.ndarray
    places: np.ndarray | None = None
    shares: Answers | None = None
    generators: States = field(default_factory=dict)

    def pack(self) -> RecordDict:
        """The message body."""
        names = {name: list(getattr(self, name)) for name in ("ids", "methods", "made", "common")}
        names["generators"] = list(self.generators)
        arrays: dict[str, np.ndarray] = {
            **optional_arrays(self.places, self.shares, self.generators),
            "adapters": self.adapters.astype(np.float16, copy=False),
            "shared": self.shared.astype(np.float16, copy=False),
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
        places, shares, generators = read_optional(read, len(ids), size)
        adapters = read.array("adapters", "float16", (len(ids), None, size))
        replies_of(adapters.shape[1], len(made), places)
        return cls(
            seed=read.integer("seed", 0, MOST_SEED),
            ids=ids,
            methods=methods,
            made=made,
            adapters=adapters,
            common=common,
            shared=read.array("shared", "float16", (len(common), size)),
            confidence=confidence,
            places=places,
            shares=shares,
            generators=generators,
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
        seconds: [M] the node's time per client and method: choosing, training and evaluation.
        trust: [n, 2] the confidence that the policy decided by, and 1 for who adopted, else 0;
            [0, 2] without the policy.
        peak_mb: the most memory that the node's process has taken, in 2^20 bytes; 0: untold.
    """

    about: ClassVar[Part] = "clients"
    partition: int
    ids: tuple[str, ...]
    splits: tuple[str, ...]
    metrics: tuple[str, ...]
    values: np.ndarray
    seconds: np.ndarray
    trust: np.ndarray = field(default_factory=lambda: np.empty((0, 2), np.float32))
    peak_mb: int = 0

    def pack(self) -> RecordDict:
        """The message body."""
        names = {name: list(getattr(self, name)) for name in ("ids", "splits", "metrics")}
        arrays = {"values": self.values, "seconds": self.seconds}
        arrays["trust"] = self.trust.astype(np.float32)
        return pack({"partition": self.partition, "peak_mb": self.peak_mb, **names}, arrays)

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
        peak_mb = read.integer("peak_mb", 0, MOST_MB)
        return cls(partition, ids, splits, metrics, values, seconds, trust, peak_mb)
