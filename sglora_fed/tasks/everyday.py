"""What "everything else" stands for: topics of everyday life, the same for everybody."""

from __future__ import annotations

import re

EVERYTHING_ELSE = frozenset(
    {"everything else", "anything else", "something else", "all else", "all others", "the rest"}
)
"""Phrases of a client's words that mean whatever no other label names."""

EVERYDAY_TOPICS = (
    "arts", "culture", "conflict", "war", "peace", "crime", "law", "justice", "disaster",
    "accident", "emergency incident", "economy", "business", "finance", "education", "environment",
    "human interest", "labour", "lifestyle", "leisure", "politics", "government", "religion",
    "science", "technology", "society",
)  # fmt: skip
"""What the news is sorted by: the first level of IPTC Media Topics, cut at commas and at "and".

It was made for no family of this project. Five of its headings are left out, because a topic of
the embedded family is called so: entertainment, health, media, sport, weather.
"""


def means_the_rest(phrase: str) -> bool:
    """Whether a phrase names nothing but what is left over."""
    words = re.findall(r"\w+", phrase.lower())
    return " ".join(words) in EVERYTHING_ELSE
