"""``train.round``: the functional generator's federated rounds, on the server and on a node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from flwr.app import RecordDict

from sglora_fed.adapters.layout import Layout, check_vectors
from sglora_fed.adapters.training import train_adapters
from sglora_fed.config.schema import FederationConfig
from sglora_fed.errors import MessageError, RepliesError
from sglora_fed.federation.codec import Reader, pack
from sglora_fed.federation.coordinator import Federation, check_norms, claim
from sglora_fed.federation.exchange import exchange
from sglora_fed.federation.messages import MOST_CLIENTS, MOST_SEED
from sglora_fed.federation.node import Node, embed, practice, wording
from sglora_fed.generators.functional import Functional, LinearGenerator
from sglora_fed.seeds import derive_seed
from sglora_fed.zoo import Zoo

ROUND = "train.round"

ONE_REPLY = 1e-9
"""Share of the nodes that must answer in a round: any above zero asks for one."""

LAST_RATE = 0.1
"""The learning rate falls evenly over the rounds, to this share of the configured one."""


@dataclass(frozen=True)
class RoundRequest:
    """One round of the functional generator.

    Attributes:
        seed: of the run.
        round: from 1 on.
        experts: ids that take part, on whatever node they are.
        generator: makes each expert's start from its description, on its own node.
    """

    seed: int
    round: int
    experts: tuple[str, ...]
    generator: LinearGenerator

    def pack(self) -> RecordDict:
        """The message body; the large arrays in half precision."""
        linear = self.generator
        fields = {"seed": self.seed, "round": self.round, "experts": list(self.experts)}
        arrays: dict[str, np.ndarray] = {
            "centre": linear.centre.astype(np.float32),
            "map": linear.map.astype(np.float32),
            "basis": linear.basis.astype(np.float16),
            "offset": linear.offset.astype(np.float16),
        }
        return pack(fields, arrays)

    @classmethod
    def parse(cls, body: RecordDict, dim: int, size: int) -> RoundRequest:
        """Check and read a body; ``dim`` is d, ``size`` is D."""
        read = Reader(body)
        basis = read.array("basis", "float16", (None, size)).astype(np.float32)
        return cls(
            seed=read.integer("seed", 0, MOST_SEED),
            round=read.integer("round", 1, 1_000_000),
            experts=read.identifiers("experts", MOST_CLIENTS),
            generator=LinearGenerator(
                read.array("centre", "float32", (dim,)),
                read.array("map", "float32", (dim, len(basis))),
                basis,
                read.array("offset", "float16", (size,)).astype(np.float32),
            ),
        )


@dataclass(frozen=True)
class RoundReply:
    """What a node's experts learnt in one round of the functional generator.

    Attributes:
        partition: of the node.
        ids: n experts that took part.
        updates: [n, D] half precision, after less before.
    """

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


def train_functional(
    federation: Federation,
    generator: Functional,
    start: np.ndarray,
    zoo: Zoo,
    layout: Layout,
    seed: int,
    progress: Callable[[int, int], None],
) -> None:
    """Boost the generator by the experts' local updates, from one adapter for everybody on.

    A reply that is refused costs its experts one round; the round goes on with the others. An
    expert whose coordinates contradict all others' gets what these predict for it.

    Args:
        federation: who takes part.
        generator: that learns.
        start: [D] the shared LoRA: what the words alone can do is learnt before what a description
            adds to it.
        zoo: whose descriptions are smoothed over.
        layout: of the adapters.
        seed: of the samples.
        progress: told the number of rounds.

    Raises:
        RepliesError: when no usable reply comes in a round.
    """
    rounds = federation.config.functional_rounds
    rng = np.random.default_rng(derive_seed(seed, "functional_sample"))
    generator.begin(zoo, layout, start)
    for number in range(1, rounds + 1):
        count = min(federation.config.functional_clients, len(zoo.ids))
        chosen = sorted(zoo.ids[i] for i in rng.choice(len(zoo.ids), count, replace=False))
        request = RoundRequest(seed, number, tuple(chosen), generator.linear())
        names, updates = _collect(federation, request)
        rows = np.array([zoo.ids.index(name) for name in names])
        if doubted := generator.learn(rows, updates):
            federation.refusals.append(
                f"round {number}: {doubted} updates were scaled down or not believed"
            )
        progress(number, rounds)


def _collect(federation: Federation, request: RoundRequest) -> tuple[list[str], np.ndarray]:
    """Names and updates [n, D] of the experts that replied."""
    claimed = set[str]()
    replies = exchange(
        federation.grid,
        dict.fromkeys(federation.nodes, request.pack()),
        ROUND,
        lambda _, body: _parse(federation, body, request.experts, claimed),
        replace(federation.config, min_replies=ONE_REPLY),
        federation.refusals,
    )
    names = [name for reply in replies.values() for name in reply.ids]
    if not names:
        raise RepliesError(f"round {request.round}: no update of {len(request.experts)} experts")
    updates = np.concatenate([reply.updates for reply in replies.values()])
    return names, updates.astype(np.float64)


def _parse(
    federation: Federation, body: RecordDict, chosen: Sequence[str], claimed: set[str]
) -> RoundReply:
    reply = RoundReply.parse(body, federation.size)
    check_norms(reply.updates, 2 * federation.bound)
    if foreign := set(reply.ids) - set(chosen):
        raise MessageError(f"{len(foreign)} updates of experts that were not asked")
    claim(reply.ids, claimed)
    return reply


def train_round(node: Node, request: RoundRequest) -> RoundReply:
    """The node's experts that take part start from their generated adapters and train a little."""
    tasks = [node.experts[name] for name in request.experts if name in node.experts]
    if not tasks:
        return RoundReply(node.partition, (), np.empty((0, node.layout.size), np.float16))
    seed = derive_seed(request.seed, "functional", request.round)
    starts = request.generator.adapters(embed(node, [wording(task, seed) for task in tasks]))
    check_vectors(starts, node.layout)
    config = node.config
    steps = config.federation.functional_steps
    rate = _rate(request.round, config.federation) * config.adapter.train.lr
    train = replace(config.adapter.train, steps=steps, lr=rate, checkpoints=1, patience=0)
    seeds = [derive_seed(seed, task.id) for task in tasks]
    parts = [practice(node, task, own, steps) for task, own in zip(tasks, seeds, strict=True)]
    trained = train_adapters(node.encoder, node.layout, starts, parts, train, seeds)
    updates = (trained.final - starts).astype(np.float16)
    return RoundReply(node.partition, tuple(task.id for task in tasks), updates)


def _rate(number: int, config: FederationConfig) -> float:
    return 1 - (1 - LAST_RATE) * (number - 1) / config.functional_rounds
