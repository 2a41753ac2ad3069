"""The server's stages: enrol experts, train the shared LoRA, collect requests, deliver adapters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from flwr.app import RecordDict
from flwr.serverapp import Grid

from sglora_fed.config.schema import FederationConfig
from sglora_fed.errors import AdapterValueError, MessageError, RepliesError
from sglora_fed.federation.exchange import exchange
from sglora_fed.federation.messages import (
    ADOPT,
    DESCRIBE,
    TRAIN,
    AdoptReply,
    AdoptRequest,
    DescribeReply,
    DescribeRequest,
    ExpertReply,
    SharedReply,
    TrainRequest,
)
from sglora_fed.seeds import derive_seed

Progress = Callable[[int, int], None]
"""Called with (done, total)."""


@dataclass(frozen=True)
class Federation:
    """Who takes part and what fits.

    Attributes:
        grid: Flower's, or the in-process one.
        nodes: node ids.
        config: of the federation.
        dim: numbers of a description embedding, d.
        size: numbers of an adapter, D.
        bound: largest norm of an adapter that is taken.
        refusals: reasons of refused replies, in the order they came.
    """

    grid: Grid
    nodes: tuple[int, ...]
    config: FederationConfig
    dim: int
    size: int
    bound: float
    refusals: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Requests:
    """All virtual clients' requests, ordered by id.

    Attributes:
        ids: n virtual clients.
        nodes: [n] the node that carries each.
        embeddings: [n, d] privatised.
    """

    ids: tuple[str, ...]
    nodes: np.ndarray
    embeddings: np.ndarray


def enrol(
    federation: Federation,
    seed: int,
    known: Sequence[str],
    keep: Callable[[ExpertReply], None],
    progress: Progress,
) -> None:
    """Have the nodes train the experts that are not known yet.

    Args:
        federation: who takes part.
        seed: of the run.
        known: experts the zoo has.
        keep: stores a reply at once, so that an interrupted run can continue.
        progress: told the number of experts.
    """
    have, waiting = list(known), list(federation.nodes)
    while waiting:
        request = TrainRequest(seed, tuple(have), federation.config.clients_per_message)
        claimed = set(have)
        replies = exchange(
            federation.grid,
            dict.fromkeys(waiting, request.pack()),
            TRAIN,
            partial(_new_experts, federation, claimed),
            federation.config,
            federation.refusals,
        )
        for reply in replies.values():
            if reply.ids:
                keep(reply)
                have.extend(reply.ids)
        waiting = [node for node, reply in replies.items() if reply.remaining]
        progress(len(have), len(have) + sum(reply.remaining for reply in replies.values()))


def _new_experts(
    federation: Federation, claimed: set[str], _node: int, body: RecordDict
) -> ExpertReply:
    """A reply with experts that nobody sent before; they are claimed from now on."""
    reply = ExpertReply.parse(body, federation.dim, federation.size)
    check_norms(reply.means, federation.bound)
    check_norms(np.sqrt(reply.variances), federation.bound)
    claim(reply.ids, claimed)
    if reply.remaining and not reply.ids:
        raise MessageError(f"{reply.remaining} experts remain, but none came")
    return reply


def check_norms(rows: np.ndarray, bound: float) -> None:
    """Refuse vectors that no training could have made: one would spoil all that is made with it.

    Raises:
        MessageError: when the largest norm of [n, D] rows is beyond the bound.
    """
    largest = float(np.linalg.norm(rows.astype(np.float64), axis=-1).max(initial=0.0))
    if largest > bound:
        raise MessageError(f"a vector has norm {largest:.4g}; at most {bound:.4g}")


def claim(ids: Sequence[str], claimed: set[str]) -> None:
    """Add ids that nobody has claimed.

    Raises:
        MessageError: when one has been; none is added then.
    """
    if again := claimed.intersection(ids):
        raise MessageError(f"{len(again)} experts came twice")
    claimed.update(ids)


def train_shared_lora(
    federation: Federation, start: np.ndarray, experts: Sequence[str], seed: int, progress: Progress
) -> np.ndarray:
    """One LoRA for everybody by FedAvg, a sample of the experts each round, with server momentum.

    FedAvg is McMahan et al. 2017; its momentum on the server is FedAvgM (Hsu et al. 2019,
    arXiv 1909.06335): v <- m v + (mean - w), w <- w + v.

    Args:
        federation: who takes part.
        start: [D].
        experts: ids to sample from.
        seed: of the samples.
        progress: told the number of rounds.

    Returns:
        [D] float32.
    """
    config = federation.config
    vector: np.ndarray = start.astype(np.float32)
    velocity: np.ndarray = np.zeros_like(vector)
    rng = np.random.default_rng(derive_seed(seed, "shared_sample"))
    for number in range(1, config.shared_rounds + 1):
        count = min(config.shared_clients, len(experts))
        chosen = tuple(sorted(rng.choice(np.array(experts), count, replace=False).tolist()))
        mean = _shared_round(federation, TrainRequest(seed, chosen, 1, number, vector))
        velocity = config.shared_momentum * velocity + (mean - vector)
        vector = vector + velocity
        progress(number, config.shared_rounds)
    return vector


def _shared_round(federation: Federation, request: TrainRequest) -> np.ndarray:
    replies = exchange(
        federation.grid,
        dict.fromkeys(federation.nodes, request.pack()),
        TRAIN,
        partial(_shared_total, federation),
        federation.config,
        federation.refusals,
    )
    examples = sum(reply.examples for reply in replies.values())
    if not examples:
        raise RepliesError(f"round {request.round}: none of {len(request.known)} experts replied")
    total = np.sum([reply.total for reply in replies.values()], axis=0)
    mean: np.ndarray = (total / examples).astype(np.float32)
    if not np.isfinite(mean).all():
        raise AdapterValueError(f"round {request.round}: the shared LoRA is NaN or infinite")
    return mean


def _shared_total(federation: Federation, _node: int, body: RecordDict) -> SharedReply:
    reply = SharedReply.parse(body, federation.size)
    check_norms(reply.total[None], federation.bound * reply.examples)
    return reply


def collect_requests(federation: Federation, seed: int) -> Requests:
    """Ask every node for its virtual clients' privatised description embeddings."""
    replies = exchange(
        federation.grid,
        dict.fromkeys(federation.nodes, DescribeRequest(seed).pack()),
        DESCRIBE,
        lambda _, body: DescribeReply.parse(body, federation.dim),
        federation.config,
        federation.refusals,
    )
    ids = [name for reply in replies.values() for name in reply.ids]
    if len(set(ids)) < len(ids) or not ids:
        raise MessageError(
            f"{len(ids)} clients, {len(set(ids))} distinct; need at least one, each once"
        )
    nodes = np.array([node for node, reply in replies.items() for _ in reply.ids], object)
    embeddings = np.concatenate([reply.embeddings for reply in replies.values()])
    order = np.argsort(np.array(ids))
    return Requests(tuple(ids[i] for i in order), nodes[order], embeddings[order])


def deliver(
    federation: Federation,
    seed: int,
    requests: Requests,
    adapters: dict[str, np.ndarray],
    confidence: np.ndarray,
    common: dict[str, np.ndarray],
    progress: Progress,
) -> list[AdoptReply]:
    """Send every client its adapters and collect what it measured.

    Args:
        federation: who takes part.
        seed: of the run.
        requests: n clients.
        adapters: method -> [n, D], made for each client.
        confidence: [n] that the configured generator's adapter beats the fall-back.
        common: method -> [D], the same for all.
        progress: told the number of clients.
    """
    queues = {node: np.flatnonzero(requests.nodes == node) for node in federation.nodes}
    size, done, measured = federation.config.clients_per_message, 0, []
    for start in range(0, max(len(queue) for queue in queues.values()), size):
        chunks = {node: queue[start : start + size] for node, queue in queues.items()}
        asked = {
            node: _adopt_request(federation, seed, requests, rows, adapters, confidence, common)
            for node, rows in chunks.items()
            if len(rows)
        }
        replies = exchange(
            federation.grid,
            {node: request.pack() for node, request in asked.items()},
            ADOPT,
            partial(_results, asked),
            federation.config,
            federation.refusals,
        )
        measured += list(replies.values())
        done += sum(len(reply.ids) for reply in replies.values())
        progress(done, len(requests.ids))
    return measured


def _results(asked: Mapping[int, AdoptRequest], node: int, body: RecordDict) -> AdoptReply:
    return AdoptReply.parse(body).answering(asked[node])


def _adopt_request(
    federation: Federation,
    seed: int,
    requests: Requests,
    rows: np.ndarray,
    adapters: dict[str, np.ndarray],
    confidence: np.ndarray,
    common: dict[str, np.ndarray],
) -> AdoptRequest:
    empty = np.empty((len(rows), 0, federation.size), np.float16)
    return AdoptRequest(
        seed=seed,
        ids=tuple(requests.ids[i] for i in rows),
        methods=tuple(adapters),
        adapters=np.stack([a[rows] for a in adapters.values()], 1) if adapters else empty,
        confidence=confidence[rows],
        common_methods=tuple(common),
        common=np.stack(list(common.values())) if common else empty[0],
    )
