"""Scores of a backbone, with or without adapters, on tasks' examples."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor

from sglora_fed.adapters.batched import adapted
from sglora_fed.adapters.candidates import label_scores
from sglora_fed.adapters.data import MOST, NUMBERS, Prepared, fold_groups
from sglora_fed.adapters.layout import Layout
from sglora_fed.adapters.training import FOLD
from sglora_fed.backbones.types import DualEncoder

ROWS = 128
"""Items in one forward on a CPU: enough for full matrix products, few enough for the cache."""


@torch.no_grad()
def score_tasks(
    encoder: DualEncoder,
    parts: Sequence[Prepared],
    layout: Layout | None = None,
    vectors: np.ndarray | None = None,
) -> list[Tensor]:
    """Scores of every item for every label (retrieval: every caption), task by task.

    Who has the same examples and the same adapter as somebody else is scored once.

    Args:
        encoder: frozen dual encoder.
        parts: n tasks' test examples; the same object for tasks with the same examples.
        layout: of the vectors; None for the bare backbone.
        vectors: [n, D], one adapter per task; None for the bare backbone.

    Returns:
        n tensors [items, labels] of ``scale * cosine``, on the CPU.
    """
    own, places = _distinct(parts, vectors)
    if len(own) == len(parts):
        return _scored(encoder, parts, layout, vectors)
    some = None if vectors is None else vectors[own]
    scores = _scored(encoder, [parts[i] for i in own], layout, some)
    return [scores[place] for place in places]


def _distinct(parts: Sequence[Prepared], vectors: np.ndarray | None) -> tuple[list[int], list[int]]:
    """First tasks of those that are scored alike, and for each task which of them is its own."""
    first: dict[tuple[int, bytes], int] = {}
    names = [
        (id(part), b"" if vectors is None else vectors[i].tobytes()) for i, part in enumerate(parts)
    ]
    places = [first.setdefault(name, len(first)) for name in names]
    return [places.index(place) for place in range(len(first))], places


def _scored(
    encoder: DualEncoder,
    parts: Sequence[Prepared],
    layout: Layout | None,
    vectors: np.ndarray | None,
) -> list[Tensor]:
    scores: list[Tensor] = [torch.empty(0)] * len(parts)
    for group in fold_groups(parts, batch_size=2**31, most=_most(encoder.device, parts)):
        members = [parts[i] for i in group]
        if layout is None or vectors is None:
            context = nullcontext()
        else:
            chosen = torch.from_numpy(np.ascontiguousarray(vectors[group], np.float32))
            context = adapted(encoder.model, layout, chosen.to(encoder.device))  # type: ignore[assignment]
        with context:
            for index, score in zip(group, _score_group(encoder, members), strict=True):
                scores[index] = score
    return scores


def _most(device: torch.device, parts: Sequence[Prepared]) -> int:
    """Adapters in one forward; they share out its items, and with few items each they are more."""
    if device.type != "cpu":
        return MOST
    return max(FOLD, min(MOST, ROWS // min(map(len, parts), default=ROWS)))


def _rows(encoder: DualEncoder, items: Sequence[Tensor]) -> int:
    """Items in one forward."""
    if encoder.device.type == "cpu":
        return ROWS
    return max(ROWS, NUMBERS // max(item.numel() for item in items))


def _score_group(encoder: DualEncoder, parts: list[Prepared]) -> list[Tensor]:
    groups, count = len(parts), len(parts[0])
    orders = [np.argsort(part.lengths, kind="stable") for part in parts]
    step = max(1, _rows(encoder, parts[0].items) // groups)
    encoded = []
    for start in range(0, count, step):
        rows = [order[start : start + step] for order in orders]
        items = [p.items[i] for p, r in zip(parts, rows, strict=True) for i in r]
        encoded.append(encoder.encode_items(items, groups).view(groups, -1, encoder.dim))
    texts = encoder.encode_texts([text for part in parts for text in part.texts], groups)
    texts = texts.view(groups, -1, encoder.dim)
    ordered = encoder.scale * torch.bmm(torch.cat(encoded, dim=1), texts.transpose(1, 2))
    ordered = label_scores(ordered, [part.owners for part in parts])
    return [
        scores[torch.from_numpy(np.argsort(order)).to(scores.device)].cpu()
        for scores, order in zip(ordered, orders, strict=True)
    ]
