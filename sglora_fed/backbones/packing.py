"""Texts of different lengths side by side in equally long packs, so that little is padded."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sglora_fed.errors import LayoutError

PACK = 64
"""Tokens that a pack is aimed at: attention across it costs little beside the linear modules."""


@dataclass(frozen=True)
class Packs:
    """Where the tokens of some texts lie in packs; the texts of a group fill packs of their own.

    Attributes:
        shape: (packs, places), packs and the places in each.
        places: [tokens] int64, the place of each token among all, text by text.
        allowed: [packs, 1, places, places] True where a token may see another: within its text.
        lengths: [texts] int64, tokens of each.
    """

    shape: tuple[int, int]
    places: Tensor
    allowed: Tensor
    lengths: Tensor

    def fill(self, tokens: Tensor) -> Tensor:
        """[packs, places, width] with [tokens, width] at their places and zeros elsewhere."""
        packs, places = self.shape
        filled = tokens.new_zeros((packs * places, tokens.shape[1]))
        filled[self.places] = tokens
        return filled.view(packs, places, -1)

    def tokens(self, hidden: Tensor) -> Tensor:
        """[tokens, width], the inverse of :meth:`fill`."""
        return hidden.flatten(0, 1)[self.places]

    def means(self, hidden: Tensor) -> Tensor:
        """[texts, width] the mean over each text's tokens."""
        # Unsafe: the lengths are ours, and to check them a GPU would have to be waited for.
        return torch.segment_reduce(
            self.tokens(hidden), "mean", lengths=self.lengths, axis=0, unsafe=True
        )


def packed(lengths: np.ndarray, groups: int, device: torch.device) -> Packs:
    """Packs for texts of some lengths.

    Args:
        lengths: [texts] tokens of each; the groups' texts follow one another, as many for each.
        groups: that share no pack and fill as many packs each.
        device: of the tokens.

    Raises:
        LayoutError: when the groups cannot have as many texts each.
    """
    if len(lengths) % groups:
        raise LayoutError(f"{len(lengths)} texts cannot be shared equally by {groups} adapters")
    starts, shape = _starts(lengths.reshape(groups, -1))
    owners = np.repeat(np.arange(len(lengths)), lengths)
    places = np.repeat(starts - lengths.cumsum() + lengths, lengths) + np.arange(len(owners))
    # A place without a token sees its like: to see nothing at all would give NaN.
    texts = np.full(shape, -1)
    texts.ravel()[places] = owners
    at = torch.from_numpy(texts).to(device)
    allowed = at[:, None, :, None] == at[:, None, None, :]
    return Packs(
        shape, torch.from_numpy(places).to(device), allowed, torch.from_numpy(lengths).to(device)
    )


def _starts(lengths: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """[groups * n] the first place of each of [groups, n] texts, and the packs' shape."""
    groups, count = lengths.shape
    target = max(PACK, int(lengths.max()))
    packs = min(math.ceil(int(lengths.sum(axis=1).max()) / target), count)
    filled = [_share_out(row, packs) for row in lengths.tolist()]
    numbers, offsets = np.array([f[0] for f in filled]), np.array([f[1] for f in filled])
    longest = int((offsets + lengths).max())
    numbers += packs * np.arange(groups)[:, None]
    return (numbers * longest + offsets).ravel(), (groups * packs, longest)


def _share_out(lengths: list[int], packs: int) -> tuple[list[int], list[int]]:
    """Pack and offset of each text: the longest first, each into the emptiest (Graham 1969)."""
    numbers, offsets = [0] * len(lengths), [0] * len(lengths)
    filled = [(0, number) for number in range(packs)]
    for index in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        offsets[index], numbers[index] = filled[0]
        heapq.heapreplace(filled, (offsets[index] + lengths[index], numbers[index]))
    return numbers, offsets
