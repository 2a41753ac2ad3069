"""What "everything else" stands for: topics of everyday life, the same for everybody."""

from __future__ import annotations

import re

EVERYTHING_ELSE = frozenset(
    {"everything else", "anything else", "something else", "all else", "all others", "the rest"}
)
"""Phrases of a client's words that mean whatever no other label names."""

EVERYDAY_TOPICS = (
    "animals", "art", "books", "business", "cars", "children", "computers", "education",
    "family", "fashion", "films", "food", "friends", "games", "gardening", "health",
    "history", "home", "jobs", "law", "money", "music", "nature", "news",
    "politics", "religion", "science", "shopping", "sports", "television", "travel", "weather",
)  # fmt: skip


def means_the_rest(phrase: str) -> bool:
    """Whether a phrase names nothing but what is left over."""
    words = re.findall(r"\w+", phrase.lower())
    return " ".join(words) in EVERYTHING_ELSE
