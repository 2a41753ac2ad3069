"""Which words were in the description? A bag of words from a release, beside no release at all."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sglora_fed.errors import AttackError

WORD = re.compile(r"[\w']+")

RIDGE = 1.0
"""Penalty of the decoder, in units of the mean squared feature."""


@dataclass(frozen=True)
class Inversion:
    """How many of a description's words were named, for as many guesses as it has words.

    Attributes:
        trials: descriptions, n.
        words: in the vocabulary.
        recovered: mean share of a description's words that were named from its release.
        prior_only: the same without the release: the most frequent words.
        gain: mean of the difference, paired.
        gain_error: its standard error.
    """

    trials: int
    words: int
    recovered: float
    prior_only: float
    gain: float
    gain_error: float


def bag_of_words(descriptions: Sequence[str], least: int = 2) -> tuple[np.ndarray, list[str]]:
    """Which description has which word.

    Args:
        descriptions: n sentences.
        least: descriptions that have a word of the vocabulary.

    Returns:
        [n, w] bool and the w words.

    Raises:
        AttackError: when no word is frequent enough.
    """
    split = [set(WORD.findall(text.lower())) for text in descriptions]
    counts = Counter(word for words in split for word in words)
    vocabulary = sorted(word for word, count in counts.items() if count >= least)
    if not vocabulary:
        raise AttackError(f"no word is in {least} of {len(split)} descriptions")
    return np.array([[word in words for word in vocabulary] for words in split]), vocabulary


def invert(values: np.ndarray, bags: np.ndarray, learnt_from: int) -> Inversion:
    """Learn words from releases, and name those of descriptions that were not learnt from.

    A linear decoder with a ridge penalty scores every word; the baseline scores words by how many
    descriptions have them.

    Args:
        values: [n, f] features of releases.
        bags: [n, w] bool.
        learnt_from: releases to learn from, fewer than n.

    Raises:
        AttackError: for arrays that do not belong together, NaN or infinity.
    """
    if values.ndim != 2 or not np.isfinite(values).all():
        raise AttackError(f"values of shape {values.shape}; need finite numbers (n, f)")
    if bags.ndim != 2 or bags.dtype != bool or len(bags) != len(values):
        raise AttackError(f"bags {bags.dtype} {bags.shape} for values {values.shape}; need bool")
    if not 0 < learnt_from < len(bags):
        raise AttackError(f"learnt_from={learnt_from!r} of {len(bags)} releases; need fewer")
    known, frequency = bags[:learnt_from].astype(float), bags[:learnt_from].mean(axis=0)
    centre = values[:learnt_from].mean(axis=0)
    left = values[:learnt_from] - centre
    gram = left.T @ left + RIDGE * max(np.square(left).mean(), 1e-12) * np.eye(left.shape[1])
    weights = np.linalg.solve(gram, left.T @ (known - frequency))
    scores = (values[learnt_from:] - centre) @ weights + frequency
    hidden = bags[learnt_from:]
    usable = hidden.any(axis=1)
    if not usable.any():
        raise AttackError("no description that is left has a word of the vocabulary")
    hidden = hidden[usable]
    named = _recovered(scores[usable], hidden)
    usual = _recovered(np.broadcast_to(frequency, hidden.shape), hidden)
    gain = named - usual
    error = float(gain.std(ddof=1) / np.sqrt(len(gain))) if len(gain) > 1 else float("inf")
    means = (float(named.mean()), float(usual.mean()), float(gain.mean()))
    return Inversion(len(hidden), bags.shape[1], *means, error)


def _recovered(scores: np.ndarray, bags: np.ndarray) -> np.ndarray:
    """For each row the share of its words among as many best scores, [n]."""
    order = np.argsort(-scores, axis=1, kind="stable")
    sizes = bags.sum(axis=1)
    hits = np.take_along_axis(bags, order, axis=1)
    first = np.arange(bags.shape[1]) < sizes[:, None]
    return np.asarray((hits & first).sum(axis=1) / sizes)
