"""What is measured: accuracy for labelled tasks, recall at k in both directions for retrieval.

In NumPy, for those who score without torch; scores may be tensors on the CPU as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

RECALL_AT = (1, 5, 10)
ROUNDING = 2.0**-17
"""Of the largest score: scores that differ by no more are equal.

A score is a scaled inner product in float32, whose unit roundoff is u = 2^-24. The inner product of
n numbers is off by at most n u (Higham 2002, section 3.1), by some sqrt(n) u in practice: one text
at different places of a batch gave cosines 6 u apart. 128 u leaves room for towers that are wider.
"""

METRIC_SETS = (
    ("accuracy",),
    tuple(f"{way}_r{k}" for way in ("i2t", "t2i") for k in RECALL_AT),
)
"""What :func:`task_metrics` gives for a labelled task and for retrieval; the main metric first."""


def task_metrics(
    kind: Literal["labelled", "retrieval"],
    scores: Tensor | np.ndarray,
    targets: np.ndarray,
    pairs: Sequence[tuple[str, str]] | None = None,
) -> dict[str, float]:
    """All metrics of one task.

    Args:
        kind: of the task.
        scores: [items, texts].
        targets: [items], the index of the right text.
        pairs: retrieval only: the (item, caption) of each example, so that an image with several
            captions counts as one image; None when no item and no caption occurs twice.

    Returns:
        Metric name -> fraction. Retrieval: ``i2t_r1``, ... (item to text), ``t2i_r1``, ...
    """
    if kind == "labelled":
        return {"accuracy": accuracy(scores, targets)}
    numbers = np.asarray(scores)
    if pairs is None:
        relevant = _one_hot(targets, numbers.shape[1])
    else:
        numbers, relevant = distinct(numbers, pairs)
    found = (*_recalls(numbers, relevant, RECALL_AT), *_recalls(numbers.T, relevant.T, RECALL_AT))
    return dict(zip(METRIC_SETS[1], found, strict=True))


def accuracy(scores: Tensor | np.ndarray, targets: Tensor | np.ndarray) -> float:
    """Share of rows whose target has the strictly highest score; a tie counts as wrong.

    Args:
        scores: [rows, columns].
        targets: [rows] int64, the column that is right.
    """
    return recall_at(scores, _one_hot(targets, scores.shape[1]), 1)


def recall_at(scores: Tensor | np.ndarray, relevant: Tensor | np.ndarray, k: int) -> float:
    """Share of rows with a relevant column among the k best.

    Ties count against the model: a column that is not relevant and scores the same up to
    ``ROUNDING`` ranks first, so an encoder that scores all alike gets no credit. NaN is never a hit
    and never ranks below.

    Args:
        scores: [rows, columns].
        relevant: [rows, columns] bool; a hit is the best of a row's relevant columns.
        k: places counted.
    """
    return _recalls(np.asarray(scores), np.asarray(relevant), (k,))[0]


def _recalls(scores: np.ndarray, relevant: np.ndarray, places: Sequence[int]) -> list[float]:
    """:func:`recall_at` for several k: what ranks ahead of a row's best is looked for once."""
    best = np.where(relevant, scores, -np.inf).max(axis=1)
    largest = np.nan_to_num(np.abs(scores), nan=0.0, posinf=0.0).max()
    # A negated comparison, because NaN compares false.
    ahead = (~(scores < best[:, None] - ROUNDING * largest) & ~relevant).sum(axis=1)
    usable = relevant.any(axis=1) & ~np.isnan(best)
    return [float(((ahead < k) & usable).mean()) for k in places]


def mutual_choices(scores: Tensor | np.ndarray) -> float:
    """Share of items and texts that choose one another, of the most that can: the fewer of both.

    An item's best text whose own best item is that one (mutual nearest neighbours). The order of
    rows and of columns says nothing.

    Args:
        scores: [items, texts], neither empty.
    """
    numbers = np.asarray(scores)
    texts, items = numbers.argmax(axis=1), numbers.argmax(axis=0)
    mutual = items[texts] == np.arange(len(texts))
    return float(mutual.sum() / min(numbers.shape))


def distinct(
    scores: Tensor | np.ndarray, pairs: Sequence[tuple[str, str]]
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and relevance of distinct items against distinct captions.

    Data sets with several captions per image repeat the image in each pair; the usual protocol
    ranks each image and each caption once, and any caption of an image is right for it. Captions
    that differ in case or spacing are one: CLIP reads them alike.

    Args:
        scores: [n, n] of n pairs' items against n pairs' captions.
        pairs: n times (item, caption).

    Returns:
        The scores [items, captions] of first occurrences, and which of them are pairs (bool).
    """
    pairs = [(item, " ".join(caption.lower().split())) for item, caption in pairs]
    items = _first_places([item for item, _ in pairs])
    captions = _first_places([caption for _, caption in pairs])
    row = {pairs[place][0]: index for index, place in enumerate(items)}
    column = {pairs[place][1]: index for index, place in enumerate(captions)}
    relevant = np.zeros((len(items), len(captions)), bool)
    relevant[[row[item] for item, _ in pairs], [column[caption] for _, caption in pairs]] = True
    return np.asarray(scores)[items][:, captions], relevant


def _first_places(names: Sequence[str]) -> list[int]:
    places: dict[str, int] = {}
    for place, name in enumerate(names):
        places.setdefault(name, place)
    return list(places.values())


def _one_hot(targets: Tensor | np.ndarray, columns: int) -> np.ndarray:
    made: np.ndarray = np.asarray(targets)[:, None] == np.arange(columns)
    return made
