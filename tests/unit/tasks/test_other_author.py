"""Split ``new_words``: the tasks of other clients, in words that no expert shows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import pytest

from sglora_fed.config.schema import FamilyConfig
from sglora_fed.tasks.assistant.content import load_topics
from sglora_fed.tasks.everyday import EVERYDAY_TOPICS
from sglora_fed.tasks.family import build_family
from sglora_fed.tasks.other_author import OTHER_AUTHOR
from sglora_fed.tasks.phrases import phrases, said_of
from sglora_fed.tasks.styles import STYLES
from sglora_fed.tasks.types import Task, TaskFamily
from sglora_fed.tasks.wording import AUTHOR, Author, as_noun

TOPICS = load_topics()
OWN_NAMES = {name: topic.key for topic in TOPICS for name in topic.names_test}
SEEDS = (0, 1, 2)
FAMILIES = {seed: build_family("assistant", TOPICS, FamilyConfig(seed=seed)) for seed in SEEDS}
STYLES_ONLY = build_family(
    "assistant", TOPICS, FamilyConfig(rule_experts=0, style_experts=30, clients_per_split=8)
)


def of_split(family: TaskFamily, split: str) -> list[Task]:
    return [task for task in family.tasks if task.split == split]


def sentences(tasks: Iterable[Task]) -> list[str]:
    return [text for task in tasks for text in (task.description, *task.paraphrases)]


def runs(text: str, length: int = 4) -> set[tuple[str, ...]]:
    """Runs of words; a place for a topic, a label or a habit is a word of its own."""
    words = re.findall(r"\{\w+\}|[a-z0-9']+", text.lower())
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}


def frames(author: Author) -> list[str]:
    habits = [habit for some in author.habits.values() for habit in some]
    return [*(frame for some in author.rules.values() for frame in some), *author.styles, *habits]


def test_no_frame_shares_four_words_in_a_row() -> None:
    known = set().union(*map(runs, frames(AUTHOR)))
    shared = {run: frame for frame in frames(OTHER_AUTHOR) for run in runs(frame) & known}
    assert not shared


@pytest.mark.parametrize("seed", SEEDS)
def test_no_sentence_shares_four_words_in_a_row_but_those_of_an_exception(seed: int) -> None:
    """An exception is one intent of a topic: how it is called is the topic's, not the author's."""
    forced = {as_noun(intent.name) for topic in TOPICS for intent in topic.intents}
    known = set().union(*map(runs, sentences(FAMILIES[seed].of_role("expert"))))
    for text in sentences(of_split(FAMILIES[seed], "new_words")):
        without = re.sub("|".join(sorted(forced, key=len, reverse=True)), " | ", text.lower())
        assert not set().union(*map(runs, without.split("|"))) & known, text


def test_every_topic_has_names_that_stand_nowhere_else() -> None:
    texts = [
        *(text for topic in TOPICS for i in topic.intents for text in (i.name, i.hint)),
        *(text for topic in TOPICS for i in topic.intents for text in (*i.train, *i.test)),
        *(name for topic in TOPICS for name in topic.names),
        *frames(AUTHOR),
        *frames(OTHER_AUTHOR),
        *EVERYDAY_TOPICS,
    ]
    everything = "\n".join(texts).lower()
    assert all(len(topic.names_test) >= 3 for topic in TOPICS)
    assert not [name for name in OWN_NAMES if re.search(rf"\b{re.escape(name)}\b", everything)]


def test_no_part_of_a_name_is_a_part_of_a_known_name() -> None:
    """Parts are what the candidate texts are."""
    known = {part for topic in TOPICS for name in topic.names for part in phrases(name)}
    known |= {intent.name for topic in TOPICS for intent in topic.intents}
    assert not known & {part for name in OWN_NAMES for part in phrases(name)}


def test_the_rest_has_other_names() -> None:
    assert not set(OTHER_AUTHOR.rest) & set(AUTHOR.rest)
    for family in FAMILIES.values():
        last = [said_of(t, list(t.labels)[-1])[-1] for t in of_split(family, "new_words")]
        assert set(last) == set(OTHER_AUTHOR.rest)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_clients_are_those_of_new_rule_in_other_words(seed: int) -> None:
    """A difference between the two splits is due to the words alone."""
    before, after = (of_split(FAMILIES[seed], split) for split in ("new_rule", "new_words"))
    assert len(after) == FamilyConfig().clients_per_split
    for old, new in zip(before, after, strict=True):
        said = {"id", "split", "description", "paraphrases", "hints"}
        assert replace(new, **{name: getattr(old, name) for name in said}) == old
        assert len({*sentences([new])}) == 6
        assert set(new.hints) == set(old.hints)


def topics_in(text: str, names: dict[str, str]) -> set[str]:
    """One topic's name may be part of another's: the longest come first."""
    found = set()
    for name in sorted(names, key=len, reverse=True):
        text, count = re.subn(rf"\b{re.escape(name)}\b", "#", text)
        found |= {names[name]} if count else set()
    return found


def test_the_words_mean_the_same_topics() -> None:
    """Told from the names in both clients' hints, label by label."""
    known = {name: topic.key for topic in TOPICS for name in topic.names}
    for family in FAMILIES.values():
        pairs = zip(of_split(family, "new_rule"), of_split(family, "new_words"), strict=True)
        for old, new in pairs:
            for key in list(old.labels)[:-1]:
                meant = topics_in(str(old.hints[key]), known)
                assert meant
                assert topics_in(str(new.hints[key]), OWN_NAMES) == meant
            every = set().union(*(topics_in(str(old.hints[k]), known) for k in old.labels))
            for text in sentences([new]):
                assert every <= topics_in(text.lower(), OWN_NAMES)


def test_in_several_ways_every_name_is_the_other_authors() -> None:
    family = build_family("assistant", TOPICS, FamilyConfig(several_ways=True))
    parts = {part: key for name, key in OWN_NAMES.items() for part in phrases(name)}
    for one, several in zip(
        of_split(FAMILIES[0], "new_words"), of_split(family, "new_words"), strict=True
    ):
        assert several.description == one.description
        for key in list(one.labels)[:-1]:
            meant = topics_in(str(one.hints[key]), OWN_NAMES)
            assert set(several.hints[key]) == {p for p, topic in parts.items() if topic in meant}
        last = list(one.labels)[-1]
        assert said_of(several, last) == said_of(one, last)


def test_without_rules_the_clients_of_combo_are_described_anew() -> None:
    pairs = zip(of_split(STYLES_ONLY, "combo"), of_split(STYLES_ONLY, "new_words"), strict=True)
    for old, new in pairs:
        said = {"id", "split", "description", "paraphrases"}
        assert replace(new, **{name: getattr(old, name) for name in said}) == old
        (style,) = (s for s, said in AUTHOR.habits.items() if any(h in old.description.lower()
            or h in old.description for h in said))  # fmt: skip
        for text in sentences([new]):
            assert any(habit.lower() in text.lower() for habit in OTHER_AUTHOR.habits[style])
            assert len(topics_in(text.lower(), OWN_NAMES)) == 1
    known = set().union(*map(runs, sentences(STYLES_ONLY.of_role("expert"))))
    for text in sentences(of_split(STYLES_ONLY, "new_words")):
        assert not runs(text) & known, text


def test_every_form_and_style_has_enough_words() -> None:
    """Six frames make a description and five paraphrases."""
    assert set(OTHER_AUTHOR.rules) == set(AUTHOR.rules)
    assert set(OTHER_AUTHOR.habits) == set(AUTHOR.habits) == set(STYLES)
    for form, some in OTHER_AUTHOR.rules.items():
        places = [set(re.findall(r"\{(\w)\}", frame)) for frame in some]
        assert len(set(some)) == len(some) >= 6
        assert places == [set(re.findall(r"\{(\w)\}", AUTHOR.rules[form][0]))] * len(some)
    assert len(set(OTHER_AUTHOR.styles)) >= 6
    assert all(len(habits) >= 2 for habits in OTHER_AUTHOR.habits.values())
