"""Spellings made up at random, for adapters that must cope with spellings nobody has shown."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from sglora_fed.seeds import derive_seed
from sglora_fed.tasks.everyday import means_the_rest
from sglora_fed.tasks.phrases import said_of
from sglora_fed.tasks.types import Example, Task

LETTERS = string.ascii_lowercase
SIGNS = LETTERS + string.digits
"""What may stand for a letter."""

FEWEST, MOST = 3, 8
"""Letters that a spelling changes."""

COMMON = "aeio"
"""Letters that are chosen three times as often: without them most words stay as they are."""


def made_up_spelling(rng: np.random.Generator) -> Callable[[str], str]:
    """A function that spells any text in one way of its own.

    Some letters are lost, doubled, or replaced by one sign each, everywhere or after a word's first
    letter; no word is lost. Models trained on enough made-up variants take a real one for another
    variant (Tobin et al. 2017, arXiv 1703.06907).

    Args:
        rng: makes it up.
    """
    weights = np.array([3.0 if letter in COMMON else 1.0 for letter in LETTERS])
    count = int(rng.integers(FEWEST, MOST + 1))
    chosen = rng.choice(len(LETTERS), count, replace=False, p=weights / weights.sum())
    table = str.maketrans({LETTERS[index]: _instead(LETTERS[index], rng) for index in chosen})
    kept = int(rng.integers(2))

    def spelt(found: re.Match[str]) -> str:
        word = found[0]
        return word[:kept] + word[kept:].translate(table) or word

    return lambda text: re.sub(r"\S+", spelt, text.lower())


def _instead(letter: str, rng: np.random.Generator) -> str:
    return ("", 2 * letter, SIGNS[rng.integers(len(SIGNS))])[rng.integers(3)]


def respelt(task: Task, share: float, count: int, seed: int) -> Task:
    """The task itself, or with some probability in a made-up spelling.

    That has some of the training examples, at least one of each label, and the labels said as
    before and in that spelling. A task in which a label means the rest stays as it is: it is told
    apart by topics, which nonsense would change.

    Args:
        task: a labelled one whose items are texts.
        share: the probability.
        count: examples that a respelt task keeps, or one of each label if these are more.
        seed: of all that is drawn.
    """
    rng = np.random.default_rng(derive_seed(seed, "respelt"))
    if rng.random() >= share:
        return task
    said = {key: said_of(task, key) for key in task.labels}
    if any(means_the_rest(thing) for things in said.values() for thing in things):
        return task
    spell = made_up_spelling(rng)
    return replace(
        task,
        train=tuple(Example(spell(str(e.item)), e.label) for e in _sample(task.train, count, rng)),
        hints={k: tuple(dict.fromkeys((*said[k], *map(spell, said[k])))) for k in said},
    )


def _sample(
    examples: Sequence[Example], count: int, rng: np.random.Generator
) -> tuple[Example, ...]:
    """Some of the examples in their order, at least one of each label."""
    order = rng.permutation(len(examples)).tolist()
    firsts = {examples[index].label: index for index in reversed(order)}
    kept = list(dict.fromkeys((*firsts.values(), *order)))[: max(count, len(firsts))]
    return tuple(examples[index] for index in sorted(kept))
