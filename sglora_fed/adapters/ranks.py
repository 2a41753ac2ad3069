"""Adapters of several ranks in one federation: a weak device may train fewer rows of A."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from sglora_fed.adapters.layout import Layout
from sglora_fed.errors import LayoutError


def narrowed(layout: Layout, vectors: np.ndarray, rank: int) -> tuple[Layout, np.ndarray]:
    """The first ``rank`` rows of A and columns of B; alpha shrinks with the rank.

    All experts of a federation start from one A, so its first rows mean the same everywhere, and
    alpha / rank stays as it is.

    Returns:
        The layout of the narrow adapters and they, [n, D'] float32.

    Raises:
        LayoutError: when the rank is not between 1 and the layout's.
    """
    if not 1 <= rank <= layout.rank:
        raise LayoutError(f"rank={rank}; must be between 1 and {layout.rank}")
    narrow = replace(layout, rank=rank, alpha=layout.scaling * rank)
    pairs = layout.unpack(torch.from_numpy(vectors)).values()
    parts = [part for a, b in pairs for part in (a[:, :rank], b[:, :, :rank])]
    return narrow, np.hstack([part.flatten(1).numpy() for part in parts]).astype(np.float32)


def widened(narrow: Layout, vectors: np.ndarray, layout: Layout, start: np.ndarray) -> np.ndarray:
    """Adapters of a lower rank in the federation's layout, with the same effect.

    Args:
        narrow: their layout, of the same modules and alpha / rank.
        vectors: [n, D'].
        layout: of the federation.
        start: [D] the LoRA that every expert starts from. Its A fills the missing rows, so that
            means over experts keep it; B is zero there.

    Returns:
        [n, D] float32.

    Raises:
        LayoutError: when the layouts differ in more than the rank.
    """
    if narrow.modules != layout.modules or narrow.scaling != layout.scaling:
        raise LayoutError(
            "adapters of another rank need the same modules and the same alpha / rank"
        )
    wide = torch.from_numpy(np.tile(start.astype(np.float32), (len(vectors), 1)))
    mine, rank = narrow.unpack(torch.from_numpy(vectors)), narrow.rank
    for name, (a, b) in layout.unpack(wide).items():
        a[:, :rank] = mine[name][0]
        b.zero_()
        b[:, :, :rank] = mine[name][1]
    return wide.numpy()
