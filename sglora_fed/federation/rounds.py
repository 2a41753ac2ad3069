"""``train.round``: rounds of a generator that is trained through the experts' losses.

The server makes each expert's adapter from one of its wordings; the expert trains a few steps on
its own data and returns what it changed. Which generator learns from that is nobody's business
here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np
from flwr.app import RecordDict

from sglora_fed.adapters.layout import check_vectors
from sglora_fed.adapters.start import norm_bound, within_bound
from sglora_fed.adapters.training import Trained, train_adapters
from sglora_fed.config.schema import FederationConfig
from sglora_fed.errors import GeneratorError, RepliesError
from sglora_fed.federation.codec import MOST_CLIENTS, MOST_SEED, Reader, pack
from sglora_fed.federation.exchange import NAME_BYTES, ONE_REPLY, Federation, Progress
from sglora_fed.federation.node import Node, practice, spoken
from sglora_fed.federation.private import ROUND, Lesson, trained_as_promised
from sglora_fed.federation.roster import Part
from sglora_fed.generators import FederatedGenerator, Generator, is_federated, make_generator
from sglora_fed.kept.facts import generator_facts
from sglora_fed.kept.generators import keep_generator, kept_generator
from sglora_fed.kept.zoos import zoo_identity
from sglora_fed.seeds import derive_seed
from sglora_fed.zoo import Zoo

LAST_RATE = 0.1
"""The learning rate falls evenly over the rounds; in the last it is this share of the first."""


@dataclass(frozen=True)
class RoundRequest:
    """One round for a node's experts.

    Attributes:
        seed: of the run.
        round: from 1 on.
        ids: n of the node's experts.
        starts: [n, D] half precision, the adapters from which they train.
    """

    seed: int
    round: int
    ids: tuple[str, ...]
    starts: np.ndarray

    def pack(self) -> RecordDict:
        """The message body."""
        fields = {"seed": self.seed, "round": self.round, "ids": list(self.ids)}
        return pack(fields, {"starts": self.starts.astype(np.float16)})

    @classmethod
    def parse(cls, body: RecordDict, size: int) -> RoundRequest:
        """Check and read a body; ``size`` is D."""
        read = Reader(body)
        ids = read.identifiers("ids", MOST_CLIENTS)
        return cls(
            seed=read.integer("seed", 0, MOST_SEED),
            round=read.integer("round", 1, 1_000_000),
            ids=ids,
            starts=read.array("starts", "float16", (len(ids), size)),
        )


@dataclass(frozen=True)
class RoundReply:
    """What a node's experts learnt in one round.

    Attributes:
        partition: of the node.
        ids: n experts that took part.
        updates: [n, D] half precision, after less before.
    """

    about: ClassVar[Part] = "experts"
    partition: int
    ids: tuple[str, ...]
    updates: np.ndarray

    def pack(self) -> RecordDict:
        """The message body."""
        fields = {"partition": self.partition, "ids": list(self.ids)}
        return pack(fields, {"updates": self.updates.astype(np.float16)})

    @classmethod
    def parse(cls, body: RecordDict, size: int) -> RoundReply:
        """Check and read a body; ``size`` is D."""
        read = Reader(body)
        ids = read.identifiers("ids", MOST_CLIENTS)
        return cls(
            partition=read.integer("partition", 0, MOST_CLIENTS),
            ids=ids,
            updates=read.array("updates", "float16", (len(ids), size)),
        )


def trained_generator(federation: Federation, name: str, zoo: Zoo, start: np.ndarray) -> Generator:
    """A generator of the zoo's experts: kept from an earlier run, or trained and kept.

    Args:
        federation: who takes part.
        name: of a generator that learns in rounds.
        zoo: whose experts train.
        start: [D] the adapter that they start from in the first round.

    Raises:
        GeneratorFileError: when the kept one is damaged.
        RepliesError: when no usable reply comes in a round.
    """
    config, layout, seed = federation.config, federation.layout, federation.seed
    facts = generator_facts(config, name, layout, zoo, seed)
    identity = zoo_identity(config, layout, seed)
    if (kept := kept_generator(facts, identity)) is not None:
        return kept
    generator = make_generator(config.generator, name)
    absent = train_in_rounds(federation, generator, zoo, start, federation.reporter(name))
    keep_generator(generator, config.generator, identity, facts, absent)
    return generator


def train_in_rounds(
    federation: Federation,
    generator: Generator,
    zoo: Zoo,
    start: np.ndarray,
    report: Progress,
) -> tuple[str, ...]:
    """Let a generator learn from the experts' local updates.

    A reply that is refused costs its experts one round; the round goes on with the others.

    Args:
        federation: who takes part.
        generator: learns.
        zoo: whose experts train.
        start: [D] one adapter for everybody, what the words alone can do is learnt before what a
            description adds to it.
        report: told the number of rounds.

    Returns:
        The experts that were asked in vain in some round, or whose node is away.

    Raises:
        RepliesError: when all nodes fail in a round, or no usable reply comes in any.
        GeneratorError: for a generator that does not learn in rounds.
    """
    if not is_federated(generator):
        raise GeneratorError(f"{generator.name} is fitted to a zoo; it does not learn in rounds")
    config = federation.config.federation
    rng = np.random.default_rng(derive_seed(federation.seed, "functional_sample"))
    roster, answered = federation.roster, 0
    share = np.random.default_rng(derive_seed(federation.seed, "taking_part"))
    present = roster.taking_part(zoo.ids, share)
    absent = set(zoo.ids) - set(roster.present(zoo.ids))
    generator.begin(zoo, federation.layout, start)
    for number in range(1, config.generator_rounds + 1):
        count = min(config.generator_clients, len(present))
        chosen = sorted(present[i] for i in rng.choice(len(present), count, replace=False))
        updates = _updates(federation, number, _starts(federation, generator, zoo, number, chosen))
        if updates and (scaled := _learn(generator, zoo, updates)):
            federation.refusals.append(f"round {number}: {scaled} updates were scaled down")
        answered += len(updates)
        absent |= set(chosen) - set(updates)
        report(number, config.generator_rounds)
    if not answered:
        raise RepliesError(f"{ROUND}: no expert replied in {config.generator_rounds} rounds")
    return tuple(sorted(absent))


def _learn(generator: FederatedGenerator, zoo: Zoo, updates: Mapping[str, np.ndarray]) -> int:
    """The number of updates that the generator did not take as they are."""
    return generator.learn(zoo.rows_of(updates), np.stack(list(updates.values())))


def _starts(
    federation: Federation, generator: FederatedGenerator, zoo: Zoo, number: int, chosen: list[str]
) -> dict[str, np.ndarray]:
    """Expert -> the adapter [D] for one of its wordings, in half precision as it travels."""
    rows = zoo.rows_of(chosen)
    seed = _round_seed(federation.seed, number)
    said = [spoken(name, zoo.wordings.shape[1], seed) for name in chosen]
    texts = zoo.wordings[rows][np.arange(len(rows)), said]
    made = within_bound(generator.starts(rows, texts), federation.layout)
    return dict(zip(chosen, made.astype(np.float16), strict=True))


def _updates(
    federation: Federation, number: int, starts: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Expert -> its update [D], for those that replied."""
    roster = federation.roster
    asked = {
        node: RoundRequest(
            federation.seed,
            number,
            roster.own_ids(names),
            np.stack([starts[name] for name in names]),
        )
        for node, names in roster.by_node(list(starts)).items()
    }
    replies = federation.ask(
        ROUND,
        asked,
        partial(_parse, federation),
        (2 * federation.layout.size + NAME_BYTES) * len(starts),
        ONE_REPLY,
    )
    return {
        name: update.astype(np.float64)
        for node, reply in replies.items()
        for name, update in zip(roster.names(node, reply.ids), reply.updates, strict=True)
    }


def _parse(federation: Federation, _: RoundRequest, body: RecordDict) -> RoundReply:
    reply = RoundReply.parse(body, federation.layout.size)
    federation.check_norms(reply.updates, times=2)
    return reply


def _round_seed(seed: int, number: int) -> int:
    return derive_seed(seed, "functional", number)


def train_round(node: Node, request: RoundRequest) -> RoundReply:
    """The node's experts that take part train a little from the adapters made for them.

    Raises:
        AdapterValueError: for a start beyond the norm bound.
    """
    rows = [row for row, name in enumerate(request.ids) if name in node.experts]
    tasks = [node.experts[request.ids[row]] for row in rows]
    if not tasks:
        return RoundReply(node.partition, (), np.empty((0, node.layout.size), np.float16))
    starts = request.starts[rows].astype(np.float32)
    check_vectors(starts, node.layout, norm_bound(node.layout))
    config, seed = node.config, _round_seed(request.seed, request.round)
    steps, rate = config.federation.generator_steps, config.adapter.train.lr
    share = rate_of_round(request.round, config.federation)
    train = replace(config.adapter.train, steps=steps, lr=share * rate, checkpoints=1, patience=0)

    def plain(rows: Sequence[int]) -> Trained:
        seeds = [derive_seed(seed, tasks[row].id) for row in rows]
        parts = [
            practice(node, tasks[row], own, steps) for row, own in zip(rows, seeds, strict=True)
        ]
        return train_adapters(node.encoder, node.layout, starts[list(rows)], parts, train, seeds)

    lesson = Lesson(ROUND, request.round, request.seed, train, share)
    trained = trained_as_promised(node, tasks, starts, lesson, plain)
    updates = (trained.final - starts).astype(np.float16)
    return RoundReply(node.partition, tuple(task.id for task in tasks), updates)


def rate_of_round(number: int, config: FederationConfig) -> float:
    """Share of the learning rate: 1 in round 1, ``LAST_RATE`` in the last, evenly between."""
    steps = max(config.generator_rounds - 1, 1)
    return 1 - (1 - LAST_RATE) * min(number - 1, steps) / steps
