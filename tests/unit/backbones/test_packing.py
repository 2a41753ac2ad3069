"""Packs against what they promise, place by place."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sglora_fed.backbones.packing import PACK, packed
from sglora_fed.errors import LayoutError

CPU = torch.device("cpu")

GROUPED = st.integers(1, 5).flatmap(
    lambda groups: st.integers(1, 9).flatmap(
        lambda count: st.lists(
            st.lists(st.integers(1, 150), min_size=count, max_size=count),
            min_size=groups,
            max_size=groups,
        )
    )
)


@given(lengths=GROUPED)
@settings(max_examples=60, deadline=None)
def test_every_token_has_a_place_and_sees_its_text_alone(lengths: list[list[int]]) -> None:
    groups, flat = len(lengths), np.array(lengths).ravel()
    packs = packed(flat, groups, CPU)
    marks = torch.arange(int(flat.sum())) + 1
    filled = packs.fill(marks[:, None]).squeeze(2)
    assert torch.equal(packs.tokens(filled[..., None]).squeeze(1), marks)
    assert packs.shape[0] % groups == 0
    ends = flat.cumsum()
    for text, end in enumerate(ends.tolist()):
        own = marks[end - flat[text] : end]
        where = (filled == own[0]).nonzero()[0]
        pack, first = where.tolist()
        assert torch.equal(filled[pack, first : first + len(own)], own)
        # The rows of a group must be a block: an adapter takes rows pack by pack.
        assert pack // (packs.shape[0] // groups) == text // len(lengths[0])
        seen = packs.allowed[pack, 0, first : first + len(own)]
        assert seen.sum(dim=1).tolist() == [len(own)] * len(own)
        assert seen[:, first : first + len(own)].all()
    assert packs.allowed.any(dim=-1).all()


@given(lengths=GROUPED)
@settings(max_examples=60, deadline=None)
def test_packs_are_filled(lengths: list[list[int]]) -> None:
    """The fullest pack holds at most a share of the largest group plus one text: LPT's bound."""
    totals, longest = [sum(row) for row in lengths], max(map(max, lengths))
    packs, places = packed(np.array(lengths).ravel(), len(lengths), CPU).shape
    each = packs // len(lengths)
    assert places <= max(totals) / each + longest
    assert (each - 1) * max(PACK, longest) < max(totals)


def test_means_are_those_of_each_text() -> None:
    generator = torch.Generator().manual_seed(0)
    texts = [torch.randn(n, 3, generator=generator) for n in (70, 1, 5, 64, 2, 9)]
    packs = packed(np.array([len(text) for text in texts]), 2, CPU)
    means = packs.means(packs.fill(torch.cat(texts)))
    torch.testing.assert_close(means, torch.stack([text.mean(dim=0) for text in texts]))


def test_groups_of_different_numbers_of_texts_are_refused() -> None:
    with pytest.raises(LayoutError, match="7 texts cannot be shared equally by 2 adapters"):
        packed(np.ones(7, np.int64), 2, CPU)
