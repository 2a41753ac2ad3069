"""Scores of many tasks at once, against PEFT: one adapter, one text and one task at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sglora_fed.adapters.data import prepare
from sglora_fed.adapters.evaluation import ROWS, score_tasks
from sglora_fed.adapters.layout import Layout
from sglora_fed.backbones.minilm import MiniLM
from sglora_fed.tasks.types import Task


@pytest.fixture
def tasks(make_task: Callable[..., Task]) -> list[Task]:
    """Five in four fold groups; those that fold together do not stand together.

    The two of one size fill more than one forward together, the one of three labels does alone.
    """
    assert ROWS // 2 < 70 < ROWS < 135
    return [
        make_task(0, 70, 2),
        make_task(1, 9, kind="retrieval"),
        make_task(2, 135, 3),
        make_task(3, 70, 2),
        make_task(4, 5, kind="retrieval"),
    ]


@torch.no_grad()
def plain_scores(reference: Any, task: Task) -> Tensor:
    """[items, labels or captions] in the order in which the task lists them."""
    if task.kind == "retrieval":
        texts = [example.label for example in task.test]
    else:
        texts = list(task.labels.values())
    scores: Tensor = reference.scores([example.item for example in task.test], texts)
    return scores


@pytest.mark.parametrize("bare", [False, True], ids=["adapters", "bare"])
def test_scores_equal_peft_one_by_one(
    encoder: MiniLM,
    layout: Layout,
    vectors: np.ndarray,
    reference: Any,
    tasks: list[Task],
    bare: bool,
) -> None:
    parts = [prepare(encoder, task, task.test) for task in tasks]
    own = () if bare else (layout, vectors)
    scores = score_tasks(encoder, parts, *own)
    assert len(scores) == len(tasks)
    for task, vector, score in zip(tasks, vectors, scores, strict=True):
        reference.load(vector)
        with reference.model.disable_adapter() if bare else nullcontext():
            expected = plain_scores(reference, task)
        torch.testing.assert_close(score, expected, atol=2e-5, rtol=0)
        # The comparison would be empty if all items or all labels scored alike.
        assert expected.std(dim=0).min() > 0.05
        assert expected.std(dim=1).max() > 0.05


def test_the_adapters_change_every_score(
    encoder: MiniLM, layout: Layout, vectors: np.ndarray, tasks: list[Task]
) -> None:
    parts = [prepare(encoder, task, task.test) for task in tasks]
    own, bare = score_tasks(encoder, parts, layout, vectors), score_tasks(encoder, parts)
    for with_adapter, without in zip(own, bare, strict=True):
        assert (with_adapter - without).abs().mean() > 0.05


def test_scores_move_with_their_task(
    encoder: MiniLM, layout: Layout, vectors: np.ndarray, tasks: list[Task]
) -> None:
    parts = [prepare(encoder, task, task.test) for task in tasks]
    together = score_tasks(encoder, parts, layout, vectors)
    order = [3, 0, 4, 2, 1]
    moved = score_tasks(encoder, [parts[i] for i in order], layout, vectors[order])
    for place, index in enumerate(order):
        torch.testing.assert_close(moved[place], together[index], atol=2e-5, rtol=0)
        alone = score_tasks(encoder, [parts[index]], layout, vectors[[index]])
        torch.testing.assert_close(alone[0], together[index], atol=2e-5, rtol=0)


def test_more_tasks_than_one_forward_carries(
    encoder: MiniLM, layout: Layout, reference: Any, make_task: Callable[..., Task]
) -> None:
    tasks = [make_task(seed, 4, 2) for seed in range(11)]
    many = np.random.default_rng(5).normal(0, 0.3, (11, layout.size)).astype(np.float32)
    parts = [prepare(encoder, task, task.test) for task in tasks]
    for task, vector, score in zip(
        tasks, many, score_tasks(encoder, parts, layout, many), strict=True
    ):
        reference.load(vector)
        torch.testing.assert_close(score, plain_scores(reference, task), atol=2e-5, rtol=0)


def test_who_has_the_same_examples_and_adapter_is_scored_once(
    encoder: MiniLM,
    layout: Layout,
    vectors: np.ndarray,
    tasks: list[Task],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not who has the same examples and another adapter, nor the other way round."""
    one, other = (prepare(encoder, task, task.test) for task in (tasks[0], tasks[3]))
    encode, seen = encoder.encode_items, list[int]()

    def counted(items: Sequence[Tensor], groups: int) -> Tensor:
        seen.append(len(items))
        return encode(items, groups)

    parts, own = [one, other, one, one, other], vectors[[0, 0, 1, 0, 0]]
    apart = [
        score_tasks(encoder, [part], layout, vector[None])[0]
        for part, vector in zip(parts, own, strict=True)
    ]
    monkeypatch.setattr(encoder, "encode_items", counted)
    together = score_tasks(encoder, parts, layout, own)
    # Each has two labels beside its items: here they go the same way.
    assert sum(seen) == 3 * (70 + 2)
    seen.clear()
    bare = score_tasks(encoder, parts)
    assert sum(seen) == 2 * (70 + 2)
    for score, expected in zip(together, apart, strict=True):
        torch.testing.assert_close(score, expected, atol=2e-5, rtol=0)
    assert torch.equal(bare[0], bare[2])
    assert not torch.allclose(bare[0], bare[1])


def test_scores_carry_no_gradient_and_leave_the_model_whole(
    encoder: MiniLM, layout: Layout, vectors: np.ndarray, tasks: list[Task]
) -> None:
    before = dict(encoder.model.named_modules())
    parts = [prepare(encoder, task, task.test) for task in tasks]
    scores = score_tasks(encoder, parts, layout, vectors)
    assert not any(score.requires_grad for score in scores)
    after = dict(encoder.model.named_modules())
    assert before.keys() == after.keys()
    assert all(after[name] is module for name, module in before.items())


def test_no_tasks_no_scores(encoder: MiniLM) -> None:
    assert score_tasks(encoder, []) == []
