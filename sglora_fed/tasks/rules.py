"""Personal rules: two or three private label words whose meaning only the description tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from sglora_fed.errors import TaskError
from sglora_fed.seeds import derive_seed
from sglora_fed.tasks.phrases import phrases
from sglora_fed.tasks.topics import IntentLike, Part, Slot, TopicLike, draw_utterances
from sglora_fed.tasks.types import Example, Hint, Task
from sglora_fed.tasks.wording import AUTHOR, Author, as_noun, as_sentence, join_names

Form = Literal["set", "exception", "priority"]

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


def rule_task(rule: Rule, slot: Slot, several_ways: bool = False) -> Task:
    """A task for one rule, with the same number of examples of each label.

    Args:
        rule: what the user wants.
        slot: of the task, which has fewer examples when a label has fewer utterances.
        several_ways: the user's words say every topic in every way; all else stays as it is.
    """
    rng = np.random.default_rng(derive_seed(slot.seed, "rule", slot.id))
    count = 3 if rule.form == "priority" else 2
    words = WORDS[count]
    keys = [f"l{number}" for number in range(count)]
    sentences, hints = rule_wordings(rule, words, rng, several_ways=several_ways)
    return Task(
        id=slot.id,
        description=sentences[0],
        labels=dict(zip(keys, words, strict=True)),
        train=_examples(rule, keys, "train", slot.sizes["train"], rng),
        test=_examples(rule, keys, "test", slot.sizes["test"], rng),
        role=slot.role,
        split=slot.split,
        paraphrases=sentences[1:],
        hints=dict(zip(keys, hints, strict=True)),
    )


def reworded_rule(
    task: Task,
    rule: Rule,
    author: Author,
    slot: Slot,
    several_ways: bool = False,
) -> Task:
    """A task with the same rule, labels and examples in somebody else's words.

    Args:
        task: of the rule.
        rule: what the user wants.
        author: whose words it gets.
        slot: of the new task.
        several_ways: the user's words say every topic in every way.
    """
    rng = np.random.default_rng(derive_seed(slot.seed, "rule", slot.id))
    words = tuple(task.labels.values())
    sentences, hints = rule_wordings(rule, words, rng, author, several_ways)
    return replace(
        task,
        id=slot.id,
        split=slot.split,
        description=sentences[0],
        paraphrases=sentences[1:],
        hints=dict(zip(task.labels, hints, strict=True)),
    )


def rule_wordings(
    rule: Rule,
    words: Sequence[str],
    rng: np.random.Generator,
    author: Author = AUTHOR,
    several_ways: bool = False,
) -> tuple[tuple[str, ...], tuple[Hint, ...]]:
    """A description and paraphrases, each with a frame of its own, and the words per label.

    Args:
        rule: to be told.
        words: the private label words.
        rng: chooses frames, names and their order.
        author: whose frames and names.
        several_ways: the words per label say every topic in every way, not in one.

    Returns:
        Six sentences, and for each label what the client says about it.
    """
    frames = author.rules[rule.form]
    order = rng.permutation(len(frames))[:6]
    sentences = []
    for index in order:
        values = dict(zip("abc", words, strict=False)) | _spoken(rule, author, rng)
        sentences.append(as_sentence(frames[index].format(**values)))
    hints = _hints(rule, author, rng)
    return tuple(sentences), _every_way(rule, author, hints) if several_ways else hints


def _spoken(rule: Rule, author: Author, rng: np.random.Generator) -> dict[str, str]:
    first = _named(rule.first, author, rng)
    if rule.form == "exception":
        return {"x": first, "y": _excluded(rule)}
    return {"x": first, "y": _named(rule.second, author, rng)}


def _named(topics: Sequence[TopicLike], author: Author, rng: np.random.Generator) -> str:
    chosen = [topics[i] for i in rng.permutation(len(topics))]
    options = [author.names(topic) for topic in chosen]
    return join_names([names[int(rng.integers(len(names)))] for names in options])


def _hints(rule: Rule, author: Author, rng: np.random.Generator) -> tuple[str, ...]:
    sides = _spoken(rule, author, rng)
    rest = author.rest[int(rng.integers(len(author.rest)))]
    if rule.form == "set":
        return sides["x"], rest
    if rule.form == "exception":
        return sides["x"], f"{sides['y']} and {rest}"
    return sides["x"], sides["y"], rest


def _every_way(rule: Rule, author: Author, hints: tuple[str, ...]) -> tuple[Hint, ...]:
    """The same words with every topic said in every way, and a list for what is more than one."""
    sides = (rule.first, rule.second) if rule.second else (rule.first,)
    last = phrases(hints[-1])
    every = [_every_name(topics, author) for topics in sides]
    return (*every, last if len(last) > 1 else hints[-1])


def _every_name(topics: Sequence[TopicLike], author: Author) -> tuple[str, ...]:
    names = [name for topic in topics for name in author.names(topic)]
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
