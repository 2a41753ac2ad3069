"""What a server sends beside plain adapters, and what a client makes of it.

A client that asked with several places of a catalogue, or whose description was read in several
ways, gets an adapter for each and keeps one; it never says which. One that sent nothing gets the
generator. One that sent shares adds two answers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from sglora_fed.adapters.start import within_bound
from sglora_fed.adapters.unpaired import (
    FEWEST_ITEMS,
    Agree,
    agreements,
    most_suited,
    plain_agreements,
)
from sglora_fed.errors import GeneratorError, MessageError
from sglora_fed.federation.codec import Reader
from sglora_fed.federation.describe import words
from sglora_fed.federation.node import Node
from sglora_fed.federation.terms import agree, configured_readings
from sglora_fed.privacy.mechanisms.shares import SERVERS, Answers, combined
from sglora_fed.seeds import derive_seed
from sglora_fed.tasks.types import Example, Task

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

States = Mapping[str, Mapping[str, np.ndarray]]
"""Method -> arrays of its generator by name."""

MOST_ARRAYS = 64
"""Of all generators in a message."""


def optional_arrays(
    places: np.ndarray | None, shares: Answers | None, generators: States
) -> dict[str, np.ndarray]:
    """Arrays of a message, of those things that there are."""
    found = {f"generator/{n}/{a}": v for n, state in generators.items() for a, v in state.items()}
    if places is not None:
        found["places"] = places.astype(np.uint16)
    if shares is not None:
        found |= {"shares": shares.own, "entries": shares.entries}
    return found


def read_optional(
    read: Reader, clients: int, size: int
) -> tuple[np.ndarray | None, Answers | None, dict[str, dict[str, np.ndarray]]]:
    """The inverse of :func:`optional_arrays`, checked; ``size`` is D."""
    places = read.array("places", "uint16", (clients, None)) if "places" in read else None
    shares = None
    if "shares" in read:
        own = read.array("shares", "uint64", (clients, SERVERS, size))
        entries = read.array("entries", "uint16", (clients, SERVERS, None, size))
        shares = Answers(own, entries)
    names = read.identifiers("generators", MOST_ARRAYS)
    return places, shares, {n: read.state(f"generator/{n}/", MOST_ARRAYS) for n in names}


def replies_of(count: int, parts: int, places: np.ndarray | None) -> int:
    """How many adapters came for each client, m.

    Args:
        count: adapters in all.
        parts: clients, or methods of each client.
        places: [n, m] that they are for, where clients named some.

    Raises:
        MessageError: when they are not as many for all, or for the places.
    """
    replies = count // max(parts, 1)
    asked = replies if places is None or not parts else places.shape[1]
    if count != asked * parts or (parts and not replies):
        raise MessageError(f"{count} adapters do not give as many as were asked to {parts} parts")
    return replies


def chosen(
    node: Node, tasks: Sequence[Task], seed: int, adapters: np.ndarray, places: np.ndarray | None
) -> np.ndarray:
    """[n, D] of m adapters for each client the one that it keeps.

    A client that named places takes that with the least loss on a few of its labelled examples. Of
    several readings, or without such examples, one of a retrieval task takes that under which its
    items and captions choose one another most often, which needs no labels. Who can do neither
    takes that for the place nearest to its own description. Which one it was stays here.

    Args:
        node: that carries the clients.
        tasks: n of its clients.
        seed: of the run.
        adapters: [n, m, D].
        places: [n, m] of the catalogue; None: for readings of the description, the nearest first.

    Raises:
        MessageError: for more of them than were asked for, or unknown places.
    """
    replies, by = adapters.shape[1], node.config.privacy.choose_by
    if replies == 1:
        return np.asarray(adapters[:, 0])
    config = node.config
    wanted = config.generator.readings if places is None else config.privacy.replies
    if replies > wanted:
        raise MessageError(f"{replies} adapters to choose from; {wanted} were asked for")
    best = np.full(len(tasks), -1)
    for row, task in enumerate(tasks):
        labelled = places is not None or task.kind == "labelled"
        if labelled and (few := _few(task, by, seed)):
            best[row] = _losses(node, task, few, adapters[row]).argmin()
    _fill(best, [_can_try(task) for task in tasks], partial(_tried, node, tasks, seed, adapters))
    _fill(best, [True] * len(tasks), partial(_nearest, node, tasks, seed, places))
    return np.asarray(adapters[np.arange(len(tasks)), best])


def _fill(
    best: np.ndarray, able: Sequence[bool], choose: Callable[[np.ndarray], np.ndarray]
) -> None:
    """Let those choose who have not and can; ``choose`` takes their rows."""
    rows = np.flatnonzero((best < 0) & np.array(able, bool))
    if len(rows):
        best[rows] = choose(rows)


def _few(task: Task, count: int, seed: int) -> list[Example]:
    """So many of a task's training examples, or all that it has; all may be of one label."""
    rng = np.random.default_rng(derive_seed(seed, "choose", task.id))
    return [task.train[i] for i in rng.permutation(len(task.train))[:count]]


def _losses(
    node: Node, task: Task, examples: Sequence[Example], adapters: np.ndarray
) -> np.ndarray:
    """[m] the mean loss of some adapters on examples of a task."""
    # A node that chooses by its description alone loads no model and needs no torch.
    from sglora_fed.adapters.data import prepare
    from sglora_fed.adapters.evaluation import score_tasks

    part = prepare(node.encoder, task, examples, node.config.adapter.hints)
    scores = score_tasks(node.encoder, [part] * len(adapters), node.layout, adapters)
    both = part.kind == "retrieval"
    return np.array([_loss(score, part.targets, both) for score in scores])


def _loss(scores: Tensor, targets: np.ndarray, both: bool) -> float:
    """Cross entropy of [items, texts]; for retrieval the mean of both directions."""
    from torch.nn import functional as F

    right = scores.new_tensor(targets).long()
    loss = F.cross_entropy(scores, right)
    return float((loss + F.cross_entropy(scores.T, right)) / 2 if both else loss)


def _can_try(task: Task) -> bool:
    """Whether it has items and captions enough that choose one another."""
    return task.kind == "retrieval" and len(task.train) >= FEWEST_ITEMS


def _tried(
    node: Node, tasks: Sequence[Task], seed: int, adapters: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """Of m adapters the one that suits a client's items and captions best, for some rows."""
    if node.plain is None:
        agree: Agree = partial(agreements, node.encoder, node.layout)
    else:
        agree = partial(plain_agreements, node.plain, node.layout)
    return most_suited([tasks[row] for row in rows.tolist()], seed, adapters[rows], agree)


def _nearest(
    node: Node, tasks: Sequence[Task], seed: int, places: np.ndarray | None, rows: np.ndarray
) -> np.ndarray:
    """Of m places the one nearest to a client's own description, for some rows; else the first."""
    if places is None:
        return np.zeros(len(rows), np.int64)
    snap = agree(node.config, node.describer, own_catalogue=node.catalogue).snap
    if snap is None or places.max(initial=0) >= len(snap.rows):
        raise MessageError("places of a catalogue that this node does not use")
    own = node.embed([words(tasks[row], seed) for row in rows.tolist()])
    pairs = zip(own, places[rows], strict=True)
    return np.array([int((snap.rows[some] @ snap.down(row)).argmax()) for row, some in pairs])


def made_here(
    node: Node, tasks: Sequence[Task], seed: int, name: str, state: Mapping[str, np.ndarray]
) -> np.ndarray:
    """[n, D] float32 adapters that clients make of their own descriptions with a generator.

    Raises:
        GeneratorError: when the arrays are not those of the generator.
    """
    from sglora_fed.generators import make_generator  # few servers send one

    generator = make_generator(node.config.generator, name)
    generator.restore(state)
    own = node.embed([words(task, seed) for task in tasks])[:, None]
    readings = configured_readings(node.config, node.describer, node.catalogue)
    asked = own if readings is None else readings.of(own[:, 0])
    flat = asked.reshape(-1, asked.shape[-1])
    with np.errstate(over="ignore", invalid="ignore"):
        made = generator.generate(flat, 1, derive_seed(seed, "generate", name)).adapters[:, 0]
    if made.shape[1] != node.layout.size:
        raise GeneratorError(f"{name} makes {made.shape[1]} numbers; need {node.layout.size}")
    return _kept(node, tasks, seed, made.reshape(*asked.shape[:2], -1))


def added(node: Node, tasks: Sequence[Task], seed: int, shares: Answers) -> np.ndarray:
    """[n, D] float32 of the adapters that two servers' answers add up to, what clients keep.

    Neither server knows a sum, so what is beyond the norm bound is scaled here.
    """
    return _kept(node, tasks, seed, combined(shares))


def _kept(node: Node, tasks: Sequence[Task], seed: int, made: np.ndarray) -> np.ndarray:
    """[n, D] float32 of adapters for m readings [n, m, D], as they came, what clients keep."""
    usable = _usable(node, made.reshape(-1, made.shape[-1]))
    return chosen(node, tasks, seed, usable.reshape(made.shape), None)


def _usable(node: Node, made: np.ndarray) -> np.ndarray:
    """Within the norm bound, float32; zeros, which change nothing, in place of what is not finite.

    A server may choose a generator that is infinite for some descriptions alone: a refusal would
    tell it for which.
    """
    fine = (np.abs(made) <= np.finfo(np.float32).max).all(axis=1)
    if not fine.all():
        logger.warning("%d adapters are not finite; those that are kept change nothing", sum(~fine))
    kept = np.where(fine[:, None], made, 0).astype(np.float32)
    return within_bound(kept, node.layout)
