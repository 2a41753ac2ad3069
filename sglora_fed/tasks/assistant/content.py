"""The embedded content: what people say to an on-device assistant, by topic and intent.

Each topic is one YAML file beside this module. It holds sentence templates and slot values, each
list once for training and once for testing, so that no test utterance shares its wording or its
details with a training utterance. Expansion is a fixed walk without any random numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import chain, islice
from typing import Any, Literal

import yaml

from sglora_fed.errors import TaskError

TRAIN_PER_INTENT = 48
TEST_PER_INTENT = 24
MIN_INTENTS = 8

_SLOT = re.compile(r"\{(\w+)\}")
_GOLDEN = (math.sqrt(5) - 1) / 2

Part = Literal["train", "test"]
Slots = Mapping[str, Mapping[str, Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Intent:
    """One thing a person may want within a topic.

    Attributes:
        key: unique within the topic.
        topic: key of the topic.
        name: short label text, such as ``book a flight``.
        hint: the user's own words about it.
        train: distinct utterances for training.
        test: distinct utterances for evaluation; none of them, nor its template, is in ``train``.

    Raises:
        TaskError: on an empty name or hint, or an utterance that occurs twice.
    """

    key: str
    topic: str
    name: str
    hint: str
    train: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        if not (self.name.strip() and self.hint.strip()):
            raise TaskError(f"intent {self.topic}/{self.key} has an empty name or hint")
        _check_distinct(self.train + self.test, f"utterances of {self.topic}/{self.key}")


@dataclass(frozen=True, slots=True)
class Topic:
    """A part of life that people talk to their assistant about.

    Attributes:
        key: unique; the name of its file.
        names: at least 3 ways in which a person names the topic inside a sentence.
        names_test: at least 2 further ways, by another author (split ``new_words``).
        intents: at least 8, in the order of the file.

    Raises:
        TaskError: on too few names or intents, or a name, intent or utterance that occurs twice.
    """

    key: str
    names: tuple[str, ...]
    names_test: tuple[str, ...]
    intents: tuple[Intent, ...]

    def __post_init__(self) -> None:
        if len(self.names) < 3 or len(self.names_test) < 2 or len(self.intents) < MIN_INTENTS:
            raise TaskError(
                f"topic {self.key!r} has {len(self.names)} names, {len(self.names_test)} test names"
                f" and {len(self.intents)} intents; at least 3, 2 and {MIN_INTENTS} are needed"
            )
        _check_distinct(self.names + self.names_test, f"names of {self.key}")
        _check_distinct([intent.name for intent in self.intents], f"intent names of {self.key}")
        _check_distinct(_utterances(self.intents), f"utterances of {self.key}")


@cache
def load_topics() -> tuple[Topic, ...]:
    """All embedded topics, sorted by key.

    Raises:
        TaskError: if the content breaks one of its rules, such as an utterance in two topics.
    """
    folder = resources.files("sglora_fed.tasks.assistant").joinpath("content")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".yaml")), key=lambda f: f.name)
    topics = tuple(parse_topic(yaml.safe_load(f.read_text(encoding="utf-8"))) for f in files)
    _check_distinct([topic.key for topic in topics], "topic keys")
    _check_distinct(_utterances(chain.from_iterable(t.intents for t in topics)), "all utterances")
    return topics


def parse_topic(raw: Mapping[str, Any]) -> Topic:
    """One topic from the contents of its file.

    Args:
        raw: ``topic``, ``names``, ``names_test``, ``slots`` and ``intents`` as the file has them.

    Raises:
        TaskError: on a missing field, an unknown slot, overlapping train and test material, or
            templates and slots that give too few utterances.
    """
    try:
        slots: Slots = raw["slots"]
        _check_slots(str(raw["topic"]), slots)
        intents = tuple(
            _parse_intent(str(raw["topic"]), key, intent, slots)
            for key, intent in raw["intents"].items()
        )
        names, names_test = tuple(raw["names"]), tuple(raw["names_test"])
        return Topic(str(raw["topic"]), names, names_test, intents)
    except KeyError as error:
        raise TaskError(f"topic {raw.get('topic')!r} lacks the field or slot {error}") from error


def expand(
    templates: Sequence[str], slots: Slots, part: Part, count: int, offset: int = 0
) -> tuple[str, ...]:
    """The first ``count`` utterances of a fixed walk over templates and slot values.

    Templates take turns; one whose combinations are used up drops out. Within a template the walk
    steps through all combinations by a stride near the golden section that is coprime to their
    number, which reaches each combination once and uses the values of every slot evenly.

    Args:
        templates: sentences with ``{slot}`` places.
        slots: slot -> part -> values.
        part: which values to use.
        count: how many utterances are wanted; fewer come back if the material is too small.
        offset: where the walk starts; differs between intents so that values are mixed.

    Raises:
        KeyError: if a template names an unknown slot.
    """
    walks = [_walk(t, slots, part, offset + i) for i, t in enumerate(templates)]
    return tuple(islice(_take_turns(walks), count))


def _parse_intent(topic: str, key: str, raw: Mapping[str, Any], slots: Slots) -> Intent:
    train, test = raw["templates_train"], raw["templates_test"]
    _check_distinct([*train, *test], f"templates of {topic}/{key}")
    offset = sum(map(ord, key))
    utterances_train = expand(train, slots, "train", TRAIN_PER_INTENT, offset)
    utterances_test = expand(test, slots, "test", TEST_PER_INTENT, offset)
    if len(utterances_train) < TRAIN_PER_INTENT or len(utterances_test) < TEST_PER_INTENT:
        raise TaskError(
            f"intent {topic}/{key} expands to {len(utterances_train)} training and "
            f"{len(utterances_test)} test utterances; {TRAIN_PER_INTENT} and {TEST_PER_INTENT} "
            "are needed: add templates or slot values"
        )
    return Intent(key, topic, raw["name"], raw["hint"], utterances_train, utterances_test)


def _walk(template: str, slots: Slots, part: Part, offset: int) -> Iterator[str]:
    values = [(name, slots[name][part]) for name in dict.fromkeys(_SLOT.findall(template))]
    total = math.prod(len(options) for _, options in values)
    stride = next(
        s for s in range(max(1, round(total * _GOLDEN)), 2 * total + 2) if math.gcd(s, total) == 1
    )
    for step in range(total):
        yield _fill(template, values, (offset + step * stride) % total)


def _fill(template: str, values: Sequence[tuple[str, Sequence[str]]], index: int) -> str:
    for name, options in values:
        index, digit = divmod(index, len(options))
        template = template.replace(f"{{{name}}}", options[digit])
    return template


def _take_turns(walks: Sequence[Iterator[str]]) -> Iterator[str]:
    active = list(walks)
    while active:
        for walk in list(active):
            try:
                yield next(walk)
            except StopIteration:
                active.remove(walk)


def _utterances(intents: Iterator[Intent] | Sequence[Intent]) -> list[str]:
    return [text for intent in intents for text in intent.train + intent.test]


def _check_distinct(texts: Sequence[str], what: str) -> None:
    seen: set[str] = set()
    for text in (" ".join(t.lower().split()) for t in texts):
        if text in seen:
            raise TaskError(f"{what}: {text!r} occurs twice; each may occur once")
        seen.add(text)


def _check_slots(topic: str, slots: Slots) -> None:
    train = [value for slot in slots.values() for value in slot["train"]]
    test = [value for slot in slots.values() for value in slot["test"]]
    if wrong := [value for value in train + test if not isinstance(value, str)]:
        raise TaskError(f"topic {topic!r}: slot values must be text, quote {wrong}")
    if shared := sorted({v.lower() for v in train} & {v.lower() for v in test}):
        raise TaskError(f"topic {topic!r}: slot values {shared} are both in train and in test")
