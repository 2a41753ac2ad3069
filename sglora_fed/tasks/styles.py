"""Writing styles: deterministic changes of spelling, and tasks over them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from sglora_fed.seeds import derive_seed
from sglora_fed.tasks.topics import IntentLike, Part, Slot, TopicLike, draw_utterances
from sglora_fed.tasks.types import Example, Task
from sglora_fed.tasks.wording import AUTHOR, Author, as_sentence

MOST_LABELS = 10
"""A topic with more intents gives a task over this many of them, drawn per task."""

_LEET = str.maketrans("eoi", "301")
_SOUNDS = (
    ("ough", "uff"), ("tion", "shun"), ("igh", "y"), ("ph", "f"), ("ck", "k"), ("qu", "kw"),
    ("wh", "w"), ("kn", "n"), ("wr", "r"), ("ee", "ea"), ("ce", "se"), ("ci", "si"), ("ch", "tsh"),
    ("x", "ks"), ("c", "k"), ("oo", "u"), ("ai", "ay"), ("th", "d"),
)  # fmt: skip


def no_vowels(text: str) -> str:
    """Vowels after a word's first letter go."""
    return _per_word(text, lambda word: word[:1] + re.sub("[aeiou]", "", word[1:]))


def leetspeak(text: str) -> str:
    """Digits for the letters they look like."""
    return text.lower().translate(_LEET)


def swapped_letters(text: str) -> str:
    """Two neighbouring letters in the middle of a word change places."""
    return _per_word(text, _swap)


def pig_latin(text: str) -> str:
    """Leading consonants go to the end, then ``ay``."""
    return _per_word(text, lambda word: re.sub("^([^aeiou]*)(.*)$", r"\2\1ay", word))


def doubled_vowels(text: str) -> str:
    """Each word's last vowel twice."""
    return _per_word(text, lambda word: re.sub("([aeiou])([^aeiou]*)$", r"\1\1\2", word))


def doubled_consonants(text: str) -> str:
    """Each word's last consonant twice."""
    return _per_word(text, lambda word: re.sub("([^aeiou'])([aeiou']*)$", r"\1\1\2", word))


def phonetic(text: str) -> str:
    """As it sounds."""
    return _per_word(text, _sound)


def missing_letters(text: str) -> str:
    """The letter before the last is lost from words of four letters and more."""
    return _per_word(text, lambda word: word if len(word) < 4 else word[:-2] + word[-1])


def glued_words(text: str) -> str:
    """Every second space is lost."""
    words = text.lower().split()
    return " ".join("".join(words[i : i + 2]) for i in range(0, len(words), 2))


def clipped_words(text: str) -> str:
    """Words end after four letters."""
    return _per_word(text, lambda word: word[:4])


def _per_word(text: str, change: Callable[[str], str]) -> str:
    return re.sub("[a-z']+", lambda found: change(found[0]), text.lower())


def _swap(word: str) -> str:
    if len(word) < 4:
        return word
    middle = len(word) // 2
    return word[: middle - 1] + word[middle] + word[middle - 1] + word[middle + 1 :]


def _sound(word: str) -> str:
    for written, spoken in _SOUNDS:
        word = word.replace(written, spoken)
    return word[:-1] if len(word) > 3 and word.endswith("e") else word


STYLES: MappingProxyType[str, Callable[[str], str]] = MappingProxyType(
    {
        "no_vowels": no_vowels,
        "leetspeak": leetspeak,
        "swapped_letters": swapped_letters,
        "pig_latin": pig_latin,
        "doubled_vowels": doubled_vowels,
        "phonetic": phonetic,
        "missing_letters": missing_letters,
        "glued_words": glued_words,
        "doubled_consonants": doubled_consonants,
        "clipped_words": clipped_words,
    }
)
"""Style -> what it does to a text."""


def style_task(topic: TopicLike, style: str, slot: Slot) -> Task:
    """A topic's intents typed in one style; the labels are the intents' names in plain English.

    Args:
        topic: whose intents are told apart.
        style: a key of :data:`STYLES`.
        slot: of the task.
    """
    rng = np.random.default_rng(derive_seed(slot.seed, "style", slot.id))
    intents = _label_intents(topic, rng)
    labels = {f"i{index}": intent.name for index, intent in enumerate(intents)}
    # A list, since what a person says of an intent is no list of topics.
    hints = {f"i{index}": _said(intent, style) for index, intent in enumerate(intents)}
    examples: dict[Part, tuple[Example, ...]] = {}
    for part, size in slot.sizes.items():
        each = -(-size // len(labels))
        examples[part] = tuple(
            Example(STYLES[style](text), key)
            for key, intent in zip(labels, intents, strict=True)
            for text in draw_utterances([intent], part, each, rng)
        )
    words = style_wordings(topic, style, rng)
    return Task(
        id=slot.id,
        description=words[0],
        labels=labels,
        train=examples["train"],
        test=examples["test"],
        role=slot.role,
        split=slot.split,
        paraphrases=words[1:],
        hints=hints,
    )


def _said(intent: IntentLike, style: str) -> tuple[str, ...]:
    """The name, since the words stand in for the label, and what a person says beside it.

    Who has nothing more to say than the name says it in plain English and as it is typed.
    """
    if intent.hint != intent.name:
        return (f"{intent.name}: {intent.hint}",)
    return tuple(dict.fromkeys((intent.name, STYLES[style](intent.name))))


def _label_intents(topic: TopicLike, rng: np.random.Generator) -> list[IntentLike]:
    if len(topic.intents) <= MOST_LABELS:
        return list(topic.intents)
    return [topic.intents[i] for i in sorted(rng.permutation(len(topic.intents))[:MOST_LABELS])]


def reworded_style(task: Task, topic: TopicLike, style: str, author: Author, slot: Slot) -> Task:
    """A task with the same topic, style, labels and examples, described by somebody else.

    Args:
        task: of the topic and the style.
        topic: whose intents are told apart.
        style: a key of :data:`STYLES`.
        author: whose words it gets.
        slot: of the new task.
    """
    rng = np.random.default_rng(derive_seed(slot.seed, "style", slot.id))
    words = style_wordings(topic, style, rng, author)
    return replace(task, id=slot.id, split=slot.split, description=words[0], paraphrases=words[1:])


def style_wordings(
    topic: TopicLike, style: str, rng: np.random.Generator, author: Author = AUTHOR
) -> tuple[str, ...]:
    """A description and paraphrases, each with a frame of its own.

    Args:
        topic: that the texts are about.
        style: a key of :data:`STYLES`.
        rng: chooses frames, names and how the style is called.
        author: whose frames and names.

    Returns:
        Six sentences.
    """
    names, habits = author.names(topic), author.habits[style]
    chosen = rng.choice(len(author.styles), size=6, replace=False)
    found = []
    for number, index in enumerate(chosen):
        name = names[int(rng.integers(len(names)))]
        habit = habits[(number + int(rng.integers(2))) % len(habits)]
        found.append(as_sentence(author.styles[index].format(topic=name, habit=habit)))
    return tuple(found)
