"""What is measured: accuracy for labelled tasks, recall at k in both directions for retrieval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

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
    scores: Tensor,
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
        return {"accuracy": accuracy(scores, torch.from_numpy(np.asarray(targets)))}
    if pairs is None:
        relevant = _one_hot(torch.from_numpy(np.asarray(targets)), scores.shape[1])
    else:
        scores, relevant = distinct(scores, pairs)
    found = (*_recalls(scores, relevant, RECALL_AT), *_recalls(scores.T, relevant.T, RECALL_AT))
    return dict(zip(METRIC_SETS[1], found, strict=True))


def accuracy(scores: Tensor, targets: Tensor) -> float:
    """Share of rows whose target has the strictly highest score; a tie counts as wrong.

    Args:
        scores: [rows, columns].
        targets: [rows] int64, the column that is right.
    """
    return recall_at(scores, _one_hot(targets, scores.shape[1]), 1)


def recall_at(scores: Tensor, relevant: Tensor, k: int) -> float:
    """Share of rows with a relevant column among the k best.

    Ties count against the model: a column that is not relevant and scores the same up to
    ``ROUNDING`` ranks first, so an encoder that scores all alike gets no credit. NaN is never a hit
    and never ranks below.

    Args:
        scores: [rows, columns].
        relevant: [rows, columns] bool; a hit is the best of a row's relevant columns.
        k: places counted.
    """
    return _recalls(scores, relevant, (k,))[0]


def _recalls(scores: Tensor, relevant: Tensor, places: Sequence[int]) -> list[float]:
    """:func:`recall_at` for several k: what ranks ahead of a row's best is looked for once."""
    best = scores.masked_fill(~relevant, -torch.inf).amax(dim=1)
    largest = scores.abs().nan_to_num(0.0, posinf=0.0).max()
    # A negated comparison, because NaN compares false.
    ahead = (~(scores < best[:, None] - ROUNDING * largest) & ~relevant).sum(dim=1)
    usable = relevant.any(dim=1) & ~best.isnan()
    return [float(((ahead < k) & usable).double().mean()) for k in places]


def mutual_choices(scores: Tensor) -> float:
    """Share of items and texts that choose one another, of the most that can: the fewer of both.

    An item's best text whose own best item is that one (mutual nearest neighbours). The order of
    rows and of columns says nothing.

    Args:
        scores: [items, texts], neither empty.
    """
    texts, items = scores.argmax(dim=1), scores.argmax(dim=0)
    mutual = items[texts] == torch.arange(len(texts), device=scores.device)
    return float(mutual.double().sum()) / min(scores.shape)


def distinct(scores: Tensor, pairs: Sequence[tuple[str, str]]) -> tuple[Tensor, Tensor]:
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
    relevant = torch.zeros(len(items), len(captions), dtype=torch.bool, device=scores.device)
    relevant[[row[item] for item, _ in pairs], [column[caption] for _, caption in pairs]] = True
    return scores[items][:, captions], relevant


def _first_places(names: Sequence[str]) -> list[int]:
    places: dict[str, int] = {}
    for place, name in enumerate(names):
        places.setdefault(name, place)
    return list(places.values())


def _one_hot(targets: Tensor, columns: int) -> Tensor:
    return nn.functional.one_hot(targets.long(), columns).bool()
