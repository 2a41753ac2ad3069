"""Examples and batches, against what their docstrings promise, written out by brute force."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sglora_fed.adapters.data import (
    LENGTH_RATIO,
    MOST,
    NUMBERS,
    Prepared,
    batch_indices,
    few_shot,
    fold_groups,
    prepare,
    together,
)
from sglora_fed.adapters.training import FOLD
from sglora_fed.backbones.minilm import MiniLM
from sglora_fed.errors import TaskError
from sglora_fed.tasks.types import Example, Task

COUNTS = {"many": 9, "some": 4, "one": 1}


def uneven_task(name: str = "uneven") -> Task:
    """Labels with 9, 4 and 1 examples, all of them different texts."""
    labels = [label for label, count in COUNTS.items() for _ in range(count)]
    train = tuple(Example(f"w{number}", label) for number, label in enumerate(labels))
    return Task(name, "anything", {key: f"label {key}" for key in COUNTS}, train, ())


def pairs_task() -> Task:
    train = tuple(Example(f"w{number}", f"w{number + 20}") for number in range(12))
    return Task("pairs", "anything", {}, train, (), kind="retrieval")


def of_size(rows: int, *shape: int) -> Prepared:
    none = np.zeros(rows, np.int64)
    return Prepared([torch.empty(shape, device="meta")] * rows, [], none, none, "labelled")


def test_a_gpu_trains_more_adapters_together_as_far_as_items_are_small() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    small, large = of_size(40, 17, 64), of_size(40, 50, 768)
    assert together(cpu, [small], 32, FOLD) == together(cpu, [large], 32, FOLD) == FOLD
    assert together(gpu, [small], 32, FOLD) == MOST
    # A ViT-B's 32 pictures are a third of what a batch may hold: as many as on a CPU.
    assert together(gpu, [small, large], 32, FOLD) == FOLD
    middle = of_size(10, 100, 128)
    assert together(gpu, [middle], 32, FOLD) == NUMBERS // (10 * 100 * 128) == 32
    assert together(gpu, [middle], 5, FOLD) == MOST
    assert together(gpu, [small], 32, 96) == 96
    assert together(gpu, [], 32, FOLD) == MOST


@pytest.mark.parametrize("shots", [1, 3, 5, 20])
@pytest.mark.parametrize("seed", range(5))
def test_shots_of_each_label_and_never_the_same_twice(shots: int, seed: int) -> None:
    task = uneven_task()
    chosen = few_shot(task, shots, seed)
    found = Counter(example.label for example in chosen)
    assert found == {label: min(shots, count) for label, count in COUNTS.items()}
    assert len(set(chosen)) == len(chosen)
    assert set(chosen) <= set(task.train)


@pytest.mark.parametrize("task", [uneven_task(), pairs_task()], ids=lambda task: task.kind)
@pytest.mark.parametrize("seed", range(5))
def test_fewer_shots_are_among_more(task: Task, seed: int) -> None:
    chosen = [set(few_shot(task, shots, seed)) for shots in (0, 1, 2, 5, 20)]
    assert all(few < more for few, more in pairwise(chosen))
    assert not chosen[0]
    assert chosen[-1] == set(task.train)


def test_shots_of_a_retrieval_task_are_counted_in_all() -> None:
    assert [len(few_shot(pairs_task(), shots, 0)) for shots in (1, 5, 12, 20)] == [1, 5, 12, 12]


def test_shots_depend_on_the_seed_and_the_task_alone() -> None:
    task = uneven_task()
    assert few_shot(task, 3, 7) == few_shot(uneven_task(), 3, 7)
    by_seed = {few_shot(task, 3, seed) for seed in range(20)}
    by_task = {few_shot(uneven_task(f"t{number}"), 3, 7) for number in range(20)}
    assert len(by_seed) > 10
    assert len(by_task) > 10


def test_every_example_may_be_the_only_shot() -> None:
    task = uneven_task()
    assert {e for seed in range(100) for e in few_shot(task, 1, seed)} == set(task.train)


@st.composite
def prepared(draw: st.DrawFn) -> Prepared:
    """Empty tensors: only the numbers of rows, texts and labels matter."""
    items = [torch.empty(0)] * draw(st.integers(1, 5))
    numbers = np.arange(len(items))
    if draw(st.booleans()):
        return Prepared(items, items, numbers, numbers, "retrieval")
    owners = np.repeat([0, 1, 2], [draw(st.integers(low, 2)) for low in (1, 1, 0)])
    return Prepared(items, [torch.empty(0)] * len(owners), owners, numbers * 0, "labelled")


def alike(one: Prepared, other: Prepared, batch_size: int) -> bool:
    """Whether two tasks' batches are tensors of the same shape."""
    same = one.kind == other.kind and min(len(one), batch_size) == min(len(other), batch_size)
    if one.kind == "retrieval" or not same:
        return same
    numbers = [(len(part.texts), len(set(part.owners.tolist()))) for part in (one, other)]
    return numbers[0] == numbers[1]


@given(st.lists(prepared(), max_size=14), st.integers(1, 6), st.integers(1, 4))
@settings(max_examples=150, deadline=None)
def test_groups_hold_each_task_once_among_its_like(
    parts: list[Prepared], batch_size: int, most: int
) -> None:
    groups = fold_groups(parts, batch_size, most)
    assert sorted(index for group in groups for index in group) == list(range(len(parts)))
    assert all(1 <= len(group) <= most for group in groups)
    for group in groups:
        assert all(alike(parts[group[0]], parts[index], batch_size) for index in group)
    # As few as possible: a task of k alike asks for a 1/k-th part of ceil(k / most) groups.
    likes = [sum(alike(part, other, batch_size) for other in parts) for part in parts]
    assert len(groups) == round(sum(-(-like // most) / like for like in likes))


@given(st.lists(st.integers(1, 60), min_size=1, max_size=20), st.integers(1, 5))
@settings(max_examples=150, deadline=None)
def test_tasks_of_like_length_stand_together(tokens: list[int], most: int) -> None:
    parts = [
        Prepared(
            [torch.empty(number, 1)], [torch.empty(1)] * 2, np.arange(2), np.zeros(1), "labelled"
        )
        for number in tokens
    ]
    groups = fold_groups(parts, 4, most)
    lengths = [sorted(tokens[index] for index in group) for group in groups]
    assert sorted(index for group in groups for index in group) == list(range(len(parts)))
    assert all(group[-1] <= LENGTH_RATIO * group[0] for group in lengths)
    # No group could have taken in the next one's first.
    for group, after in pairwise(lengths):
        assert len(group) == most or after[0] > LENGTH_RATIO * group[0]


@st.composite
def orders(draw: st.DrawFn) -> tuple[np.ndarray, int, int, int]:
    """Lengths, batch size, steps and seed."""
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=40))
    numbers = (draw(st.integers(low, high)) for low, high in [(1, 12), (1, 60), (0, 2**32)])
    return (np.array(lengths), *numbers)  # type: ignore[return-value]


@given(orders())
@settings(max_examples=200, deadline=None)
def test_an_epoch_takes_each_row_once_but_the_remainder(
    order: tuple[np.ndarray, int, int, int],
) -> None:
    lengths, batch_size, steps, seed = order
    size = min(batch_size, len(lengths))
    batches = batch_indices(*order)
    assert [len(batch) for batch in batches] == [size] * steps
    per_epoch = len(lengths) // size
    for start in range(0, steps, per_epoch):
        rows = np.concatenate(batches[start : start + per_epoch])
        assert len(set(rows.tolist())) == len(rows)
        assert set(rows.tolist()) <= set(range(len(lengths)))
    again = batch_indices(*order)
    assert all(np.array_equal(one, two) for one, two in zip(batches, again, strict=True))
    longer = batch_indices(lengths, batch_size, steps + 7, seed)
    assert all(np.array_equal(one, two) for one, two in zip(batches, longer, strict=False))


def test_the_remainder_waits_for_a_later_epoch() -> None:
    batches = batch_indices(np.arange(7), 3, 40, seed=0)
    epochs = zip(batches[::2], batches[1::2], strict=True)
    left_out = {frozenset(range(7)) - {*first, *second} for first, second in epochs}
    assert left_out == {frozenset({row}) for row in range(7)}


def test_epochs_and_seeds_shuffle_anew() -> None:
    batches = batch_indices(np.ones(12, np.int64), 12, 10, seed=3)
    assert len({tuple(batch) for batch in batches}) == 10
    assert not np.array_equal(batches[0], batch_indices(np.ones(12, np.int64), 12, 1, seed=4)[0])


def ranks(lengths: np.ndarray, seed: int) -> list[list[int]]:
    """For three epochs of four batches, the batches' places by length; they must not overlap."""
    batches = batch_indices(lengths, 5, 12, seed)
    places = []
    for start in range(0, 12, 4):
        ranges = [(lengths[batch].min(), lengths[batch].max()) for batch in batches[start:][:4]]
        order = sorted(range(4), key=lambda index, ranges=ranges: ranges[index])
        assert all(ranges[a][1] < ranges[b][0] for a, b in pairwise(order))
        places.append(order)
    return places


def test_rows_of_similar_length_go_together_in_the_same_steps_of_all_tasks() -> None:
    rng = np.random.default_rng(0)
    first, second = ranks(rng.permutation(20), seed=1), ranks(rng.permutation(20) * 3, seed=2)
    assert first == second
    # One order in every epoch would tie the step to the length.
    assert len({tuple(order) for order in first}) > 1


def test_prepared_labelled_examples(encoder: MiniLM) -> None:
    task = uneven_task()
    examples = [task.train[i] for i in (13, 0, 10)]
    part = prepare(encoder, task, examples)
    assert (part.kind, len(part)) == ("labelled", 3)
    assert [list(task.labels)[number] for number in part.targets] == ["one", "many", "some"]
    assert part.owners.tolist() == [0, 1, 2]
    texts = [example.item for example in examples] + list(task.labels.values())
    for made, text in zip(part.items + part.texts, texts, strict=True):
        torch.testing.assert_close(made, encoder.prepare_texts([text])[0])


def test_prepared_pairs(encoder: MiniLM) -> None:
    task = pairs_task()
    part = prepare(encoder, task, task.train[3:7])
    assert (part.kind, len(part), len(part.texts)) == ("retrieval", 4, 4)
    assert part.targets.tolist() == part.owners.tolist() == [0, 1, 2, 3]
    for made, example in zip(part.texts, task.train[3:7], strict=True):
        torch.testing.assert_close(made, encoder.prepare_texts([example.label])[0])


def test_unusable_examples_are_refused(encoder: MiniLM, make_task: Callable[..., Task]) -> None:
    task = make_task(0)
    with pytest.raises(TaskError, match="has image items; all-MiniLM-L6-v2 takes text"):
        prepare(encoder, replace(task, modality="image"), task.train)
    with pytest.raises(TaskError, match=r"'task-0' has no examples"):
        prepare(encoder, task, ())
