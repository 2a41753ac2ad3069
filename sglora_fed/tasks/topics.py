"""What rules and styles are built over: topics with intents, whatever their source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

Part = Literal["train", "test"]


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
    """A part of life with several intents; ``names`` are ways to say it inside a sentence."""

    @property
    def key(self) -> str:
        """Unique."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """At least one."""
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
