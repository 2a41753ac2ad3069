"""Federated training of the functional generator: the server's rounds and the node's share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from flwr.app import RecordDict

from sglora_fed.adapters import check_vectors, train_adapters
from sglora_fed.config.schema import FederationConfig, GeneratorConfig
from sglora_fed.errors import MessageError, RepliesError
from sglora_fed.federation.coordinator import Federation, check_norms, claim
from sglora_fed.federation.exchange import exchange
from sglora_fed.federation.messages import ROUND, RoundReply, RoundRequest
from sglora_fed.federation.node import Node, cached_train, embed, wording
from sglora_fed.generators.functional import (
    LinearGenerator,
    advance,
    clipped,
    first_factors,
    smoothed,
)
from sglora_fed.seeds import derive_seed
from sglora_fed.zoo import Zoo

ONE_REPLY = 1e-9
"""Share of the nodes that must answer in a round: any above zero asks for one."""

LAST_RATE = 0.1
"""The learning rate falls evenly over the rounds, to this share of the configured one."""


def train_functional(
    federation: Federation,
    zoo: Zoo,
    start: np.ndarray,
    config: GeneratorConfig,
    seed: int,
    progress: Callable[[int, int], None],
) -> LinearGenerator:
    """Boost the generator by the experts' local updates, round by round.

    A reply that is refused costs its experts one round; the round goes on with the others.

    Args:
        federation: who takes part.
        zoo: whose descriptions are smoothed over.
        start: [D] what every description gets before the first round: the shared LoRA.
        config: penalty and rank.
        seed: of the samples.
        progress: told the number of rounds.

    Raises:
        RepliesError: when no usable reply comes in a round.
    """
    rounds = federation.config.functional_rounds
    rng = np.random.default_rng(derive_seed(seed, "functional_sample"))
    factors = first_factors(start, len(zoo.ids))
    for number in range(1, rounds + 1):
        count = min(federation.config.functional_clients, len(zoo.ids))
        chosen = sorted(zoo.ids[i] for i in rng.choice(len(zoo.ids), count, replace=False))
        linear = smoothed(factors, zoo, config.smoothing)
        request = RoundRequest(seed, number, tuple(chosen), linear)
        names, updates = _collect(federation, request)
        rows = np.array([zoo.ids.index(name) for name in names])
        updates, scaled = clipped(updates)
        if scaled:
            federation.refusals.append(f"round {number}: {scaled} updates were scaled down")
        factors = advance(factors, rows, updates, config.rank)
        progress(number, rounds)
    return smoothed(factors, zoo, config.smoothing)


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
    parts = [cached_train(node, task.id) for task in tasks]
    seeds = [derive_seed(seed, task.id) for task in tasks]
    trained = train_adapters(node.encoder, node.layout, starts, parts, train, seeds)
    updates = (trained.final - starts).astype(np.float16)
    return RoundReply(node.partition, tuple(task.id for task in tasks), updates)


def _rate(number: int, config: FederationConfig) -> float:
    return 1 - (1 - LAST_RATE) * (number - 1) / config.functional_rounds
