"""How well an adapter suits a client, told by its items and captions without their pairs.

Items and captions that belong together, in whatever order, choose one another under an adapter that
suits: an item's best caption has that item as its best. No label says which belong together, and
none is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sglora_fed.adapters.layout import Layout
from sglora_fed.backbones.arithmetic import Adapter
from sglora_fed.backbones.metrics import distinct, mutual_choices
from sglora_fed.backbones.types import DualEncoder, PlainEncoder
from sglora_fed.cache import ByteCache
from sglora_fed.errors import TaskError
from sglora_fed.seeds import derive_seed
from sglora_fed.tasks.types import Example, Task

if TYPE_CHECKING:
    from sglora_fed.adapters.data import Prepared

Agree = Callable[[Sequence[Task], int, int, Sequence[np.ndarray]], np.ndarray]
"""Tasks of n clients, seed and size of their pools, K times [n, D] adapters -> [K, n] shares of
mutual choices."""

Names = list[tuple[str, str]]
"""What tells items and captions apart."""

MOST_ITEMS = 64
"""Items that are tried: with 32 to 100 clients are told apart alike (docs/decisions/0014)."""

FIRST_ITEMS, LAST_ITEMS = 8, 32
"""Items with which each of many adapters is tried, and with which the best of them are."""

FEWEST_ITEMS = 16
"""Items of a client that chooses: with fewer, chance chooses worse than the description does."""

FINALISTS = 3
"""Adapters that are tried with more items: twice the work chooses no better
(docs/decisions/0017)."""


def unpaired(task: Task, seed: int, most: int = MOST_ITEMS) -> tuple[Example, ...]:
    """Some training items of a retrieval task, each beside *a* caption: the captions are sorted.

    Args:
        task: of a client.
        seed: of the choice.
        most: items that are taken; fewer are a part of more.

    Raises:
        TaskError: when there are fewer than two.
    """
    if len(task.train) < 2:
        raise TaskError(
            f"task {task.id!r} has {len(task.train)} training examples; to try an adapter without"
            " labels takes two or more items and captions"
        )
    order = np.random.default_rng(derive_seed(seed, "unpaired", task.id)).permutation(
        len(task.train)
    )
    chosen = [task.train[place] for place in sorted(order[:most])]
    captions = sorted(example.label for example in chosen)
    return tuple(
        Example(example.item, caption) for example, caption in zip(chosen, captions, strict=True)
    )


@dataclass(frozen=True)
class _Pool:
    """What a client tries adapters with.

    Attributes:
        task: whose it is; as long as it is held no other has its id.
        part: prepared.
        names: of items and captions.
    """

    task: Task
    part: Prepared
    names: Names


POOLS: ByteCache[_Pool] = ByteCache(2**26, lambda pool: [*pool.part.items, *pool.part.texts])
"""Recent ones: the adapters of several generators are tried with the same."""


def agreements(
    encoder: DualEncoder,
    layout: Layout,
    tasks: Sequence[Task],
    seed: int,
    most: int,
    candidates: Sequence[np.ndarray],
) -> np.ndarray:
    """Share of mutual choices among each client's items and captions, for several adapters.

    Args:
        encoder: frozen dual encoder.
        layout: of the vectors.
        tasks: of n clients.
        seed: of the choice of items.
        most: items that are taken.
        candidates: K times [n, D], an adapter for each client.

    Returns:
        [K, n] fractions.

    Raises:
        TaskError: as for :func:`unpaired`.
    """
    # A node of its owner tries a few adapters without torch.
    from sglora_fed.adapters.evaluation import score_tasks

    pools = [_pool(encoder, task, seed, most) for task in tasks]
    parts = [pool.part for pool in pools] * len(candidates)
    scores = [
        one.numpy() for one in score_tasks(encoder, parts, layout, np.concatenate(candidates))
    ]
    scored = [scores[i : i + len(tasks)] for i in range(0, len(scores), len(tasks))]
    return _shares(scored, [pool.names for pool in pools])


def _pool(encoder: DualEncoder, task: Task, seed: int, most: int) -> _Pool:
    from sglora_fed.adapters.data import prepare

    key = encoder, id(task), seed, most
    if (kept := POOLS.get(key)) is not None:
        return kept
    pool = unpaired(task, seed, most)
    made = _Pool(task, prepare(encoder, task, pool), _names(pool))
    POOLS.add(key, made)
    return made


def plain_agreements(
    plain: PlainEncoder,
    layout: Layout,
    tasks: Sequence[Task],
    seed: int,
    most: int,
    candidates: Sequence[np.ndarray],
) -> np.ndarray:
    """As :func:`agreements`, in NumPy."""
    pools = [unpaired(task, seed, most) for task in tasks]
    scored: list[list[np.ndarray]] = [[] for _ in candidates]
    for row, pool in enumerate(pools):
        items = plain.prepare_items([one.item for one in pool])
        texts = plain.prepare_texts([one.label for one in pool])
        for scores, vectors in zip(scored, candidates, strict=True):
            own = plain.carrying(Adapter(layout, np.asarray(vectors[row], np.float32)))
            scores.append(own.encode_items(items, 1) @ own.encode_texts(texts, 1).T)
    return _shares(scored, [_names(pool) for pool in pools])


def _names(pool: Sequence[Example]) -> Names:
    return [(one.key, one.label) for one in pool]


def _shares(scored: Sequence[Sequence[np.ndarray]], names: Sequence[Names]) -> np.ndarray:
    """[K, n] of K times the scores of n clients."""
    return np.array(
        [
            [
                mutual_choices(distinct(score, own)[0])
                for score, own in zip(scores, names, strict=True)
            ]
            for scores in scored
        ]
    )


def most_suited(tasks: Sequence[Task], seed: int, adapters: np.ndarray, agree: Agree) -> np.ndarray:
    """Which of several adapters suits each client best, told without labels.

    All are tried with a few items, and the best of them with more.

    Args:
        tasks: of n clients, of which each has two items or more.
        seed: of the choice of items.
        adapters: [n, m, D].
        agree: tells the shares of mutual choices.

    Returns:
        [n] of the m; of equals the first.

    Raises:
        TaskError: as for :func:`unpaired`.
    """

    def tried(some: np.ndarray, most: int) -> np.ndarray:
        return agree(tasks, seed, most, list(some.swapaxes(0, 1)))

    few = tried(adapters, FIRST_ITEMS)
    # In their own order, so that of equals it is the first that stays.
    finalists = np.sort(np.argsort(-few, axis=0, kind="stable")[:FINALISTS], axis=0)
    clients = np.arange(len(tasks))
    last = tried(adapters[clients[:, None], finalists.T], LAST_ITEMS)
    return np.asarray(finalists[last.argmax(axis=0), clients])
