"""``evaluate.calibrate``: experts tell whether an adapter made without them beats the fall-back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from flwr.app import RecordDict

from sglora_fed.adapters.data import Prepared, prepare
from sglora_fed.adapters.evaluation import score_tasks
from sglora_fed.adapters.layout import check_vectors
from sglora_fed.adapters.start import norm_bound, within_bound
from sglora_fed.backbones import load_describer
from sglora_fed.backbones.metrics import task_metrics
from sglora_fed.errors import MessageError, PromiseError, RepliesError
from sglora_fed.federation.codec import MOST_CLIENTS, MOST_SEED, Reader, pack
from sglora_fed.federation.exchange import NAME_BYTES, ONE_REPLY, Federation
from sglora_fed.federation.node import Node
from sglora_fed.federation.roster import Part
from sglora_fed.federation.rounds import train_in_rounds
from sglora_fed.generators import Generator, make_generator
from sglora_fed.generators.confidence import (
    FEATURES,
    STRANGERS,
    Confidence,
    features,
    fit_confidence,
    trial,
)
from sglora_fed.kept.facts import confidence_facts
from sglora_fed.kept.generators import keep_confidence, kept_confidence
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

OUTCOMES = (0.0, 0.5, 1.0)
"""Worse than the fall-back, equal, better: all that an expert tells."""


@dataclass(frozen=True)
class CalibrateRequest:
    """Adapters for some of a node's experts, generated without them.

    Attributes:
        seed: of the run.
        ids: n experts.
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
            "adapters": self.adapters.astype(np.float16, copy=False),
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
    """Whether the adapters were better than the fall-back that the server chose.

    Attributes:
        partition: of the node.
        ids: its n experts that were asked.
        outcomes: [n, K] of ``OUTCOMES``; no accuracy.
    """

    about: ClassVar[Part] = "experts"
    partition: int
    ids: tuple[str, ...]
    outcomes: np.ndarray

    def pack(self) -> RecordDict:
        """The message body."""
        fields = {"partition": self.partition, "ids": list(self.ids)}
        return pack(fields, {"outcomes": self.outcomes.astype(np.float32)})

    @classmethod
    def parse(cls, body: RecordDict, kinds: int) -> CalibrateReply:
        """Check and read a body; ``kinds`` is K."""
        read = Reader(body)
        ids = read.identifiers("ids", MOST_CLIENTS)
        outcomes = read.array("outcomes", "float32", (len(ids), kinds))
        if not np.isin(outcomes, OUTCOMES).all():
            raise MessageError(f"an outcome is none of {OUTCOMES}")
        return cls(read.integer("partition", 0, MOST_CLIENTS), ids, outcomes)


def confidence(
    federation: Federation, generator: Generator, zoo: Zoo, start: np.ndarray, fallback: np.ndarray
) -> Confidence:
    """How sure to be of a generator's adapters: kept from an earlier run, or asked for and kept.

    Args:
        federation: who takes part.
        generator: whose adapters clients adopt.
        zoo: its experts.
        start: [D] that a generator which learns in rounds starts from.
        fallback: [D] what a client without confidence uses.

    Raises:
        GeneratorFileError: when the kept one is damaged.
        RepliesError: when too few nodes answer.
    """
    facts = confidence_facts(federation.config, federation.layout, zoo, federation.seed)
    if (kept := kept_confidence(facts)) is not None:
        return kept
    found, whole = calibrate(federation, generator, zoo, start, fallback)
    if whole:
        keep_confidence(found, facts)
    return found


def calibrate(
    federation: Federation, generator: Generator, zoo: Zoo, start: np.ndarray, fallback: np.ndarray
) -> tuple[Confidence, bool]:
    """Fit the confidence on the experts' own comparisons; arguments as for :func:`confidence`.

    Returns:
        The confidence, and whether all judges answered.

    Raises:
        RepliesError: when too few nodes answer, or no expert does.
    """
    if len(zoo.ids) < FEWEST:
        return UNKNOWN, True
    config = federation.config
    strangers = np.asarray(load_describer(config.backbone).encode(STRANGERS))

    def retrain(some: Zoo) -> Generator:
        """In as many rounds: a generator of fewer is worse than the one that is judged."""
        other = make_generator(config.generator, generator.name)
        train_in_rounds(federation, other, some, start, federation.reporter("held out"))
        return other

    tried = trial(generator, config.generator, zoo, strangers, retrain, federation.seed)
    names = [zoo.ids[row] for row in tried.rows]
    adapters = np.concatenate([kind.adapters for kind in tried.made], axis=1)
    outcomes = _outcomes(federation, names, adapters, fallback)
    if not outcomes:
        raise RepliesError(f"{CALIBRATE}: none of {len(names)} experts replied")
    # In the zoo's order: who is on which node, and who answers first, is not to change a digit.
    rows = [row for row, name in enumerate(names) if name in outcomes]
    inputs = np.stack([features(kind, fallback)[rows] for kind in tried.made], axis=1)
    found = np.stack([outcomes[names[row]] for row in rows])
    judges = np.repeat(np.arange(len(rows)), inputs.shape[1])
    fit = fit_confidence(inputs.reshape(-1, inputs.shape[2]), found.ravel(), judges)
    return fit, len(rows) == len(names)


def _outcomes(
    federation: Federation, names: Sequence[str], adapters: np.ndarray, fallback: np.ndarray
) -> dict[str, np.ndarray]:
    """Expert -> [K] what it told of each of its adapters, for those that answered."""
    rows = {name: row for row, name in enumerate(names)}
    roster, report = federation.roster, federation.reporter("confidence")
    queues, found = roster.by_node(roster.present(names)), dict[str, np.ndarray]()
    rounds = (
        {
            node: CalibrateRequest(
                federation.seed,
                roster.own_ids(some),
                within_bound(adapters[[rows[name] for name in some]], federation.layout),
                fallback,
            )
            for node, queue in queues.items()
            if (some := queue[start : start + EXPERTS_PER_MESSAGE])
        }
        for start in range(0, max(map(len, queues.values()), default=0), EXPERTS_PER_MESSAGE)
    )
    for replies in federation.ask_ahead(
        CALIBRATE,
        rounds,
        lambda _, body: CalibrateReply.parse(body, adapters.shape[1]),
        EXPERTS_PER_MESSAGE * (4 * adapters.shape[1] + NAME_BYTES),
        ONE_REPLY,
    ):
        for node, reply in replies.items():
            found |= zip(roster.names(node, reply.ids), reply.outcomes, strict=True)
        report(len(found), len(names))
    return found


def judge(node: Node, request: CalibrateRequest) -> CalibrateReply:
    """Let the node's experts measure the adapters and the fall-back on some of their examples.

    Raises:
        PromiseError: when noise protects the experts' examples; what they judge has none.
        AdapterValueError: for an adapter beyond the norm bound.
    """
    node.floor.check_judged()
    if node.config.privacy.training.epsilon is not None:
        raise PromiseError("the experts' promise covers what they train, not what they judge")
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
    return CalibrateReply(node.partition, ids, (1 + np.sign(np.stack(gains, axis=1))) / 2)


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
