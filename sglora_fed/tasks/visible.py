"""Whether a text shows anything to whoever reads it."""

from __future__ import annotations

import unicodedata

BLANKS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and symbols by their class that are drawn as nothing: Hangul fillers, blank Braille."""


def is_visible(text: str) -> bool:
    """Whether a text holds a letter, digit, mark of punctuation or symbol.

    Spaces, controls, zero-width and unassigned characters show nothing, and combining marks have
    nothing to stand on alone (Unicode 16, chapter 4.5: general categories Z, C and M).
    """
    return any(unicodedata.category(c)[0] in "LNPS" and c not in BLANKS for c in text)
