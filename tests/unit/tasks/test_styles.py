"""Writing styles keep what they promise to keep; style tasks ask for plain names of typed texts."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sglora_fed.tasks.assistant.content import load_topics
from sglora_fed.tasks.styles import MOST_LABELS, STYLES, style_task
from sglora_fed.tasks.topics import Part, PlainIntent, PlainTopic, Slot
from sglora_fed.tasks.types import Task
from sglora_fed.tasks.wording import HABITS

SIZES: dict[Part, int] = {"train": 128, "test": 48}
TOPIC = load_topics()[0]
TEXTS = [t for i in TOPIC.intents for t in i.train + i.test]

words = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=12)
sentences = st.lists(words, min_size=1, max_size=8).map(" ".join)


def without_vowels(text: str) -> str:
    return re.sub("[aeiou ]", "", text)


def test_there_are_enough_styles_and_each_has_words() -> None:
    assert len(STYLES) >= 9
    assert set(HABITS) == set(STYLES)
    assert all(len(set(said)) >= 3 for said in HABITS.values())


@pytest.mark.parametrize("style", STYLES)
def test_a_style_changes_texts_always_in_the_same_way(style: str) -> None:
    changed = [STYLES[style](text) for text in TEXTS]
    assert changed == [STYLES[style](text) for text in TEXTS]
    assert all(changed)
    assert sum(new != old for new, old in zip(changed, TEXTS, strict=True)) > 0.9 * len(TEXTS)
    assert len(set(changed)) > 0.98 * len(set(TEXTS)), "texts must stay apart"


def test_styles_differ_from_one_another() -> None:
    results = {style: tuple(change(text) for text in TEXTS) for style, change in STYLES.items()}
    assert len(set(results.values())) == len(STYLES)


@given(sentences)
def test_no_vowels_keeps_all_consonants_in_order(text: str) -> None:
    assert without_vowels(STYLES["no_vowels"](text)) == without_vowels(text)
    assert len(STYLES["no_vowels"](text)) <= len(text)


@given(sentences)
def test_leetspeak_changes_letters_one_by_one(text: str) -> None:
    new = STYLES["leetspeak"](text)
    back = new.translate(str.maketrans("4310578", "aeiostb"))
    assert back == text


@given(sentences)
def test_swapping_keeps_letters_and_ends_of_words(text: str) -> None:
    for old, new in zip(text.split(), STYLES["swapped_letters"](text).split(), strict=True):
        assert Counter(old) == Counter(new)
        assert (old[0], old[-1]) == (new[0], new[-1])


@given(sentences)
def test_pig_latin_can_be_undone(text: str) -> None:
    for old, new in zip(text.split(), STYLES["pig_latin"](text).split(), strict=True):
        body = new.removesuffix("ay")
        assert new.endswith("ay")
        assert old in {body[k:] + body[:k] for k in range(len(body) + 1)}


@given(sentences)
def test_doubling_only_repeats_letters(text: str) -> None:
    def squeezed(value: str) -> str:
        return re.sub(r"(.)\1+", r"\1", value)

    for style in ("doubled_vowels", "doubled_consonants"):
        new = STYLES[style](text)
        assert squeezed(new) == squeezed(text)
        added = Counter(new) - Counter(text)
        assert all((c in "aeiou") == (style == "doubled_vowels") for c in added)


def in_order(part: str, whole: str) -> bool:
    letters = iter(whole)
    return all(letter in letters for letter in part)


@given(sentences)
def test_losing_letters_adds_none(text: str) -> None:
    for style in ("missing_letters", "clipped_words"):
        for old, new in zip(text.split(), STYLES[style](text).split(), strict=True):
            assert new
            assert in_order(new, old)
    assert all(len(word) <= 4 for word in STYLES["clipped_words"](text).split())


@given(sentences)
def test_gluing_loses_spaces_only(text: str) -> None:
    new = STYLES["glued_words"](text)
    assert new.replace(" ", "") == text.replace(" ", "")
    assert len(new.split()) == -(-len(text.split()) // 2)


@pytest.mark.parametrize(
    ("style", "plain", "typed"),
    [
        ("pig_latin", "three apples", "eethray applesay"),
        ("phonetic", "what a night", "wat a nyt"),
        ("phonetic", "quick photo", "kwik foto"),
        ("glued_words", "Turn the lights off now", "turnthe lightsoff now"),
        ("clipped_words", "remind me tomorrow", "remi me tomo"),
    ],
)
def test_examples_by_hand(style: str, plain: str, typed: str) -> None:
    assert STYLES[style](plain) == typed


# Tasks


def slot(name: str = "s", sizes: dict[Part, int] = SIZES, seed: int = 0) -> Slot:
    return Slot(name, "client", "combo", sizes, seed)


def task_of(style: str, seed: int = 0) -> Task:
    return style_task(TOPIC, style, slot(seed=seed))


@pytest.mark.parametrize("style", STYLES)
def test_a_style_task_has_plain_labels_and_typed_texts(style: str) -> None:
    task = task_of(style)
    assert list(task.labels.values()) == [intent.name for intent in TOPIC.intents]
    said = [(f"{intent.name}: {intent.hint}",) for intent in TOPIC.intents]
    assert list(task.hints.values()) == said
    for part, each in (("train", 16), ("test", 6)):
        examples = getattr(task, part)
        assert Counter(e.label for e in examples) == dict.fromkeys(task.labels, each)
        for key, intent in zip(task.labels, TOPIC.intents, strict=True):
            typed = {STYLES[style](text) for text in getattr(intent, part)}
            assert {e.item for e in examples if e.label == key} <= typed
    assert not {e.item for e in task.train} & {e.item for e in task.test}


@pytest.mark.parametrize("style", STYLES)
def test_descriptions_name_topic_and_style(style: str) -> None:
    for seed in range(5):
        task = task_of(style, seed=seed)
        said = (task.description, *task.paraphrases)
        assert len(set(said)) == len(said) == 6
        for sentence in map(str.lower, said):
            assert any(name.lower() in sentence for name in TOPIC.names)
            assert any(habit.lower() in sentence for habit in HABITS[style])


def many_intents(count: int) -> PlainTopic:
    return PlainTopic(
        "many",
        ("many",),
        tuple(
            PlainIntent(f"n{i}", f"h{i}", (f"train {i} a", f"train {i} b"), (f"test {i} a",))
            for i in range(count)
        ),
    )


def test_a_big_topic_gives_tasks_over_some_of_its_intents() -> None:
    topic = many_intents(15)
    drawn = {tuple(style_task(topic, "leetspeak", slot(f"s{n}")).labels.values()) for n in range(6)}
    assert all(len(set(labels)) == MOST_LABELS for labels in drawn)
    assert len(drawn) > 1


def test_an_intent_without_words_of_its_own_is_said_by_its_name_and_as_it_is_typed() -> None:
    names = ("a", "send money")
    intents = tuple(PlainIntent(name, name, ("one two", "three"), ("four",)) for name in names)
    topic = PlainTopic("letters", ("letters",), intents)
    task = style_task(topic, "leetspeak", slot(sizes={"train": 2, "test": 2}))
    assert list(task.hints.values()) == [("a",), ("send money", "s3nd m0n3y")]
