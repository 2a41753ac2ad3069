"""What the splits promise, read from the sentences and texts of the default families."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sglora_fed.config.schema import FamilyConfig
from sglora_fed.tasks.assistant.content import load_topics
from sglora_fed.tasks.family import build_family
from sglora_fed.tasks.other_author import OTHER_AUTHOR
from sglora_fed.tasks.splits import seeded_roles
from sglora_fed.tasks.types import Task, TaskFamily
from sglora_fed.tasks.wording import AUTHOR, HABITS

TOPICS = load_topics()
SEEDS = (0, 1)
FAMILIES = {seed: build_family("assistant", TOPICS, FamilyConfig(seed=seed)) for seed in SEEDS}

# Longest names first: one topic's name may be part of another's.
NAMES = sorted(
    ((name.lower(), topic.key) for topic in TOPICS for name in topic.names + topic.names_test),
    key=lambda pair: -len(pair[0]),
)
REST = "|".join(AUTHOR.rest + OTHER_AUTHOR.rest)
ORIGIN = {
    text: (topic.key, intent.name)
    for topic in TOPICS
    for intent in topic.intents
    for text in intent.train + intent.test
}


def sentences(task: Task) -> tuple[str, ...]:
    return (task.description, *task.paraphrases)


def topics_in(text: str) -> frozenset[str]:
    """Topics that a text names, as whole words."""
    found, left = set(), text.lower()
    for name, key in NAMES:
        left, count = re.subn(rf"\b{re.escape(name)}\b", "#", left)
        if count:
            found.add(key)
    return frozenset(found)


def rules(family: TaskFamily, *splits: str) -> list[Task]:
    """Tasks over rules, of some splits."""
    prefixes = {
        "expert": "rule-expert",
        "new_rule": "new_rule",
        "new_topic": "new_topic",
        "new_words": "new_words",
    }
    chosen = tuple(prefixes[split] for split in splits or prefixes)
    return [task for task in family.tasks if task.id.startswith(chosen)]


@pytest.fixture(params=SEEDS)
def family(request: pytest.FixtureRequest) -> TaskFamily:
    return FAMILIES[request.param]


def test_every_sentence_of_a_task_names_the_same_topics(family: TaskFamily) -> None:
    for task in family.tasks:
        (said,) = {topics_in(sentence) for sentence in sentences(task)}
        assert len(said) == (3 if task in rules(family) else 1), task.id


def test_new_topics_are_in_no_experts_words_or_texts(family: TaskFamily) -> None:
    """Held-out topics, told by what experts neither name, nor hint at, nor have examples of."""
    experts = family.of_role("expert")
    named = {topic for e in experts for text in sentences(e) for topic in topics_in(text)}
    hinted = {topic for e in rules(family, "expert") for topic in topics_in(str(e.hints))}
    assert hinted <= named
    held_out = {topic.key for topic in TOPICS} - named
    assert len(held_out) == 3
    own = {text for text, (topic, _) in ORIGIN.items() if topic in held_out}
    assert not own & {e.item for task in experts for e in task.train + task.test}
    for task in rules(family, "new_topic"):
        assert len(topics_in(task.description) & held_out) == 1
    for task in rules(family, "new_rule", "new_words"):
        assert not topics_in(task.description) & held_out


def test_no_expert_says_a_new_rule(family: TaskFamily) -> None:
    said = {topics_in(task.description) for task in rules(family, "expert")}
    assert len(said) == FamilyConfig().rule_experts
    for task in rules(family, "new_rule", "new_words", "new_topic"):
        assert topics_in(task.description) not in said


def test_labels_follow_from_the_description_alone(family: TaskFamily) -> None:
    """What a stranger would sort by reading the sentence: named topics first, the rest last.

    The order of three labels and exceptions are told by the hints, in the client's own words.
    """
    checked: set[tuple[str, tuple[str, str]]] = set()
    for task in rules(family):
        keys = list(task.labels)
        meant = {key: topics_in(task.hints[key]) for key in keys}
        excluded = re.match(rf"(.+) and ({REST})$", task.hints[keys[-1]])
        for example in task.train + task.test:
            topic, _ = ORIGIN[example.item]
            side = next((key for key in keys[:-1] if topic in meant[key]), keys[-1])
            if excluded and side != example.label:
                # The only texts that leave their topic's side are of one intent, the exception.
                checked.add((task.id, ORIGIN[example.item]))
                assert example.label == keys[-1]
            else:
                assert side == example.label, (task.id, example)
    exceptions = Counter(task for task, _ in checked)
    assert exceptions
    assert set(exceptions.values()) == {1}


def test_users_contradict_one_another(family: TaskFamily) -> None:
    """The same text, the same two label words, the other answer: no one model can serve both."""
    told: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for task in rules(family):
        words = tuple(task.labels.values())
        for example in task.test:
            told.setdefault((example.item, words), []).append(example.label)
    shared = [answers for answers in told.values() if len(answers) > 2]
    assert len(shared) > 100
    assert sum(len(set(answers)) > 1 for answers in shared) > 0.5 * len(shared)


def test_enough_paraphrases_and_none_is_the_description(family: TaskFamily) -> None:
    for task in family.tasks:
        assert len(task.paraphrases) >= 5
        assert len({sentence.strip().lower() for sentence in sentences(task)}) == 1 + len(
            task.paraphrases
        )


def test_examples_are_balanced_and_never_contradict_themselves(family: TaskFamily) -> None:
    for task in family.tasks:
        for part in (task.train, task.test):
            counts = Counter(example.label for example in part)
            assert set(counts) == set(task.labels)
            assert max(counts.values()) == min(counts.values())
        answers = Counter(item for item, _ in {(e.item, e.label) for e in task.train + task.test})
        assert max(answers.values()) == 1, task.id
        assert not {e.item for e in task.train} & {e.item for e in task.test}


def test_no_training_text_is_a_test_text_of_anybody(family: TaskFamily) -> None:
    train = {e.item for task in rules(family) for e in task.train}
    assert not train & {e.item for task in rules(family) for e in task.test}


def test_another_process_builds_the_same_family() -> None:
    """Sets of strings are walked in another order there."""
    code = (
        "import hashlib; from sglora_fed.config.schema import FamilyConfig;"
        "from sglora_fed.tasks import load_family;"
        "print(hashlib.sha256(repr(load_family(FamilyConfig())).encode()).hexdigest())"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1


def test_seeds_give_other_splits() -> None:
    held_out = {
        seed: frozenset().union(*(topics_in(t.description) for t in rules(f, "new_topic")))
        - frozenset().union(*(topics_in(t.description) for t in rules(f, "expert")))
        for seed, f in FAMILIES.items()
    }
    assert held_out[0] != held_out[1]


def test_forms_that_no_expert_has_are_splits_of_their_own() -> None:
    config = FamilyConfig(style_experts=0, clients_per_split=6, unseen_forms=True)
    tasks = build_family("assistant", TOPICS, config).tasks
    named = {
        split: Counter(len(topics_in(t.description)) for t in tasks if t.split == split)
        for split in ("expert", "one_topic", "five_topics")
    }
    assert set(named["expert"]) == {3}
    assert named["one_topic"] == {1: 6}
    assert named["five_topics"] == {5: 6}
    labels = {split: {len(t.labels) for t in tasks if t.split == split} for split in named}
    assert labels == {split: {2} for split in named}
    assert {len(t.labels) for t in tasks if t.split == "priority"} == {3}
    assert sum(t.split == "exception" for t in tasks) == 6


def test_styles_that_no_expert_writes_are_a_split_of_their_own() -> None:
    config = FamilyConfig(rule_experts=0, unseen_styles=2, clients_per_split=8)
    tasks = build_family("assistant", TOPICS, config).tasks

    def habits(*splits: str) -> set[str]:
        words = [text for t in tasks if t.split in splits for text in sentences(t)]
        return {style for style, says in HABITS.items() if any(h in w for h in says for w in words)}

    assert len(habits("new_style")) == 2
    assert not habits("new_style") & habits("expert", "combo", "new_domain")


def test_words_in_several_ways_are_for_rules_alone() -> None:
    config = FamilyConfig(clients_per_split=6, several_ways=True)
    several = build_family("assistant", TOPICS, config).tasks
    one = build_family("assistant", TOPICS, replace(config, several_ways=False)).tasks
    changed = {a.split for a, b in zip(several, one, strict=True) if a.hints != b.hints}
    assert changed == {"expert", "new_rule", "new_topic", "new_words"}
    assert [replace(a, hints=b.hints) for a, b in zip(several, one, strict=True)] == list(one)


def test_a_family_of_one_kind() -> None:
    config = FamilyConfig(rule_experts=0, style_experts=20, clients_per_split=5)
    only_styles = build_family("assistant", TOPICS, config)
    assert {task.split for task in only_styles.tasks} == {
        "expert", "combo", "new_words", "new_domain",
    }  # fmt: skip
    only_rules = build_family(
        "assistant", TOPICS, replace(config, rule_experts=20, style_experts=0)
    )
    assert {task.split for task in only_rules.tasks} == {
        "expert", "new_rule", "new_words", "new_topic",
    }  # fmt: skip


# Families that do not say who is an expert


@given(
    ids=st.lists(
        st.text("abc019._-", min_size=1, max_size=6), min_size=2, max_size=30, unique=True
    ),
    seed=st.integers(0, 10**6),
    order=st.randoms(use_true_random=False),
)
def test_a_quarter_become_clients(ids: list[str], seed: int, order: object) -> None:
    roles = seeded_roles(ids, seed)
    clients = {name for name, (role, _) in roles.items() if role == "client"}
    assert abs(len(clients) - len(ids) / 4) <= 0.75
    assert 1 <= len(clients) < len(ids)
    shuffled = list(ids)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assert seeded_roles(shuffled, seed) == roles
    assert list(roles) == ids
    assert set(roles.values()) == {("client", "unseen"), ("expert", "expert")}
