"""How owners say what is wrong with their cameras: authored clauses and frames of sentences.

``{g}``, ``{c}`` and ``{o}`` are clauses about geometry, colours and optics. Nobody may show the
clauses and frames of ``OTHER`` to an expert: they are another author's, for clients whose words
are new.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sglora_fed.tasks.cameras.conditions import Condition
from sglora_fed.tasks.cameras.owners.colour import COLOUR_SAID
from sglora_fed.tasks.cameras.owners.frames import FRAMES
from sglora_fed.tasks.cameras.owners.geometry import GEOMETRY_SAID
from sglora_fed.tasks.cameras.owners.optics import OPTICS_SAID

Clauses = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Author:
    """One person's words.

    Attributes:
        frames: of sentences.
        geometry: key of ``GEOMETRY`` -> clauses that say it.
        colour: key of ``COLOUR`` -> clauses.
        optics: key of ``OPTICS`` -> clauses.
    """

    frames: Sequence[str]
    geometry: Clauses
    colour: Clauses
    optics: Clauses


def sentences(
    author: Author, condition: Condition, count: int, rng: np.random.Generator
) -> tuple[str, ...]:
    """Different ways in which an author says a condition.

    A frame or clause comes again only when all others have come as often.

    Args:
        author: whose words.
        condition: what is said.
        count: sentences.
        rng: source of the choices.
    """
    parts = (
        author.frames,
        author.geometry[condition.geometry],
        author.colour[condition.colour],
        author.optics[condition.optics],
    )
    drawn = [_drawn(part, count, rng) for part in parts]
    return tuple(_sentence(f.format(g=g, c=c, o=o)) for f, g, c, o in zip(*drawn, strict=True))


def _drawn(texts: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
    rounds = -(-count // len(texts))
    order = np.concatenate([rng.permutation(len(texts)) for _ in range(rounds)])
    return [texts[index] for index in order[:count]]


def _sentence(text: str) -> str:
    """With capital letters if it ends with a full stop; what is typed in haste stays as it is."""
    if not text.endswith("."):
        return text
    return re.sub(r"(^|\. )([a-z])", lambda found: found[1] + found[2].upper(), text)


OWNERS = Author(FRAMES, GEOMETRY_SAID, COLOUR_SAID, OPTICS_SAID)
"""The words of the experts, and of clients unless their words are to be new."""
