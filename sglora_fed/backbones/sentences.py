"""A description's embedding: the sentence as a whole plus the mean of its phrases, four times."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sglora_fed.tasks.phrases import phrases

PHRASES = 4
"""How much the mean of the phrases weighs beside the sentence.

The sentence says in what order things come and how they are put; what they are is in its phrases.
"""


def described(texts: Sequence[str], sentences: Callable[[Sequence[str]], np.ndarray]) -> np.ndarray:
    """[n, dim] float32 unit rows: each text as a whole plus ``PHRASES`` times its phrases' mean.

    A description is a list of wishes in a sentence. The mean of its phrases is additive in what
    they name, which a linear generator follows further than the sentence alone
    (``docs/decisions/0007-phrases.md``). For a text of one phrase both are the same.

    Args:
        texts: n of them.
        sentences: makes [m, dim] float32 unit rows of m texts.
    """
    whole = sentences(texts)
    parts = [phrases(text) for text in texts]
    owners = np.repeat(np.arange(len(parts)), [len(some) for some in parts])
    sums = np.zeros_like(whole)
    np.add.at(sums, owners, sentences([part for some in parts for part in some]))
    counts = np.array([[len(some)] for some in parts], np.float32).reshape(-1, 1)
    made = whole + PHRASES * sums / counts
    rows: np.ndarray = made / np.linalg.norm(made, axis=1, keepdims=True)
    return rows
