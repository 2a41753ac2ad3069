"""What owners say: enough ways, unmistakable, and another author's words apart."""

from __future__ import annotations

import re
from collections import Counter
from itertools import chain, permutations

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


def elements(author: Author) -> list[tuple[str, ...]]:
    """The clauses of each."""
    groups = (author.geometry, author.colour, author.optics)
    return [tuple(text.lower() for text in texts) for group in groups for texts in group.values()]


def test_as_many_ways_to_say_each_element_as_there_are_frames() -> None:
    """Else some clauses would come more often than others of their axis."""
    counts = {len(texts) for texts in (OWNERS.frames, *elements(OWNERS))}
    assert len(counts) == 1
    assert counts.pop() >= 8


def test_no_clause_is_part_of_another_element_s() -> None:
    for said, others in permutations(elements(OWNERS), 2):
        assert not [(one, text) for one in said for text in others if one in text]


def test_clauses_stand_in_the_middle_of_a_sentence() -> None:
    """No full stop or list of their own, and a small letter but for what is always a capital."""
    for text in clauses(OWNERS):
        assert not re.search(r"[.;:+()!?]", text), text
        assert re.match(r"[a-z]|(I|R|G|B) ", text), text


@AUTHORS
def test_a_clause_says_one_element(author: Author) -> None:
    said = clauses(author)
    assert len({text.lower() for text in said}) == len(said)
    assert all(text == text.strip() and not text.endswith(".") for text in said)


@AUTHORS
def test_frames_take_each_part_once(author: Author) -> None:
    for frame in author.frames:
        assert sorted(re.findall(r"{.*?}", frame)) == ["{c}", "{g}", "{o}"]
    assert len(set(author.frames)) == len(author.frames)


def test_frames_have_their_parts_in_every_order() -> None:
    """Else a part's place in the sentence could tell which it is."""
    orders = Counter(tuple(re.findall(r"{(.)}", frame)) for frame in OWNERS.frames)
    assert set(orders) == set(permutations("gco"))


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
    clauses = OWNERS.geometry[condition.geometry]
    texts = sentences(OWNERS, condition, len(clauses), np.random.default_rng(1))
    assert all(text.lower() in " ".join(texts).lower() for text in clauses)


def test_sentences_begin_with_a_capital_unless_typed_in_haste() -> None:
    for condition in CONDITIONS[::7]:
        said = sentences(OWNERS, condition, len(OWNERS.frames), np.random.default_rng(2))
        for sentence in said:
            careful = sentence.endswith(".")
            assert all(part[0].isupper() == careful for part in sentence.split(". "))
        assert {sentence.endswith(".") for sentence in said} == {True, False}
