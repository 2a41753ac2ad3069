"""The phrases of a text: what it names, one thing at a time."""

from __future__ import annotations

import re

from sglora_fed.tasks.types import Task

MOST_PHRASES = 32
"""Of one text; what comes after them is left out."""

_WIDE = "\uff0c\u3002\uff1b\uff1a\uff01\uff1f\u3001\u060c\u061b\u061f\u0964"
"""Punctuation of Chinese, Japanese, Arabic and Hindi."""

_BREAKS = (
    r"(?<![,.;:!?])[,.;:!?]+(?=\s|$)",
    r"[,;](?=[^\W\d])",
    rf"[\n{_WIDE}]",
    r"\s=\s",
    r"\s(?:and|or|as well as)\s",
)
_BREAK = re.compile("|".join(_BREAKS), re.IGNORECASE)


def phrases(text: str) -> tuple[str, ...]:
    """A text cut at punctuation and at English conjunctions.

    Args:
        text: such as ``Mark as important anything about travel, banking or work.``

    Returns:
        The parts that hold a letter or a digit; the text as it is when there are not two of them.
    """
    parts = (part.strip() for part in _BREAK.split(text))
    found = tuple(part for part in parts if re.search(r"\w", part))
    return found[:MOST_PHRASES] if len(found) > 1 else (text,)


def said_of(task: Task, key: str) -> tuple[str, ...]:
    """What a client says of a label, one thing at a time: its words, or the label itself."""
    words = task.hints.get(key) or (task.labels[key],)
    return phrases(words) if isinstance(words, str) else words
