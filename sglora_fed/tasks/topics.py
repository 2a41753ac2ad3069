"""What rules and styles are built over: topics with intents, whatever their source."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Literal, Protocol

import numpy as np
import yaml

from sglora_fed.tasks.types import Role

Part = Literal["train", "test"]


@dataclass(frozen=True)
class Slot:
    """What a drawn task is called, and its place in its family.

    Attributes:
        id: unique in the family.
        role: of the task.
        split: of the task.
        sizes: examples in all for each part.
        seed: of the family.
    """

    id: str
    role: Role
    split: str
    sizes: Mapping[Part, int]
    seed: int


class IntentLike(Protocol):
    """One thing a person may want: a short name, the user's words, utterances of both parts."""

    @property
    def name(self) -> str:
        """Label text."""
        ...

    @property
    def hint(self) -> str:
        """The user's own words about it."""
        ...

    @property
    def train(self) -> tuple[str, ...]:
        """Utterances for training."""
        ...

    @property
    def test(self) -> tuple[str, ...]:
        """Utterances for evaluation."""
        ...


class TopicLike(Protocol):
    """A part of life with several intents."""

    @property
    def key(self) -> str:
        """Unique."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """At least one way to say it inside a sentence."""
        ...

    @property
    def names_test(self) -> tuple[str, ...]:
        """Further ways, by another author, for split ``new_words``; may be empty."""
        ...

    @property
    def intents(self) -> Sequence[IntentLike]:
        """In a fixed order."""
        ...


@dataclass(frozen=True, slots=True)
class PlainIntent:
    """An intent from a data set."""

    name: str
    hint: str
    train: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlainTopic:
    """A topic from a data set."""

    key: str
    names: tuple[str, ...]
    intents: tuple[PlainIntent, ...]
    names_test: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TopicTable:
    """How a data set's intents are grouped.

    Attributes:
        names: topic -> ways to say it inside a sentence.
        topic_of: intent -> topic; an intent that is missing is left out.
    """

    names: Mapping[str, tuple[str, ...]]
    topic_of: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Utterance:
    """One row of a data set."""

    intent: str
    text: str
    part: Part


def shipped_table(name: str) -> TopicTable:
    """The grouping of a known data set, from ``tables/<name>.yaml``."""
    file = resources.files("sglora_fed.tasks").joinpath("tables", f"{name}.yaml")
    return parse_table(file.read_text("utf-8"))


def parse_table(text: str) -> TopicTable:
    """A grouping from YAML: topic -> ``names`` and ``intents``."""
    raw = yaml.safe_load(text)
    return TopicTable(
        {topic: tuple(entry["names"]) for topic, entry in raw.items()},
        {intent: topic for topic, entry in raw.items() for intent in entry["intents"]},
    )


def plain_topics(rows: Iterable[Utterance], table: TopicTable) -> list[PlainTopic]:
    """Group a data set's rows; topics and intents in the table's order.

    A text stands once: the first row keeps it, and training comes before test, so that no test
    utterance is known from training (apart from case and punctuation). Intents that have no text
    left in a part are left out, and so are topics with one intent.

    Args:
        rows: of both parts.
        table: what belongs together.
    """
    found: dict[str, dict[Part, list[str]]] = defaultdict(lambda: {"train": [], "test": []})
    seen: set[str] = set()
    for row in sorted(rows, key=lambda row: row.part == "test"):
        words = " ".join(re.findall(r"\w+", row.text.lower()))
        if words and words not in seen:
            seen.add(words)
            found[row.intent][row.part].append(row.text.strip())
    topics = [
        PlainTopic(topic, names, tuple(_plain_intents(topic, table, found)))
        for topic, names in table.names.items()
    ]
    return [topic for topic in topics if len(topic.intents) > 1]


def _plain_intents(
    topic: str, table: TopicTable, found: Mapping[str, Mapping[Part, Sequence[str]]]
) -> Iterable[PlainIntent]:
    for intent in (i for i, owner in table.topic_of.items() if owner == topic and i in found):
        train, test = found[intent]["train"], found[intent]["test"]
        if train and test:
            name = _spoken(intent)
            yield PlainIntent(name, name, tuple(train), tuple(test))


def _spoken(intent: str) -> str:
    """``Refund_not_showing_up?`` as ``refund not showing up``."""
    return " ".join(re.findall(r"[^\W_]+", intent.lower()))


def draw_utterances(
    intents: Sequence[IntentLike], part: Part, count: int, rng: np.random.Generator
) -> list[str]:
    """Distinct utterances, as evenly from the intents as their numbers allow.

    Args:
        intents: to draw from.
        part: of the utterances.
        count: wanted; all there are when there are fewer.
        rng: source of the order.
    """
    pools = [list(rng.permutation(np.array(getattr(i, part), object))) for i in intents]
    order = list(rng.permutation(len(pools)))
    drawn: list[str] = []
    while len(drawn) < count and any(pools):
        for index in order:
            if pools[index] and len(drawn) < count:
                drawn.append(str(pools[index].pop()))
    return drawn
