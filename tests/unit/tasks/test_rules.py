"""A rule's examples follow its words, whatever the form, and its sentences say what it means."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest

from sglora_fed.errors import TaskError
from sglora_fed.tasks.assistant.content import Topic, load_topics
from sglora_fed.tasks.phrases import phrases
from sglora_fed.tasks.rules import WORDS, Form, Rule, rule_task
from sglora_fed.tasks.topics import Part, Slot
from sglora_fed.tasks.types import Task
from sglora_fed.tasks.wording import (
    EXCEPTION_FRAMES,
    PRIORITY_FRAMES,
    SET_FRAMES,
    STYLE_FRAMES,
    as_noun,
    join_names,
)

TOPICS = {topic.key: topic for topic in load_topics()}
SIZES: dict[Part, int] = {"train": 120, "test": 48}
FORMS: tuple[Form, ...] = ("set", "exception", "priority")

# text -> (part, topic, intent), from the content itself
ORIGIN = {
    text: (part, topic.key, intent.key)
    for topic in TOPICS.values()
    for intent in topic.intents
    for part, texts in (("train", intent.train), ("test", intent.test))
    for text in texts
}


def topics(*names: str) -> tuple[Topic, ...]:
    return tuple(TOPICS[name] for name in names)


def rule_of(form: Form) -> Rule:
    others = topics("banking", "car", "home", "school")
    if form == "priority":
        return Rule(form, topics("travel"), others, second=topics("pets", "work"))
    return Rule(form, topics("travel", "pets", "work"), others, excluded=2)


def slot(name: str = "r", sizes: dict[Part, int] = SIZES, seed: int = 0) -> Slot:
    return Slot(name, "expert", "expert", sizes, seed)


def task_of(form: Form, seed: int = 0, sizes: dict[Part, int] = SIZES) -> Task:
    return rule_task(rule_of(form), slot(sizes=sizes, seed=seed))


def expected_side(form: Form, topic: str, intent: str) -> int:
    """What the rule means, told independently of the code."""
    if form == "priority":
        return {"travel": 0, "pets": 1, "work": 1}.get(topic, 2)
    if form == "exception" and intent == TOPICS["travel"].intents[2].key:
        return 1
    return 0 if topic in ("travel", "pets", "work") else 1


def test_words_in_several_ways_change_nothing_else() -> None:
    for form in FORMS:
        several = rule_task(rule_of(form), slot(), several_ways=True)
        assert replace(several, hints=task_of(form).hints) == task_of(form)


def test_words_in_several_ways_say_every_topic_in_every_way() -> None:
    travel = {"travel", "my trips", "flights", "hotels", "going abroad"}
    pets = {"my pets", "the dog", "the cat", "animals i keep"}
    work = {"work", "my job", "the office"}
    rest = {"everything else"}
    skipped = as_noun(TOPICS["travel"].intents[2].name)
    expected = {
        "set": [travel | pets | work, rest],
        "exception": [travel | pets | work, {skipped} | rest],
        "priority": [travel, pets | work, rest],
    }
    for form in FORMS:
        task = rule_task(rule_of(form), slot(), several_ways=True)
        said = [(words,) if isinstance(words, str) else words for words in task.hints.values()]
        assert [set(words) for words in said] == expected[form]
        assert all(len(set(words)) == len(words) for words in said)


def test_an_exception_is_said_alike_in_one_way_and_in_several() -> None:
    rule = Rule("exception", topics("banking", "pets"), topics("travel", "work"), excluded=2)
    one, several = (
        rule_task(rule, slot(), several_ways=ways).hints["l1"] for ways in (False, True)
    )
    assert one == "blocking a lost or stolen card and everything else"
    assert several == ("blocking a lost", "stolen card", "everything else") == phrases(str(one))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("part", ["train", "test"])
def test_every_example_obeys_the_rule(form: Form, part: Part) -> None:
    task = task_of(form)
    examples = getattr(task, part)
    for example in examples:
        of_part, topic, intent = ORIGIN[example.item]
        assert of_part == part
        assert example.label == f"l{expected_side(form, topic, intent)}"
    assert len({example.item for example in examples}) == len(examples)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sizes", [SIZES, {"train": 5, "test": 2}, {"train": 9000, "test": 9000}])
def test_labels_are_balanced(form: Form, sizes: dict[Part, int]) -> None:
    task = task_of(form, sizes=sizes)
    labels = 3 if form == "priority" else 2
    for part in ("train", "test"):
        counts = Counter(example.label for example in getattr(task, part))
        assert set(counts) == set(task.labels)
        assert len(set(counts.values())) == 1
        assert sum(counts.values()) <= max(sizes[part], labels)


def test_all_topics_and_the_exception_are_shown() -> None:
    task = task_of("exception")
    shown = Counter(ORIGIN[e.item][1:] for e in task.test)
    exception = TOPICS["travel"].intents[2].key
    assert shown["travel", exception] == 6, "a quarter of the 24 texts of the last label"
    assert {topic for topic, _ in shown} == {
        "travel", "pets", "work", "banking", "car", "home", "school",
    }  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_labels_show_only_private_words(form: Form) -> None:
    words = {text for texts in WORDS.values() for text in texts}
    names = {name for topic in TOPICS.values() for name in topic.names}
    for seed in range(8):
        task = task_of(form, seed)
        assert set(task.labels.values()) <= words
        assert not words & names


@pytest.mark.parametrize("form", FORMS)
def test_sentences_name_topics_words_and_exception(form: Form) -> None:
    rule = rule_of(form)
    for seed in range(6):
        task = task_of(form, seed)
        said = (task.description, *task.paraphrases)
        assert len(set(said)) == len(said) >= 6
        for sentence in said:
            assert "{" not in sentence
            low = sentence.lower()
            for topic in (*rule.first, *rule.second):
                assert any(name in low for name in map(str.lower, topic.names)), (topic.key, low)
            assert all(re.search(rf"\b{word}\b", low) for word in task.labels.values())
            if form == "exception":
                assert as_noun(rule.first[0].intents[2].name) in low


@pytest.mark.parametrize("form", FORMS)
def test_hints_name_what_each_label_means(form: Form) -> None:
    hints = task_of(form).hints
    assert set(hints) == ({"l0", "l1", "l2"} if form == "priority" else {"l0", "l1"})
    first, second = hints["l0"], hints["l1"]
    assert any(name in first for name in TOPICS["travel"].names)
    assert any(name in (second if form == "priority" else first) for name in TOPICS["pets"].names)
    last = list(hints.values())[-1]
    assert "everything else" in last
    excluded = as_noun(rule_of(form).first[0].intents[2].name)
    assert (excluded in last) == (form == "exception")
    assert excluded not in first


def test_the_same_words_have_contradictory_meanings() -> None:
    """One adapter for all users cannot be right: a text is important here and other there."""
    mine = Rule("set", topics("travel", "pets", "work"), topics("banking", "car", "home"))
    yours = Rule("set", topics("banking", "car", "home"), topics("travel", "pets", "work"))
    sizes: dict[Part, int] = {"train": 4000, "test": 4000}
    one = rule_task(mine, slot(sizes=sizes))
    two = rule_task(yours, slot(sizes=sizes))
    assert one.labels == two.labels
    labels = {e.item: e.label for e in one.train}
    assert len(labels) > 1000
    assert all(labels[e.item] != e.label for e in two.train)


def test_frames_differ_and_name_all_their_parts() -> None:
    every = SET_FRAMES + EXCEPTION_FRAMES + PRIORITY_FRAMES + STYLE_FRAMES
    assert len(set(every)) == len(every)
    for frames, parts in (
        (SET_FRAMES, "abx"), (EXCEPTION_FRAMES, "abxy"), (PRIORITY_FRAMES, "abcxy"),
    ):  # fmt: skip
        assert all(set(re.findall(r"\{(\w)\}", frame)) == set(parts) for frame in frames)


def test_the_seed_and_the_id_decide() -> None:
    assert task_of("set") == task_of("set")
    assert task_of("set").train != task_of("set", seed=1).train
    other = rule_task(rule_of("set"), slot("q"))
    assert task_of("set").train != other.train


def test_a_topic_on_two_sides_is_refused() -> None:
    with pytest.raises(TaskError, match="each topic one side"):
        Rule("set", topics("travel"), topics("travel", "pets"))
    with pytest.raises(TaskError, match="each side needs topics"):
        Rule("set", topics("travel"), ())
    with pytest.raises(TaskError, match="'priority' with 0 second topics"):
        Rule("priority", topics("travel"), topics("pets"))


@pytest.mark.parametrize(
    ("names", "joined"),
    [
        (["work"], "work"),
        (["work", "pets"], "work and pets"),
        (["work", "pets", "travel"], "work, pets and travel"),
        (["work", "cats and dogs"], "work as well as cats and dogs"),
        (["cats and dogs", "work", "travel"], "cats and dogs, work, and travel"),
    ],
)
def test_lists_can_be_read(names: list[str], joined: str) -> None:
    assert join_names(names) == joined


@pytest.mark.parametrize(
    ("name", "noun"),
    [
        ("book a flight", "booking a flight"),
        ("cancel or change a trip", "cancelling or changing a trip"),
        ("trains and buses at the destination", "trains and buses at the destination"),
        ("train the pet", "training the pet"),
        ("cancel", "cancel"),
        ("rain", "rain"),
    ],
)
def test_an_intent_as_a_noun(name: str, noun: str) -> None:
    assert as_noun(name) == noun
