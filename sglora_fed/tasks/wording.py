"""How people say a personal rule or name a writing style: authored sentence frames.

``{a}``, ``{b}``, ``{c}`` are the private label words, ``{x}`` and ``{y}`` lists of topics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sglora_fed.tasks.topics import TopicLike


@dataclass(frozen=True)
class Author:
    """One person's way to write descriptions.

    Attributes:
        rules: form of a rule -> sentence frames.
        styles: sentence frames for writing styles, with ``{topic}`` and ``{habit}``.
        habits: writing style -> how its user puts it.
        rest: what the last label of a rule is called.
        names: ways to say a topic inside a sentence, at least one.
    """

    rules: Mapping[str, tuple[str, ...]]
    styles: tuple[str, ...]
    habits: Mapping[str, tuple[str, ...]]
    rest: tuple[str, ...]
    names: Callable[[TopicLike], tuple[str, ...]]


SET_FRAMES = (
    "Mark as {a} anything about {x}; everything else is {b}.",
    "{x}: that is {a} to me. All the rest is {b}.",
    "If it has to do with {x}, call it {a}, otherwise {b}.",
    "i only care about {x}, so tag those {a} and the others {b}",
    "Please file messages on {x} under {a}. Anything different goes to {b}.",
    "Could you treat whatever concerns {x} as {a}? The remainder counts as {b}.",
    "{a} = {x}. {b} = everything else.",
    "Whenever I talk about {x} that's {a}, and if it's something else that's {b}.",
    "Sort my requests: {x} belong in {a}, all other things in {b}.",
    "for me {x} are {a}, everything apart from that is just {b}",
    "Keep {x} in the {a} pile, put what is left in the {b} pile.",
    "My rule is simple, {x} mean {a} and any other subject means {b}.",
    "Use {a} for {x}; use {b} when it is about anything else.",
    "label it {a} when it's on {x}, label it {b} when it isn't",
)

EXCEPTION_FRAMES = (
    "Mark as {a} anything about {x}, except {y}; that and everything else is {b}.",
    "{x} are {a} to me, but not {y}. All the rest is {b}.",
    "If it has to do with {x}, call it {a}, unless it is about {y}, then {b} like everything else.",
    "tag {x} as {a}, leave out {y} though, that one is {b} like the others",
    "Please file messages on {x} under {a}, apart from {y}. Anything different goes to {b}.",
    "{a} = {x} without {y}. {b} = everything else.",
    "Whenever I talk about {x} that's {a}, only {y} is {b}, same as all other subjects.",
    "Sort my requests: {x} belong in {a}, with the exception of {y}; other things in {b}.",
    "Use {a} for {x}, but skip {y}. Use {b} for that and for anything else.",
    "for me {x} are {a}, just not when it's about {y}, then it's {b} as usual",
)

PRIORITY_FRAMES = (
    "Mark as {a} anything about {x}, as {b} anything about {y}; everything else is {c}.",
    "First {x}, that is {a}. Then {y}, that is {b}. All the rest is {c}.",
    "If it has to do with {x}, call it {a}; with {y}, call it {b}; otherwise {c}.",
    "tag {x} as {a}, {y} as {b} and all the others {c}",
    "Please file messages on {x} under {a} and those on {y} under {b}. The rest goes to {c}.",
    "{a} = {x}. {b} = {y}. {c} = everything else.",
    "Whenever I talk about {x} that's {a}, {y} would be {b}, and something else is {c}.",
    "Sort my requests: put {x} in {a}, {y} in {b}, all other things in {c}.",
    "Use {a} for {x}; {b} for {y}; {c} when it is about anything else.",
    "i want {a} for {x}, {b} for {y} and just {c} for everything apart from that",
)

STYLE_FRAMES = (
    "Sort what I say about {topic} by what I want; {habit}.",
    "My messages are on {topic} and {habit}. Tell me which request each one is.",
    "{habit}, so please read me right when it comes to {topic}",
    "Find out what I need regarding {topic}. Be warned, {habit}.",
    "requests on {topic}, which one is it? {habit}",
    "I talk to you about {topic}; note that {habit}.",
    "You help me with {topic}. Keep in mind that {habit}.",
    "It is all about {topic}: recognise the request although {habit}.",
)

HABITS: dict[str, tuple[str, ...]] = {
    "no_vowels": (
        "I leave out the vowels",
        "my texts have no vowels in them",
        "I write little but consonants",
    ),
    "leetspeak": (
        "I use numbers in place of letters",
        "I write in leetspeak",
        "some of my letters are digits that look alike",
    ),
    "swapped_letters": (
        "I often swap two neighbouring letters",
        "two letters inside my words change places",
        "I mix up the order of letters when I type fast",
    ),
    "pig_latin": (
        "I write in pig latin",
        "I move the start of each word to its end and add ay",
        "my words are in that children's language, pig latin",
    ),
    "doubled_vowels": (
        "I stretch my vowels",
        "the last vowel of my words comes twice",
        "I write vowels double",
    ),
    "phonetic": (
        "I spell the way it sounds",
        "my spelling is phonetic",
        "I write words as I hear them",
    ),
    "missing_letters": (
        "letters are missing in my words",
        "my keyboard drops a letter near the end of words",
        "I lose letters while typing",
    ),
    "glued_words": (
        "I forget most spaces between words",
        "my words are glued together in pairs",
        "the space bar works only every second time",
    ),
    "doubled_consonants": (
        "the last consonant of my words comes twice",
        "I double consonants",
        "my keyboard types the last consonant of a word again",
    ),
    "clipped_words": (
        "I cut long words short",
        "I write just the first few letters of a word",
        "my words end after four letters",
    ),
}
"""Writing style -> how its user would put it."""

AUTHOR = Author(
    rules={"set": SET_FRAMES, "exception": EXCEPTION_FRAMES, "priority": PRIORITY_FRAMES},
    styles=STYLE_FRAMES,
    habits=HABITS,
    rest=("everything else",),
    names=lambda topic: topic.names,
)
"""Whose words the experts use, and the clients of every split but ``new_words``."""


GERUNDS: dict[str, str] = {
    "accept": "accepting", "activate": "activating", "ask": "asking", "block": "blocking",
    "book": "booking", "buy": "buying", "cancel": "cancelling", "change": "changing",
    "check": "checking", "claim": "claiming", "compare": "comparing", "confirm": "confirming",
    "convert": "converting", "describe": "describing", "dispute": "disputing",
    "edit": "editing", "explain": "explaining", "feed": "feeding", "find": "finding",
    "flip": "flipping", "freeze": "freezing", "get": "getting", "improve": "improving",
    "make": "making", "manage": "managing", "message": "messaging", "pay": "paying",
    "phone": "phoning", "play": "playing", "practise": "practising", "redeem": "redeeming",
    "replace": "replacing", "report": "reporting", "reset": "resetting", "return": "returning",
    "revise": "revising", "roll": "rolling", "schedule": "scheduling", "send": "sending",
    "share": "sharing", "sync": "syncing", "take": "taking", "tell": "telling",
    "terminate": "terminating", "track": "tracking", "train": "training",
    "transfer": "transferring", "translate": "translating", "verify": "verifying",
    "walk": "walking", "watch": "watching", "work": "working", "write": "writing",
}  # fmt: skip
"""Verbs that begin an intent's name -> the form that stands where a noun does."""


def join_names(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``.

    When a name holds an ``and`` itself: ``a as well as b``, ``a, b, and c``.
    """
    if len(names) < 2:
        return "".join(names)
    last = " and"
    if any(" and " in name for name in names):
        last = " as well as" if len(names) == 2 else ", and"
    return f"{', '.join(names[:-1])}{last} {names[-1]}"


def as_sentence(text: str) -> str:
    """With a capital letter when it ends with a full stop; a note typed in haste stays as it is."""
    return text[0].upper() + text[1:] if text.endswith(".") else text


def as_noun(name: str) -> str:
    """An intent's name where a sentence needs a noun: ``book a flight`` as ``booking a flight``.

    A second verb after ``and`` or ``or`` changes with the first; other names stay as they are.
    """
    words = name.split()
    if words[0] not in GERUNDS or len(words) == 1:
        return name
    previous = ["or", *words[:-1]]
    return " ".join(
        GERUNDS.get(word, word) if before in ("and", "or") else word
        for before, word in zip(previous, words, strict=True)
    )
