"""The authored content keeps its promises: enough, varied, and nothing shared by train and test."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from importlib import resources
from typing import Any

import pytest
import yaml

from sglora_fed.errors import TaskError
from sglora_fed.tasks.assistant.content import Intent, expand, load_topics, parse_topic

TOPICS = load_topics()
INTENTS = [intent for topic in TOPICS for intent in topic.intents]
FOLDER = resources.files("sglora_fed.tasks.assistant").joinpath("content")
RAW: dict[str, Any] = {
    file.name: yaml.safe_load(file.read_text(encoding="utf-8"))
    for file in FOLDER.iterdir()
    if file.name.endswith(".yaml")
}


def tokens(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9']+", text.lower()))


def mean_jaccard(texts: tuple[str, ...]) -> float:
    sets = [tokens(text) for text in texts]
    pairs = [len(a & b) / len(a | b) for a, b in itertools.combinations(sets, 2)]
    return sum(pairs) / len(pairs)


def small_topic(**changes: Any) -> dict[str, Any]:
    intents = {
        f"i{n}": {
            "name": f"name {n}",
            "hint": f"hint {n}",
            "templates_train": [f"t{n} {{x}} {{y}}"],
            "templates_test": [f"u{n} {{x}} {{y}}"],
        }
        for n in range(8)
    }
    values = {"train": [f"a{i}" for i in range(7)], "test": [f"b{i}" for i in range(7)]}
    other = {"train": [f"c{i}" for i in range(7)], "test": [f"d{i}" for i in range(7)]}
    raw = {"topic": "toy", "names": ["a", "b", "c"], "names_test": ["d", "e"]}
    return {**raw, "slots": {"x": values, "y": other}, "intents": intents, **changes}


def test_enough_topics_intents_and_utterances() -> None:
    assert len(TOPICS) >= 12
    assert all(len(topic.intents) >= 8 for topic in TOPICS)
    assert all(len(set(intent.train)) >= 40 for intent in INTENTS)
    assert all(len(set(intent.test)) >= 20 for intent in INTENTS)


def test_file_names_are_topic_keys() -> None:
    assert {f"{topic.key}.yaml" for topic in TOPICS} == set(RAW)


def test_no_utterance_occurs_twice_anywhere() -> None:
    counts = Counter(" ".join(sorted(tokens(u))) for i in INTENTS for u in i.train + i.test)
    assert [text for text, count in counts.items() if count > 1] == []


def test_train_and_test_share_no_template_and_no_slot_value() -> None:
    for name, raw in RAW.items():
        intents = raw["intents"].values()
        train = {t for intent in intents for t in intent["templates_train"]}
        test = {t for intent in intents for t in intent["templates_test"]}
        assert not train & test, name
        values_train = {v for slot in raw["slots"].values() for v in slot["train"]}
        values_test = {v for slot in raw["slots"].values() for v in slot["test"]}
        assert not values_train & values_test, name


def test_every_intent_has_enough_templates_and_slot_values() -> None:
    for name, raw in RAW.items():
        for key, intent in raw["intents"].items():
            assert len(intent["templates_train"]) >= 8, (name, key)
            assert len(intent["templates_test"]) >= 5, (name, key)
        for key, slot in raw["slots"].items():
            assert len(slot["train"]) >= 5, (name, key)
            assert len(slot["test"]) >= 4, (name, key)


def test_every_slot_is_used_and_every_place_filled() -> None:
    for name, raw in RAW.items():
        text = " ".join(
            t for i in raw["intents"].values() for t in i["templates_train"] + i["templates_test"]
        )
        assert set(re.findall(r"\{(\w+)\}", text)) == set(raw["slots"]), name
    assert not [u for i in INTENTS for u in i.train + i.test if set("{}") & set(u)]


def test_topic_and_intent_names_are_unique() -> None:
    names = [name for topic in TOPICS for name in topic.names + topic.names_test]
    assert len(set(names)) == len(names)
    labels = [intent.name for intent in INTENTS]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("intent", INTENTS, ids=lambda intent: f"{intent.topic}-{intent.key}")
def test_sentences_vary(intent: Intent) -> None:
    assert len({text.split()[0] for text in intent.train}) >= 5
    assert len({text.split()[0] for text in intent.test}) >= 3
    assert mean_jaccard(intent.train) < 0.3
    assert mean_jaccard(intent.test) < 0.4
    lengths = [len(text.split()) for text in intent.train + intent.test]
    assert min(lengths) >= 2
    assert max(lengths) <= 20
    assert max(lengths) - min(lengths) >= 3


def test_every_template_is_used() -> None:
    for raw, topic in ((RAW[f"{topic.key}.yaml"], topic) for topic in TOPICS):
        for intent in topic.intents:
            for template in raw["intents"][intent.key]["templates_train"]:
                pattern = re.sub(r"\\\{\w+\\\}", "(.+)", re.escape(template))
                assert any(re.fullmatch(pattern, text) for text in intent.train), template


def test_walk_reaches_every_combination_once_and_slots_evenly() -> None:
    slots = {"x": {"train": list("abcdef")}, "y": {"train": list("uvwxyz")}}
    full = expand(["{x}-{y}"], slots, "train", 100)
    assert sorted(full) == sorted(f"{x}-{y}" for x, y in itertools.product("abcdef", "uvwxyz"))
    first = expand(["{x}-{y}"], slots, "train", 12)
    for place in (0, 2):
        used = Counter(text[place] for text in first)
        assert len(used) == 6
        assert max(used.values()) <= 3


def test_a_template_without_places_is_used_once() -> None:
    slots = {"x": {"train": ["a", "b", "c"]}}
    assert sorted(expand(["hello", "{x}!"], slots, "train", 9)) == ["a!", "b!", "c!", "hello"]


def test_small_topic_is_accepted() -> None:
    assert len(parse_topic(small_topic()).intents) == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ["a"]}, "has 1 names"),
        ({"names": ["a", "b", "D"]}, "'d' occurs twice"),
        ({"intents": {}}, "0 intents"),
        ({"slots": {"x": {"train": ["a"], "test": ["b"]}}}, "'y'"),
        (
            {"slots": {s: {"train": list("abcdefg"), "test": list("ghijklm")} for s in "xy"}},
            r"\['g'\] are both in train and in test",
        ),
        (
            {"slots": {"x": {"train": ["a"], "test": ["b"]}, "y": {"train": ["c"], "test": ["d"]}}},
            "expands to 1 training and 1 test",
        ),
        (
            {"slots": {s: {"train": [1, 2], "test": [3, 4]} for s in "xy"}},
            "slot values must be text",
        ),
    ],
)
def test_broken_content_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        parse_topic(small_topic(**change))


def test_an_utterance_in_two_intents_is_refused() -> None:
    raw = small_topic()
    raw["intents"]["i1"]["templates_train"] = raw["intents"]["i0"]["templates_train"]
    with pytest.raises(TaskError, match="occurs twice"):
        parse_topic(raw)
