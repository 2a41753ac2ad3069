"""``train.shared``: one LoRA for everybody by FedAvg, in rounds over samples of the experts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np
from flwr.app import RecordDict

from sglora_fed.adapters.layout import check_vectors
from sglora_fed.adapters.start import configured_start, norm_bound, within_bound
from sglora_fed.adapters.training import Trained, train_adapters
from sglora_fed.errors import AdapterValueError, RepliesError
from sglora_fed.federation.codec import MOST_CLIENTS, MOST_SEED, Reader, pack
from sglora_fed.federation.exchange import NAME_BYTES, Federation
from sglora_fed.federation.node import Node, practice
from sglora_fed.federation.private import SHARED, Lesson, trained_as_promised
from sglora_fed.federation.roster import Part
from sglora_fed.kept.adapters import keep_shared, kept_shared
from sglora_fed.kept.facts import shared_facts
from sglora_fed.seeds import derive_seed
from sglora_fed.zoo import Zoo

ENOUGH = 3
"""Nodes from which on a majority can outvote a liar."""

WEISZFELD_STEPS, WEISZFELD_FLOOR = 50, 1e-6
"""Steps towards the geometric median, and the distance below which a point counts as reached."""


@dataclass(frozen=True)
class SharedRequest:
    """One round of the shared LoRA.

    Attributes:
        seed: of the run.
        round: from 1 on.
        ids: the node's experts that take part.
        start: [D] where they start from.
    """

    seed: int
    round: int
    ids: tuple[str, ...]
    start: np.ndarray

    def pack(self) -> RecordDict:
        """The message body."""
        fields = {"seed": self.seed, "round": self.round, "ids": list(self.ids)}
        return pack(fields, {"start": self.start.astype(np.float32)})

    @classmethod
    def parse(cls, body: RecordDict, size: int) -> SharedRequest:
        """Check and read a body; ``size`` is D."""
        read = Reader(body)
        return cls(
            seed=read.integer("seed", 0, MOST_SEED),
            round=read.integer("round", 1, 1_000_000),
            ids=read.identifiers("ids", MOST_CLIENTS),
            start=read.array("start", "float32", (size,)),
        )


@dataclass(frozen=True)
class SharedReply:
    """A node's share of one FedAvg round.

    Attributes:
        partition: of the node.
        ids: its experts that took part.
        mean: [D] of their trained LoRAs, weighted by their numbers of examples.
    """

    about: ClassVar[Part] = "experts"
    partition: int
    ids: tuple[str, ...]
    mean: np.ndarray

    def pack(self) -> RecordDict:
        """The message body."""
        fields = {"partition": self.partition, "ids": list(self.ids)}
        return pack(fields, {"mean": self.mean.astype(np.float64)})

    @classmethod
    def parse(cls, body: RecordDict, size: int) -> SharedReply:
        """Check and read a body; ``size`` is D."""
        read = Reader(body)
        return cls(
            partition=read.integer("partition", 0, MOST_CLIENTS),
            ids=read.identifiers("ids", MOST_CLIENTS),
            mean=read.array("mean", "float64", (size,)),
        )


def shared_lora(federation: Federation, zoo: Zoo) -> np.ndarray:
    """[D] the shared LoRA of a zoo's experts: kept from an earlier run, or trained and kept.

    Raises:
        AdapterFileError: when the kept one is damaged.
        RepliesError: when too few nodes answer.
    """
    facts = shared_facts(federation.config, federation.layout, zoo, federation.seed)
    kept = kept_shared(facts, federation.layout)
    if kept is not None:
        return kept
    vector, absent = train_shared(federation, zoo)
    keep_shared(vector, federation.layout, federation.config, facts, absent)
    return vector


def train_shared(federation: Federation, zoo: Zoo) -> tuple[np.ndarray, tuple[str, ...]]:
    """FedAvg over a sample of the experts each round, with server momentum.

    FedAvg is McMahan et al. 2017; its momentum on the server is FedAvgM (Hsu et al. 2019,
    arXiv 1909.06335): v <- m v + (mean - w), w <- w + v. How much an expert counts is known from
    its enrolment; a node cannot claim more.

    Args:
        federation: who takes part.
        zoo: whose experts train.

    Returns:
        [D] float32, never beyond the norm bound, and the experts that were asked in vain.
    """
    config, report = federation.config.federation, federation.reporter("shared LoRA")
    vector = configured_start(federation.config, federation.layout, federation.seed)[0]
    velocity = np.zeros_like(vector)
    rng = np.random.default_rng(derive_seed(federation.seed, "taking_part"))
    roster, answered = federation.roster, set[str]()
    present = roster.taking_part(zoo.ids, rng)
    absent = set(zoo.ids) - set(roster.present(zoo.ids))
    rng = np.random.default_rng(derive_seed(federation.seed, "shared_sample"))
    for number in range(1, config.shared_rounds + 1):
        count = min(config.shared_clients, len(present))
        chosen = sorted(rng.choice(np.array(present), count, replace=False).tolist())
        mean, names = _round(federation, zoo, number, chosen, vector)
        answered |= names
        absent |= set(chosen) - names
        velocity = config.shared_momentum * velocity + (mean - vector)
        # Momentum may carry it beyond what clients take.
        vector = within_bound(vector + velocity, federation.layout)
        report(number, config.shared_rounds)
    if not answered:
        raise RepliesError(f"{SHARED}: no expert replied in {config.shared_rounds} rounds")
    return vector, tuple(sorted(absent))


def _round(
    federation: Federation, zoo: Zoo, number: int, chosen: Sequence[str], start: np.ndarray
) -> tuple[np.ndarray, set[str]]:
    """[D] float32 the round's mean, and who took part; where nobody did, the start."""
    roster, weights = federation.roster, _weights(federation, zoo)
    asked = {
        node: SharedRequest(federation.seed, number, roster.own_ids(names), start)
        for node, names in roster.by_node(chosen).items()
    }
    replies = federation.ask(
        SHARED,
        asked,
        partial(_parse, federation),
        8 * federation.layout.size + NAME_BYTES * len(chosen),
    )
    names = {node: roster.names(node, reply.ids) for node, reply in replies.items() if reply.ids}
    if not names:
        return start, set()
    means = np.stack([replies[node].mean for node in names])
    shares = np.array([sum(weights[name] for name in own) for own in names.values()])
    mean: np.ndarray = robust_mean(means, shares).astype(np.float32)
    if not np.isfinite(mean).all():
        raise AdapterValueError(f"round {number}: the shared LoRA is NaN or infinite")
    return mean, {name for own in names.values() for name in own}


def _weights(federation: Federation, zoo: Zoo) -> dict[str, float]:
    """How much each expert counts in a mean: its enrolled examples, up to the roster's bound."""
    most = federation.config.federation.examples_per_expert
    return dict(zip(zoo.ids, np.minimum(zoo.examples, most).astype(float), strict=True))


def _parse(federation: Federation, _: SharedRequest, body: RecordDict) -> SharedReply:
    reply = SharedReply.parse(body, federation.layout.size)
    federation.check_norms(reply.mean[None])
    return reply


def robust_mean(means: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[D] what nodes agree on.

    The weighted mean of fewer than ``ENOUGH`` nodes, where nobody can be outvoted; of more, the
    geometric median (robust federated aggregation: Pillutla, Kakade & Harchaoui 2022,
    arXiv 1912.13445), which nodes with less than half of the weight cannot move far. There no node
    weighs more than the median node: how many examples it has is its own word.

    Args:
        means: [n, D] of n nodes.
        weights: [n] above zero.
    """
    if len(means) < ENOUGH:
        return np.asarray(weights / weights.sum() @ means)
    shares = np.minimum(weights, np.median(weights))
    shares /= shares.sum()
    centre: np.ndarray = shares @ means
    for _ in range(WEISZFELD_STEPS):
        distances = np.linalg.norm(means - centre, axis=1)
        pull = shares / np.maximum(distances, WEISZFELD_FLOOR)
        centre = pull @ means / pull.sum()
    return centre


def train_shared_round(node: Node, request: SharedRequest) -> SharedReply:
    """The node's experts that take part train a few steps from the shared LoRA.

    Raises:
        AdapterValueError: for a start beyond the norm bound.
    """
    check_vectors(request.start, node.layout, norm_bound(node.layout))
    tasks = [node.experts[name] for name in request.ids if name in node.experts]
    if not tasks:
        return SharedReply(node.partition, (), np.zeros(node.layout.size))
    federation, start = node.config.federation, request.start[None]
    steps = federation.shared_steps
    config = replace(node.config.adapter.train, steps=steps, checkpoints=1, patience=0)

    def plain(rows: Sequence[int]) -> Trained:
        seeds = [derive_seed(request.seed, "shared", request.round, tasks[row].id) for row in rows]
        parts = [
            practice(node, tasks[row], own, steps) for row, own in zip(rows, seeds, strict=True)
        ]
        return train_adapters(node.encoder, node.layout, start, parts, config, seeds)

    lesson = Lesson(SHARED, request.round, request.seed, config)
    trained = trained_as_promised(node, tasks, start, lesson, plain)
    counts = [min(len(task.train), federation.examples_per_expert) for task in tasks]
    mean = np.average(trained.final.astype(np.float64), axis=0, weights=counts)
    return SharedReply(node.partition, tuple(task.id for task in tasks), mean)
