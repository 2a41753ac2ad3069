"""Which words were in the description? A bag of words from a release, beside no release at all."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sglora_fed.errors import AttackError

WORD = re.compile(r"[\w']+")

PENALTIES = (1.0, 10.0, 100.0, 1e3, 1e4, 1e6)
"""Of the decoder, in units of the mean squared feature; what releases it learns from decide."""


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

    A linear decoder scores every word, with the ridge penalty that is best on a fifth of what it
    learns from; the baseline scores words by how many descriptions have them.

    Args:
        values: [n, f] features of releases.
        bags: [n, w] bool.
        learnt_from: releases to learn from, two or more and fewer than n.

    Raises:
        AttackError: for arrays that do not belong together, NaN or infinity.
    """
    if values.ndim != 2 or not np.isfinite(values).all():
        raise AttackError(f"values of shape {values.shape}; need finite numbers (n, f)")
    if bags.ndim != 2 or bags.dtype != bool or len(bags) != len(values):
        raise AttackError(f"bags {bags.dtype} {bags.shape} for values {values.shape}; need bool")
    if not 1 < learnt_from < len(bags):
        raise AttackError(f"learnt_from={learnt_from!r} of {len(bags)} releases; need fewer")
    fitted = learnt_from - max(learnt_from // 5, 1)
    penalty = max(
        PENALTIES, key=lambda one: _quality(values[:learnt_from], bags[:learnt_from], fitted, one)
    )
    frequency = bags[:learnt_from].mean(axis=0)
    scores = _scores(values, bags, learnt_from, penalty)
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


def _scores(values: np.ndarray, bags: np.ndarray, count: int, penalty: float) -> np.ndarray:
    """[n - count, w] of the words of later rows, learnt from the first ``count``."""
    frequency, centre = bags[:count].mean(axis=0), values[:count].mean(axis=0)
    left = values[:count] - centre
    size = penalty * max(float(np.square(left).mean()), 1e-12)
    gram = left.T @ left + size * np.eye(left.shape[1])
    weights = np.linalg.solve(gram, left.T @ (bags[:count] - frequency))
    return np.asarray((values[count:] - centre) @ weights + frequency)


def _quality(values: np.ndarray, bags: np.ndarray, count: int, penalty: float) -> float:
    hidden = bags[count:]
    usable = hidden.any(axis=1)
    found = _recovered(_scores(values, bags, count, penalty)[usable], hidden[usable])
    return float(found.mean()) if len(found) else 0.0


def _recovered(scores: np.ndarray, bags: np.ndarray) -> np.ndarray:
    """For each row the share of its words among as many best scores, [n]."""
    order = np.argsort(-scores, axis=1, kind="stable")
    sizes = bags.sum(axis=1)
    hits = np.take_along_axis(bags, order, axis=1)
    first = np.arange(bags.shape[1]) < sizes[:, None]
    return np.asarray((hits & first).sum(axis=1) / sizes)
