"""Adapters tried on items and captions without their pairs, against one text at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from sglora_fed.adapters.layout import Layout
from sglora_fed.adapters.unpaired import (
    FINALISTS,
    FIRST_ITEMS,
    LAST_ITEMS,
    MOST_ITEMS,
    agreements,
    most_suited,
    unpaired,
)
from sglora_fed.backbones.minilm import MiniLM
from sglora_fed.errors import TaskError
from sglora_fed.tasks.types import Example, Task

MakeTask = Callable[..., Task]


def client(make_task: MakeTask, number: int, size: int) -> Task:
    task = make_task(number, size, kind="retrieval")
    return replace(task, train=task.test, test=())


def mispaired(task: Task) -> Task:
    """The same items and captions; hardly anything stands beside what it belongs to."""
    labels = [example.label for example in task.train]
    labels = labels[3:] + labels[:3]
    pairs = zip(task.train, labels, strict=True)
    return replace(task, train=tuple(Example(one.item, label) for one, label in pairs))


def counted(scores: np.ndarray) -> float:
    """Pairs that choose one another, of the fewer of both."""
    rows, columns = scores.shape
    mutual = sum(
        scores[i, j] == scores[i].max() == scores[:, j].max()
        for i in range(rows)
        for j in range(columns)
    )
    return float(mutual / min(rows, columns))


def test_shares_are_those_of_plain_scores_and_pairs_say_nothing(
    encoder: MiniLM, layout: Layout, vectors: np.ndarray, reference: Any, make_task: MakeTask
) -> None:
    tasks = [client(make_task, number, 7 + number) for number in range(5)]
    shares = agreements(encoder, layout, tasks, 0, MOST_ITEMS, [vectors, vectors[::-1]])
    assert shares.shape == (2, 5)
    for row, own in enumerate((vectors, vectors[::-1])):
        for task, vector, share in zip(tasks, own, shares[row], strict=True):
            items = list(dict.fromkeys(example.item for example in task.train))
            captions = list(dict.fromkeys(example.label for example in task.train))
            reference.load(vector)
            assert share == counted(reference.scores(items, captions).detach().numpy())
    assert len(set(shares.ravel())) > 2
    others = [mispaired(task) for task in tasks]
    np.testing.assert_array_equal(
        agreements(encoder, layout, others, 0, MOST_ITEMS, [vectors, vectors[::-1]]), shares
    )


def test_a_pool_is_prepared_once_for_all_that_are_tried_with_it(
    encoder: MiniLM,
    layout: Layout,
    vectors: np.ndarray,
    make_task: MakeTask,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not for other items of the client, nor for another client of the same name."""
    task, seen, prepare = client(make_task, 0, 40), list[int](), encoder.prepare_items

    def counted(items: Sequence[str]) -> list[Tensor]:
        seen.append(len(items))
        return prepare(items)

    monkeypatch.setattr(encoder, "prepare_items", counted)
    tried = partial(agreements, encoder, layout)
    first = [tried([task], 0, 20, [vectors[[row]]]) for row in range(3)]
    # Captions go the same way here.
    assert sum(seen) == 2 * 20
    assert first[1] == tried([replace(task)], 0, 20, [vectors[[1]]])
    tried([task], 1, 20, [vectors[:1]])
    tried([task], 0, 30, [vectors[:1]])
    assert sum(seen) == 2 * (20 + 20 + 20 + 30)


def test_of_many_examples_some_are_tried_each_once(make_task: MakeTask) -> None:
    task = client(make_task, 0, 2 * MOST_ITEMS)
    pool = unpaired(task, 0)
    assert len(pool) == MOST_ITEMS
    places = [[one.item for one in task.train].index(one.item) for one in pool]
    assert places == sorted(set(places))
    chosen = {task.train[place] for place in places}
    assert sorted(one.label for one in chosen) == [one.label for one in pool]
    assert unpaired(task, 0) == pool != unpaired(task, 1)


@pytest.mark.parametrize("count", [0, 1])
def test_one_item_chooses_its_caption_whatever_the_adapter(make_task: MakeTask, count: int) -> None:
    task = client(make_task, 0, 4)
    with pytest.raises(TaskError, match=f"{count} training examples"):
        unpaired(replace(task, train=task.train[:count]), 0)


def test_few_are_a_part_of_many(make_task: MakeTask) -> None:
    task = client(make_task, 0, 2 * MOST_ITEMS)
    few, many = unpaired(task, 0, FIRST_ITEMS), unpaired(task, 0)
    assert len(few) == FIRST_ITEMS
    for part in ("item", "label"):
        assert {getattr(one, part) for one in few} < {getattr(one, part) for one in many}


def test_the_best_of_several_is_that_of_two_heats(
    encoder: MiniLM, layout: Layout, vectors: np.ndarray, reference: Any, make_task: MakeTask
) -> None:
    tasks = [client(make_task, number, 40 + number) for number in range(3)]
    many = [np.roll(vectors, shift, axis=0)[:3] for shift in range(4)]
    adapters = np.stack([*many, np.zeros_like(many[0])], axis=1)

    def share(task: Task, vector: np.ndarray, most: int) -> float:
        pool = unpaired(task, 5, most)
        reference.load(vector)
        captions = list(dict.fromkeys(one.label for one in pool))
        scores = reference.scores(list(dict.fromkeys(one.item for one in pool)), captions)
        return counted(scores.detach().numpy())

    best = most_suited(tasks, 5, adapters, partial(agreements, encoder, layout))
    for task, own, place in zip(tasks, adapters, best, strict=True):
        heat = [share(task, vector, FIRST_ITEMS) for vector in own]
        ranked = sorted(range(len(own)), key=lambda i: (-heat[i], i))
        final = {i: share(task, own[i], LAST_ITEMS) for i in sorted(ranked[:FINALISTS])}
        assert place == max(final, key=lambda i: (final[i], -i))
