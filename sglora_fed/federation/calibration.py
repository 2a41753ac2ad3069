"""``evaluate.calibrate``: experts tell whether an adapter made without them beats the fall-back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from flwr.app import RecordDict

from sglora_fed.adapters.data import Prepared, prepare
from sglora_fed.adapters.evaluation import score_tasks
from sglora_fed.adapters.layout import check_vectors
from sglora_fed.backbones.metrics import task_metrics
from sglora_fed.config.schema import GeneratorConfig
from sglora_fed.errors import MessageError, RepliesError
from sglora_fed.federation.bench import norm_bound
from sglora_fed.federation.codec import Reader, pack
from sglora_fed.federation.coordinator import Federation, claim
from sglora_fed.federation.exchange import exchange
from sglora_fed.federation.messages import MOST_CLIENTS, MOST_SEED
from sglora_fed.federation.node import Node
from sglora_fed.generators.base import Generator
from sglora_fed.generators.confidence import (
    FEATURES,
    Confidence,
    features,
    fit_confidence,
    trial,
)
from sglora_fed.seeds import derive_seed
from sglora_fed.tasks.types import Example, Task
from sglora_fed.zoo import Zoo

CALIBRATE = "evaluate.calibrate"

EXPERTS_PER_MESSAGE = 64

CHECKED = 128
"""Examples on which an expert compares, at most."""

FEWEST = 2
"""Experts below which none can be held out."""

UNKNOWN = Confidence(np.zeros(1 + FEATURES), np.zeros((1 + FEATURES, 1 + FEATURES)))
"""Even odds for everybody: without a comparison neither side is known to be better."""


@dataclass(frozen=True)
class CalibrateRequest:
    """Adapters for some experts, generated without them.

    Attributes:
        seed: of the run.
        ids: n experts, on whatever node they are.
        adapters: [n, K, D] half precision.
        fallback: [D] half precision.
    """

    seed: int
    ids: tuple[str, ...]
    adapters: np.ndarray
    fallback: np.ndarray

    def pack(self) -> RecordDict:
        """The message body."""
        arrays = {
            "adapters": self.adapters.astype(np.float16),
            "fallback": self.fallback.astype(np.float16),
        }
        return pack({"seed": self.seed, "ids": list(self.ids)}, arrays)

    @classmethod
    def parse(cls, body: RecordDict, size: int) -> CalibrateRequest:
        """Check and read a body; ``size`` is D."""
        read = Reader(body)
        ids = read.identifiers("ids", MOST_CLIENTS)
        return cls(
            seed=read.integer("seed", 0, MOST_SEED),
            ids=ids,
            adapters=read.array("adapters", "float16", (len(ids), None, size)),
            fallback=read.array("fallback", "float16", (size,)),
        )


@dataclass(frozen=True)
class CalibrateReply:
    """How much better the adapters were than the fall-back that the server chose.

    Attributes:
        partition: of the node.
        ids: its n experts among those asked for.
        gains: [n, K] main metric of the adapter less that of the fall-back.
    """

    partition: int
    ids: tuple[str, ...]
    gains: np.ndarray

    def pack(self) -> RecordDict:
        """The message body."""
        fields = {"partition": self.partition, "ids": list(self.ids)}
        return pack(fields, {"gains": self.gains.astype(np.float64)})

    @classmethod
    def parse(cls, body: RecordDict) -> CalibrateReply:
        """Check and read a body."""
        read = Reader(body)
        ids = read.identifiers("ids", MOST_CLIENTS)
        gains = read.array("gains", "float64", (len(ids), None))
        if (largest := float(np.abs(gains).max(initial=0.0))) > 1:
            raise MessageError(f"a gain is {largest:.4g}; must lie in [-1, 1]")
        return cls(read.integer("partition", 0, MOST_CLIENTS), ids, gains)


def calibrate(
    federation: Federation,
    generator: Generator,
    config: GeneratorConfig,
    zoo: Zoo,
    fallback: np.ndarray,
    strangers: np.ndarray,
    retrain: Callable[[Zoo], Generator],
    seed: int,
    progress: Callable[[int, int], None],
) -> Confidence:
    """Fit the confidence on the experts' own comparisons.

    Args:
        federation: who takes part.
        generator: fitted to the zoo.
        config: that it was made with.
        zoo: its experts.
        fallback: [D] what a client without confidence uses.
        strangers: [S, d] embeddings of sentences that describe no task.
        retrain: a generator that the federation trains, for fewer experts.
        seed: of the run.
        progress: told the number of experts.

    Raises:
        RepliesError: when too few nodes answer, or no expert does.
    """
    if len(zoo.ids) < FEWEST:
        return UNKNOWN
    tried = trial(generator, config, zoo, strangers, retrain, seed)
    ids = tuple(zoo.ids[row] for row in tried.rows)
    adapters = np.concatenate([kind.adapters for kind in tried.made], axis=1)
    gains: dict[str, np.ndarray] = {}
    for start in range(0, len(ids), EXPERTS_PER_MESSAGE):
        some = slice(start, start + EXPERTS_PER_MESSAGE)
        request = CalibrateRequest(seed, ids[some], adapters[some], fallback)
        for reply in _ask(federation, request):
            gains |= zip(reply.ids, reply.gains, strict=True)
        progress(min(len(ids), some.stop), len(ids))
    if not gains:
        raise RepliesError(f"{CALIBRATE}: none of {len(ids)} experts replied")
    # In the zoo's order: who is on which node, and who answers first, is not to change a digit.
    rows = [row for row, name in enumerate(ids) if name in gains]
    inputs = np.stack([features(kind, fallback)[rows] for kind in tried.made], axis=1)
    found = np.stack([gains[ids[row]] for row in rows])
    judges = np.repeat(np.arange(len(rows)), found.shape[1])
    outcomes = (1 + np.sign(found.ravel())) / 2
    return fit_confidence(inputs.reshape(-1, inputs.shape[2]), outcomes, judges)


def _ask(federation: Federation, request: CalibrateRequest) -> list[CalibrateReply]:
    replies = exchange(
        federation.grid,
        dict.fromkeys(federation.nodes, request.pack()),
        CALIBRATE,
        partial(_parse, request, set[str]()),
        federation.config,
        federation.refusals,
    )
    return list(replies.values())


def _parse(
    request: CalibrateRequest, claimed: set[str], _node: int, body: RecordDict
) -> CalibrateReply:
    reply = CalibrateReply.parse(body)
    if foreign := set(reply.ids) - set(request.ids):
        raise MessageError(f"{len(foreign)} experts that were not asked")
    if reply.gains.shape[1] != (kinds := request.adapters.shape[1]):
        raise MessageError(f"{reply.gains.shape[1]} gains of each expert; {kinds} were asked for")
    claim(reply.ids, claimed)
    return reply


def compare(node: Node, request: CalibrateRequest) -> CalibrateReply:
    """Let the node's experts measure the adapters and the fall-back on some of their examples.

    Raises:
        AdapterValueError: for an adapter beyond the norm bound.
    """
    bound, size = norm_bound(node.layout), node.layout.size
    check_vectors(request.adapters, node.layout, bound)
    check_vectors(request.fallback, node.layout, bound)
    rows = [row for row, name in enumerate(request.ids) if name in node.experts]
    ids = tuple(request.ids[row] for row in rows)
    tasks, hints = [node.experts[name] for name in ids], node.config.adapter.hints
    samples = [_examples(task, request.seed) for task in tasks]
    parts = [
        prepare(node.encoder, task, some, hints) for task, some in zip(tasks, samples, strict=True)
    ]
    floor = _measured(node, parts, samples, np.broadcast_to(request.fallback, (len(ids), size)))
    gains = [
        _measured(node, parts, samples, request.adapters[rows, k]) - floor
        for k in range(request.adapters.shape[1])
    ]
    return CalibrateReply(node.partition, ids, np.stack(gains, axis=1))


def _examples(task: Task, seed: int) -> list[Example]:
    rng = np.random.default_rng(derive_seed(seed, "calibrate", task.id))
    return [task.train[i] for i in rng.permutation(len(task.train))[:CHECKED]]


def _measured(
    node: Node, parts: list[Prepared], samples: Sequence[Sequence[Example]], vectors: np.ndarray
) -> np.ndarray:
    """[n] the main metric of each expert with its adapter [n, D]."""
    scores = score_tasks(node.encoder, parts, node.layout, vectors.astype(np.float32))
    found = [
        task_metrics(part.kind, score, part.targets, [(e.key, e.label) for e in some])
        for part, score, some in zip(parts, scores, samples, strict=True)
    ]
    return np.array([next(iter(metrics.values())) for metrics in found])
