"""A description's embedding: its sentence, its phrases, and its words without their context."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np

from sglora_fed.tasks.phrases import phrases

PHRASES = 4
"""How much the mean of the phrases weighs beside the sentence.

The sentence says in what order things come and how they are put; what they are is in its phrases.
"""

WORDS = 2
"""How much the words weigh beside sentence and phrases together.

A model of sentences brings together what is alike, and left is like right. Its table of words still
holds them apart, whoever uses them.
"""

ENCODING = f"{PHRASES}phrases+{WORDS}words"
"""Part of a describer's id: who weighs otherwise makes other numbers."""

Encode = Callable[[Sequence[str]], np.ndarray]
"""[m, dim] float32 unit rows of m texts."""


def described(texts: Sequence[str], sentences: Encode, words: Encode) -> np.ndarray:
    """[n, dim] float32 unit rows: sentence and phrases as one direction, and the words' direction.

    A description is a list of wishes in a sentence. The mean of its phrases is additive in what
    they name, which a linear generator follows further than the sentence alone
    (``docs/decisions/0007-phrases.md``), and the mean of its words is what another author's
    sentences share with the experts' (``docs/decisions/0015-another-author.md``).

    Args:
        texts: n of them.
        sentences: embeds texts in context.
        words: embeds texts as :func:`bag` of their words.
    """
    whole = sentences(texts)
    parts = [phrases(text) for text in texts]
    owners = np.repeat(np.arange(len(parts)), [len(some) for some in parts])
    # Whoever wishes often, or the same as others, says many phrases again.
    numbers = {part: number for number, part in enumerate(dict.fromkeys(chain(*parts)))}
    rows = sentences(list(numbers))
    sums = np.zeros_like(whole)
    np.add.at(sums, owners, rows[[numbers[part] for part in chain(*parts)]])
    counts = np.array([[len(some)] for some in parts], np.float32).reshape(-1, 1)
    return unit(unit(whole + PHRASES * sums / counts) + WORDS * words(texts))


def bag(pieces: Sequence[np.ndarray], dim: int) -> np.ndarray:
    """[n, dim] float32 unit rows: the mean direction of each text's different word pieces.

    Args:
        pieces: of each text, [m, dim] rows of the table of word embeddings, m at least 1.
        dim: of the table.
    """
    means = [unit(rows).mean(axis=0) for rows in pieces]
    return unit(np.stack(means)) if means else np.empty((0, dim), np.float32)


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1."""
    made: np.ndarray = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return made
