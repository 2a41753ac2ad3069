"""Metrics against a brute-force ranking in plain Python."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sglora_fed.backbones.metrics import (
    accuracy,
    distinct,
    mutual_choices,
    recall_at,
    task_metrics,
)

# Few distinct values, so that ties and NaN are common.
VALUES = st.sampled_from([0.0, 0.25, 0.5, 1.0, -1.0, math.nan])


@st.composite
def scored(draw: st.DrawFn) -> tuple[list[list[float]], list[set[int]]]:
    rows, columns = draw(st.integers(1, 5)), draw(st.integers(1, 12))
    scores = [[draw(VALUES) for _ in range(columns)] for _ in range(rows)]
    right = [draw(st.sets(st.integers(0, columns - 1), max_size=3)) for _ in range(rows)]
    return scores, right


def hit(row: list[float], right: set[int], k: int) -> bool:
    """Sort the columns, worst luck first among equals, and look at the first k."""
    if not right or any(math.isnan(row[i]) for i in right):
        return False

    def place(column: int) -> tuple[float, bool]:
        value = math.inf if math.isnan(row[column]) else row[column]
        return (-value, column in right)

    wrong = [c for c in range(len(row)) if c not in right]
    best = min(right, key=place)
    order = sorted([*wrong, best], key=place)
    return order.index(best) < k


@given(scored(), st.sampled_from([1, 5, 10]))
def test_recall_equals_brute_force(case: tuple[list[list[float]], list[set[int]]], k: int) -> None:
    scores, right = case
    relevant = torch.zeros(len(scores), len(scores[0]), dtype=torch.bool)
    for row, columns in enumerate(right):
        relevant[row, list(columns)] = True
    expected = sum(hit(row, r, k) for row, r in zip(scores, right, strict=True)) / len(scores)
    assert recall_at(torch.tensor(scores), relevant, k) == pytest.approx(expected)


@given(scored())
def test_accuracy_equals_brute_force(case: tuple[list[list[float]], list[set[int]]]) -> None:
    scores, _ = case
    targets = [i % len(scores[0]) for i in range(len(scores))]
    right = sum(
        all(row[t] > other for c, other in enumerate(row) if c != t) and not math.isnan(row[t])
        for row, t in zip(scores, targets, strict=True)
    )
    assert accuracy(torch.tensor(scores), torch.tensor(targets)) == pytest.approx(
        right / len(scores)
    )


def test_an_encoder_that_fails_or_collapses_gets_no_credit() -> None:
    targets = np.arange(3)
    for scores in (torch.full((3, 3), math.nan), torch.zeros(3, 3)):
        assert task_metrics("labelled", scores, targets) == {"accuracy": 0.0}
        assert task_metrics("retrieval", scores, targets)["i2t_r1"] == 0.0


@pytest.mark.parametrize("scale", [1.0, 20.0, 100.0])
def test_scores_equal_up_to_rounding_are_a_tie(scale: float) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 384)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    text = rows[0] + rows.mean(axis=0)
    order = rng.permutation(384)
    # The same two products, summed in another order.
    scores = scale * np.stack([rows @ text, rows[:, order] @ text[order]], axis=1)
    targets = (scores[:, 1] > scores[:, 0]).astype(np.int64)
    assert 0 < targets.sum() < 200  # rounding alone would make one of them right each time
    assert accuracy(torch.from_numpy(scores), torch.from_numpy(targets)) == 0.0
    apart = scores + scale * 1e-4 * np.eye(2, dtype=np.float32)[targets]
    assert accuracy(torch.from_numpy(apart), torch.from_numpy(targets)) == 1.0


def test_infinite_scores_still_rank() -> None:
    scores = torch.tensor([[1.0, -math.inf], [-math.inf, 2.0]])
    assert accuracy(scores, torch.tensor([0, 1])) == 1.0


def test_retrieval_by_hand() -> None:
    # First place: of the items (rows) only 0 finds its text; texts (columns) 0 and 1 their items.
    scores = torch.tensor([[0.9, 0.1, 0.8], [0.5, 0.2, 0.4], [0.75, 0.0, 0.7]])
    found = task_metrics("retrieval", scores, np.arange(3))
    assert found == {
        "i2t_r1": pytest.approx(1 / 3),
        "i2t_r5": 1.0,
        "i2t_r10": 1.0,
        "t2i_r1": pytest.approx(2 / 3),
        "t2i_r5": 1.0,
        "t2i_r10": 1.0,
    }


def test_an_image_with_several_captions_counts_once() -> None:
    images = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    captions = torch.tensor([[1.0, 0.1], [0.9, 0.2], [0.1, 1.0], [0.2, 0.9]])
    pairs = [("a", "one"), ("a", "two"), ("b", "three"), ("b", "four")]
    scores = images @ captions.T
    kept, relevant = distinct(scores, pairs)
    assert kept.shape == (2, 4)
    assert relevant.tolist() == [[True, True, False, False], [False, False, True, True]]
    found = task_metrics("retrieval", scores, np.arange(4), pairs)
    assert found["i2t_r1"] == 1.0
    assert found["t2i_r1"] == 1.0
    swapped = task_metrics("retrieval", scores.flip(0), np.arange(4), pairs)
    assert swapped["t2i_r1"] == 0.0


@pytest.mark.parametrize("spelling", ["A small dog", "a Small dog", " A small\n dog "])
def test_a_caption_shared_by_two_images_is_right_for_both(spelling: str) -> None:
    scores = torch.tensor([[0.9, 0.9, 0.1], [0.8, 0.8, 0.2], [0.1, 0.1, 0.7]])
    pairs = [("a", "A small dog"), ("b", spelling), ("c", "cat")]
    kept, relevant = distinct(scores, pairs)
    np.testing.assert_allclose(kept, [[0.9, 0.1], [0.8, 0.2], [0.1, 0.7]])
    assert relevant.tolist() == [[True, False], [True, False], [False, True]]
    found = task_metrics("retrieval", scores, np.arange(3), pairs)
    assert (found["i2t_r1"], found["t2i_r1"]) == (1.0, 1.0)


def test_mutual_choices_counted_by_hand() -> None:
    """Items 0 and 2 and texts 1 and 0 choose one another; item 1 wants what item 0 has."""
    scores = torch.tensor([[0.1, 0.9, 0.0, 0.2], [0.2, 0.8, 0.3, 0.1], [0.7, 0.1, 0.4, 0.6]])
    assert mutual_choices(scores) == pytest.approx(2 / 3)
    assert mutual_choices(scores.T) == pytest.approx(2 / 3)
    assert mutual_choices(torch.zeros(5, 8)) == pytest.approx(1 / 5)


@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 99))
def test_mutual_choices_know_no_order(items: int, texts: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = torch.from_numpy(rng.permutation(items * texts).reshape(items, texts).astype(float))
    shuffled = scores[rng.permutation(items)][:, rng.permutation(texts)]
    assert mutual_choices(scores) == mutual_choices(shuffled) > 0
