"""Made-up spellings: one way of spelling each, on examples and labels alike."""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sglora_fed.tasks.respelling import MOST, SIGNS, made_up_spelling, respelt
from sglora_fed.tasks.types import Example, Task

# Words that begin with a sign, so that a letter is spelt alike wherever it stands.
TEXTS = [f"#remind #me #of #item #number #{number} #tomorrow" for number in range(40)]
ALPHABET = " ".join(f"#{letter}" for letter in string.ascii_lowercase)
TASK = Task(
    id="t",
    description="errands are urgent",
    labels={"a": "now", "b": "tea and coffee", "c": ALPHABET},
    train=tuple(Example(text, "ab"[i % 2]) for i, text in enumerate(TEXTS)),
    test=(),
    hints={"a": "#errands and #bills"},
)


def letter_by_letter(spell: Callable[[str], str], text: str) -> str:
    """Spelt with what the spelling does to letters alone, first in a word and after it."""
    words = []
    for word in text.lower().split():
        first = spell(word[0] + "#")[:-1]
        rest = [spell(f"#{letter}")[1:] for letter in word[1:]]
        words.append(first + "".join(rest) or word)
    return " ".join(words)


@given(seed=st.integers(0, 10_000), text=st.text(string.ascii_letters + "  '1", min_size=1))
def test_every_letter_has_one_spelling(seed: int, text: str) -> None:
    spell = made_up_spelling(np.random.default_rng(seed))
    text = " ".join(text.split())
    assert spell(text) == letter_by_letter(spell, text)
    assert len(spell(text).split()) == len(text.split())


@pytest.mark.parametrize("seed", range(20))
def test_some_letters_change_and_only_in_three_ways(seed: int) -> None:
    spell = made_up_spelling(np.random.default_rng(seed))
    becomes = {letter: spell(f"#{letter}")[1:] for letter in string.ascii_lowercase}
    # A letter may be replaced by itself.
    assert 1 <= sum(letter != new for letter, new in becomes.items()) <= MOST
    for letter, new in becomes.items():
        assert new in ("", 2 * letter, *SIGNS)
    everywhere = {letter: spell(letter + "#")[:-1] for letter in becomes}
    assert everywhere in (becomes, {letter: letter for letter in becomes})


def test_spellings_differ_from_one_another() -> None:
    spellings = [made_up_spelling(np.random.default_rng(seed)) for seed in range(50)]
    assert len({spell(string.ascii_lowercase + string.ascii_lowercase) for spell in spellings}) > 45


@pytest.mark.parametrize("seed", range(5))
def test_a_respelt_task_is_the_same_task_in_other_letters(seed: int) -> None:
    made = respelt(TASK, 1.0, 15, seed)
    plain, spelt = made.hints["c"]
    assert plain == ALPHABET
    table = str.maketrans({word[0]: word[1:] for word in zip_letters(spelt)})
    by_text = {example.item.translate(table): example.label for example in TASK.train}
    assert len(made.train) == 15
    assert len({example.item for example in made.train}) == 15
    assert all(by_text[example.item] == example.label for example in made.train)
    said = ("#errands", "#bills")
    assert made.hints["a"] == tuple(dict.fromkeys((*said, *(w.translate(table) for w in said))))
    # A label without a hint is one text, whatever stands in it.
    assert made.hints["b"][0] == "tea and coffee"
    assert len(made.hints["b"]) <= 2
    assert (made.labels, made.description) == (TASK.labels, TASK.description)


def zip_letters(spelt: str) -> list[str]:
    """Each letter of the alphabet and how it is spelt."""
    words = spelt.split()
    return [letter + word[1:] for letter, word in zip(string.ascii_lowercase, words, strict=True)]


def test_the_share_is_a_probability_and_the_seed_decides() -> None:
    assert respelt(TASK, 0.0, 15, 0) is TASK
    found = [respelt(TASK, 0.25, 15, seed) for seed in range(400)]
    # Four standard deviations of a binomial.
    assert abs(sum(task is not TASK for task in found) - 100) < 4 * np.sqrt(400 * 0.25 * 0.75)
    assert found == [respelt(TASK, 0.25, 15, seed) for seed in range(400)]
    assert len({task.train[0].item for task in found if task is not TASK}) > 50


def test_a_task_of_few_examples_keeps_them_all() -> None:
    assert len(respelt(TASK, 1.0, 1_000, 0).train) == len(TASK.train)


def test_a_task_with_a_rest_stays_as_it_is() -> None:
    task = replace(TASK, hints={"a": "errands", "b": "everything else"})
    assert respelt(task, 1.0, 15, 0) is task


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_label_keeps_an_example(count: int) -> None:
    rare = (*(Example(text, "a") for text in TEXTS), Example("#once", "b"))
    for seed in range(20):
        made = respelt(replace(TASK, train=rare), 1.0, count, seed)
        assert {example.label for example in made.train} == {"a", "b"}
        assert len(made.train) == max(count, 2)
