"""What owners say: enough ways, unmistakable, and another author's words apart."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest

from sglora_fed.tasks.cameras.conditions import COLOUR, CONDITIONS, GEOMETRY, OPTICS
from sglora_fed.tasks.cameras.other_author import OTHER
from sglora_fed.tasks.cameras.wording import OWNERS, Author, sentences

AUTHORS = pytest.mark.parametrize("author", [OWNERS, OTHER], ids=["owners", "other"])


def clauses(author: Author) -> list[str]:
    groups = (author.geometry, author.colour, author.optics)
    return list(chain(*(texts for group in groups for texts in group.values())))


@AUTHORS
def test_every_element_is_said(author: Author) -> None:
    assert (set(author.geometry), set(author.colour), set(author.optics)) == (
        set(GEOMETRY),
        set(COLOUR),
        set(OPTICS),
    )


def test_at_least_eight_ways_to_say_each_element() -> None:
    for group in (OWNERS.geometry, OWNERS.colour, OWNERS.optics):
        assert all(len(texts) >= 8 for texts in group.values())
    assert len(OWNERS.frames) >= 8


@AUTHORS
def test_a_clause_says_one_element(author: Author) -> None:
    said = clauses(author)
    assert len({text.lower() for text in said}) == len(said)
    assert all(text == text.strip() and not text.endswith(".") for text in said)


@AUTHORS
def test_frames_take_each_part_once(author: Author) -> None:
    for frame in author.frames:
        assert all(frame.count(part) == 1 for part in ("{g}", "{c}", "{o}"))


def test_the_other_authors_words_are_new() -> None:
    assert not {text.lower() for text in clauses(OWNERS)} & {t.lower() for t in clauses(OTHER)}
    assert not set(OWNERS.frames) & set(OTHER.frames)


@AUTHORS
def test_sentences_differ_and_hold_their_conditions_clauses(author: Author) -> None:
    for condition in CONDITIONS[::7]:
        said = sentences(author, condition, 8, np.random.default_rng(0))
        assert len(set(said)) == 8
        parts = (
            author.geometry[condition.geometry],
            author.colour[condition.colour],
            author.optics[condition.optics],
        )
        for sentence in said:
            assert all(any(c.lower() in sentence.lower() for c in part) for part in parts)


def test_nothing_comes_again_before_all_have() -> None:
    condition = CONDITIONS[5]
    said = " ".join(sentences(OWNERS, condition, 12, np.random.default_rng(1))).lower()
    assert all(text.lower() in said for text in OWNERS.geometry[condition.geometry][:12])


def test_sentences_begin_with_a_capital_unless_typed_in_haste() -> None:
    said = sentences(OWNERS, CONDITIONS[9], 12, np.random.default_rng(2))
    for sentence in said:
        assert sentence[0].isupper() == sentence.endswith(".")
    assert any(not sentence.endswith(".") for sentence in said)
