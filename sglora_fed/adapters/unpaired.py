"""How well an adapter suits a client, told by its items and captions without their pairs.

Items and captions that belong together, in whatever order, choose one another under an adapter that
suits: an item's best caption has that item as its best. No label says which belong together, and
none is needed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sglora_fed.adapters.data import prepare
from sglora_fed.adapters.evaluation import score_tasks
from sglora_fed.adapters.layout import Layout
from sglora_fed.backbones.metrics import distinct, mutual_choices
from sglora_fed.backbones.types import DualEncoder
from sglora_fed.errors import TaskError
from sglora_fed.seeds import derive_seed
from sglora_fed.tasks.types import Example, Task

MOST_ITEMS = 64
"""Items that are tried: with 32 to 100 clients are told apart alike (docs/decisions/0014)."""

FIRST_ITEMS = 16
"""Items with which each of many adapters is tried; the best of them are tried with all."""

FINALISTS = 2
"""Adapters that are tried with all items: with more the choice is the same
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


def agreements(
    encoder: DualEncoder,
    layout: Layout,
    tasks: Sequence[Task],
    pools: Sequence[tuple[Example, ...]],
    candidates: Sequence[np.ndarray],
) -> np.ndarray:
    """Share of mutual choices among each client's items and captions, for several adapters.

    Args:
        encoder: frozen dual encoder.
        layout: of the vectors.
        tasks: of n clients.
        pools: for each what :func:`unpaired` gives.
        candidates: K times [n, D], an adapter for each client.

    Returns:
        [K, n] fractions.
    """
    parts = [prepare(encoder, task, pool) for task, pool in zip(tasks, pools, strict=True)]
    names = [[(one.key, one.label) for one in pool] for pool in pools]
    return np.array(
        [
            [
                mutual_choices(distinct(scores, own)[0])
                for scores, own in zip(
                    score_tasks(encoder, parts, layout, vectors), names, strict=True
                )
            ]
            for vectors in candidates
        ]
    )


def most_suited(
    encoder: DualEncoder,
    layout: Layout,
    tasks: Sequence[Task],
    seed: int,
    adapters: np.ndarray,
) -> np.ndarray:
    """Which of several adapters suits each client best, told without labels.

    All are tried with a few items, and the best of them with more.

    Args:
        encoder: frozen dual encoder.
        layout: of the vectors.
        tasks: of n clients, of which each has two items or more.
        seed: of the choice of items.
        adapters: [n, m, D].

    Returns:
        [n] of the m; of equals the first.

    Raises:
        TaskError: as for :func:`unpaired`.
    """

    def tried(some: np.ndarray, most: int) -> np.ndarray:
        pools = [unpaired(task, seed, most) for task in tasks]
        return agreements(encoder, layout, tasks, pools, list(some.swapaxes(0, 1)))

    few = tried(adapters, FIRST_ITEMS)
    # In their own order, so that of equals it is the first that stays.
    finalists = np.sort(np.argsort(-few, axis=0, kind="stable")[:FINALISTS], axis=0)
    clients = np.arange(len(tasks))
    last = tried(adapters[clients[:, None], finalists.T], MOST_ITEMS)
    return np.asarray(finalists[last.argmax(axis=0), clients])
