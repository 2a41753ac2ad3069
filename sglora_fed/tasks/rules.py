"""Personal rules: two or three private label words whose meaning only the description tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sglora_fed.errors import TaskError
from sglora_fed.seeds import derive_seed
from sglora_fed.tasks.phrases import phrases
from sglora_fed.tasks.topics import IntentLike, Part, TopicLike, draw_utterances
from sglora_fed.tasks.types import Example, Hint, Role, Task
from sglora_fed.tasks.wording import (
    EXCEPTION_FRAMES,
    PRIORITY_FRAMES,
    SET_FRAMES,
    UNSEEN,
    as_noun,
    as_sentence,
    join_names,
)

Form = Literal["set", "exception", "priority"]

FRAMES: Mapping[Form, tuple[str, ...]] = {
    "set": SET_FRAMES,
    "exception": EXCEPTION_FRAMES,
    "priority": PRIORITY_FRAMES,
}

WORDS: Mapping[int, tuple[str, ...]] = {
    2: ("important", "other"),
    3: ("now", "later", "never"),
}
"""Number of labels -> private label words. All users share them, with contradictory rules."""


@dataclass(frozen=True)
class Rule:
    """What one user wants.

    Attributes:
        form: ``set`` (some topics), ``exception`` (some topics without one intent) or
            ``priority`` (some topics, then others).
        first: topics of the first label.
        second: topics of the second label (``priority`` only).
        others: topics that may occur and belong to the last label.
        excluded: number of the intent left out of ``first[0]`` (``exception`` only).

    Raises:
        TaskError: when a topic is on two sides or a side is empty.
    """

    form: Form
    first: tuple[TopicLike, ...]
    others: tuple[TopicLike, ...]
    second: tuple[TopicLike, ...] = ()
    excluded: int = 0

    def __post_init__(self) -> None:
        keys = [topic.key for topic in (*self.first, *self.second, *self.others)]
        if len(set(keys)) < len(keys) or not self.first or not self.others:
            raise TaskError(f"a rule over {keys}: each side needs topics, each topic one side")
        if (self.form == "priority") != bool(self.second):
            raise TaskError(f"rule of form {self.form!r} with {len(self.second)} second topics")


def rule_task(
    task_id: str,
    rule: Rule,
    role: Role,
    split: str,
    sizes: dict[Part, int],
    seed: int,
    several_ways: bool = False,
) -> Task:
    """A task for one rule, with the same number of examples of each label.

    Args:
        task_id: unique in the family.
        rule: what the user wants.
        role: of the task.
        split: of the task.
        sizes: examples in all for each part; fewer when a label has fewer utterances.
        seed: of the family.
        several_ways: the user's words say every topic in every way; all else stays as it is.
    """
    rng = np.random.default_rng(derive_seed(seed, "rule", task_id))
    count = 3 if rule.form == "priority" else 2
    words = WORDS[count]
    keys = [f"l{number}" for number in range(count)]
    sentences, mentioned = rule_wordings(rule, words, rng)
    hints = _every_way(rule) if several_ways else mentioned
    return Task(
        id=task_id,
        description=sentences[0],
        labels=dict(zip(keys, words, strict=True)),
        train=_examples(rule, keys, "train", sizes["train"], rng),
        test=_examples(rule, keys, "test", sizes["test"], rng),
        role=role,
        split=split,
        paraphrases=sentences[1:],
        hints=dict(zip(keys, hints, strict=True)),
    )


def rule_wordings(
    rule: Rule, words: Sequence[str], rng: np.random.Generator, unseen: bool = False
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A description and paraphrases, each with a frame of its own, and the words per label.

    Args:
        rule: to be told.
        words: the private label words.
        rng: chooses frames, names and their order.
        unseen: use the frames and topic names that no training task shows.

    Returns:
        Six sentences (four when unseen), and for each label what the client says about it.
    """
    frames = FRAMES[rule.form][-UNSEEN:] if unseen else FRAMES[rule.form][:-UNSEEN]
    order = rng.permutation(len(frames))[:6]
    sentences = []
    for index in order:
        values = dict(zip("abc", words, strict=False)) | _spoken(rule, rng, unseen)
        sentences.append(as_sentence(frames[index].format(**values)))
    return tuple(sentences), _hints(rule, rng)


def _spoken(rule: Rule, rng: np.random.Generator, unseen: bool) -> dict[str, str]:
    first = _named(rule.first, rng, unseen)
    if rule.form == "exception":
        return {"x": first, "y": _excluded(rule)}
    return {"x": first, "y": _named(rule.second, rng, unseen)}


def _named(topics: Sequence[TopicLike], rng: np.random.Generator, unseen: bool) -> str:
    chosen = [topics[i] for i in rng.permutation(len(topics))]
    options = [(topic.names_test if unseen else ()) or topic.names for topic in chosen]
    return join_names([names[int(rng.integers(len(names)))] for names in options])


def _hints(rule: Rule, rng: np.random.Generator) -> tuple[str, ...]:
    sides = _spoken(rule, rng, unseen=False)
    if rule.form == "set":
        return sides["x"], "everything else"
    if rule.form == "exception":
        return sides["x"], f"{sides['y']} and everything else"
    return sides["x"], sides["y"], "everything else"


def _every_way(rule: Rule) -> tuple[Hint, ...]:
    first, second = _every_name(rule.first), _every_name(rule.second)
    if rule.form == "set":
        return first, "everything else"
    if rule.form == "exception":
        return first, (*phrases(_excluded(rule)), "everything else")
    return first, second, "everything else"


def _every_name(topics: Sequence[TopicLike]) -> tuple[str, ...]:
    names = [name for topic in topics for name in topic.names]
    return tuple(dict.fromkeys(thing for name in names for thing in phrases(name)))


def _excluded(rule: Rule) -> str:
    return as_noun(rule.first[0].intents[rule.excluded].name)


def _examples(
    rule: Rule, keys: Sequence[str], part: Part, size: int, rng: np.random.Generator
) -> tuple[Example, ...]:
    each = max(1, size // len(keys))
    sides: list[list[str]] = [draw_utterances(_intents(rule), part, each, rng)]
    if rule.second:
        intents = [intent for topic in rule.second for intent in topic.intents]
        sides.append(draw_utterances(intents, part, each, rng))
    sides.append(_rest(rule, part, each, rng))
    each = min(map(len, sides))
    return tuple(
        Example(text, key) for key, texts in zip(keys, sides, strict=True) for text in texts[:each]
    )


def _intents(rule: Rule) -> list[IntentLike]:
    """Intents of the first label; an exception's own intent is left out."""
    left_out = rule.first[0].intents[rule.excluded] if rule.form == "exception" else None
    return [i for topic in rule.first for i in topic.intents if i is not left_out]


def _rest(rule: Rule, part: Part, count: int, rng: np.random.Generator) -> list[str]:
    """Utterances of the last label; for an exception a quarter are the exception."""
    special: list[str] = []
    if rule.form == "exception":
        excluded = rule.first[0].intents[rule.excluded]
        special = draw_utterances([excluded], part, count // 4, rng)
    intents = [intent for topic in rule.others for intent in topic.intents]
    return special + draw_utterances(intents, part, count - len(special), rng)
