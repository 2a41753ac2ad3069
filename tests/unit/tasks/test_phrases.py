"""Phrases against cuts made by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sglora_fed.tasks.phrases import MOST_PHRASES, phrases


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("travel", ("travel",)),
        ("A photo of a cat.", ("A photo of a cat.",)),
        ("travel, pets or work", ("travel", "pets", "work")),
        ("travel as well as food and drink", ("travel", "food", "drink")),
        ("Now = travel, pets. Later = all.", ("Now", "travel", "pets", "Later", "all")),
        ("bills over 3.50, at example.com", ("bills over 3.50", "at example.com")),
        ("旅行、宠物。其他", ("旅行", "宠物", "其他")),
        ("travel,pets;work", ("travel", "pets", "work")),
        ("travel\npets", ("travel", "pets")),
        ("bills over 3,500 or so", ("bills over 3,500", "so")),
        ("Oregon, Anders AND Orwell", ("Oregon", "Anders", "Orwell")),
        ("really?! yes -- ...", ("really", "yes --")),
        ("?!", ("?!",)),
        ("", ("",)),
    ],
)
def test_cut_at_punctuation_and_conjunctions(text: str, cut: tuple[str, ...]) -> None:
    assert phrases(text) == cut


def test_at_most_so_many() -> None:
    assert phrases(", ".join(f"topic {n}" for n in range(1000)))[-1] == f"topic {MOST_PHRASES - 1}"


@pytest.mark.parametrize("unit", [".", ",", " and", " = ", "a,", "、", "\n"])
def test_long_texts_end(unit: str) -> None:
    """A pattern that backtracks would need days for so many."""
    assert len(phrases(unit * 200_000 + "x")) <= MOST_PHRASES


@given(st.text(max_size=300))
def test_phrases_are_in_the_text_in_its_order(text: str) -> None:
    end = 0
    for phrase in phrases(text):
        end = text.index(phrase, end) + len(phrase)
