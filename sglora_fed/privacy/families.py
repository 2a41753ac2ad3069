"""The catalogues of the embedded families: everything that a client of theirs could have asked.

They are made of the families' public words alone, in a fixed order, and depend on no configuration,
no seed and no client.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from sglora_fed.errors import CatalogueError
from sglora_fed.privacy.catalogue import Catalogue, read_catalogue
from sglora_fed.tasks.assistant.content import Topic, load_topics
from sglora_fed.tasks.cameras.conditions import CONDITIONS, Condition
from sglora_fed.tasks.cameras.wording import OWNERS
from sglora_fed.tasks.family import IN_RULE
from sglora_fed.tasks.rules import WORDS
from sglora_fed.tasks.wording import SET_FRAMES, join_names

WITH_CATALOGUE = ("cameras", "assistant")
"""Families that bring one."""

CAMERAS_VERSION = 3
ASSISTANT_VERSION = 2

CAMERA_WAYS = 12
"""Sentences for each condition: each clause of the owners' words comes once."""

RULE_WAYS = 4
"""Sentences for each rule."""


def catalogue_of(family: str, path: Path | None = None) -> Catalogue:
    """The public list for clients of a family.

    Args:
        family: its name.
        path: of a file that takes the list's place; needed for families that bring none.

    Raises:
        CatalogueError: when there is no list, or the file cannot be used.
    """
    if path is not None:
        return read_catalogue(path)
    if family == "cameras":
        return _cameras()
    if family == "assistant":
        return _rules()
    raise CatalogueError(f"family {family!r} has no catalogue; give a file, as for your own data")


def _cameras() -> Catalogue:
    """The conditions in the owners' words; the first way is the first frame and clauses."""
    ways = [
        [_camera(condition, place, way) for way in range(CAMERA_WAYS)]
        for place, condition in enumerate(CONDITIONS)
    ]
    return _catalogue("cameras", CAMERAS_VERSION, ways)


def _camera(condition: Condition, place: int, way: int) -> str:
    """A condition in one way; frames and clauses meet differently in each entry.

    Else what tells the ways apart could not be told from what tells the entries apart. 1, 5 and 7
    are prime to 12, so that every clause comes once.
    """
    shift = 0 if way == 0 else place
    return OWNERS.frames[way % len(OWNERS.frames)].format(
        g=_of(OWNERS.geometry[condition.geometry], way + shift),
        c=_of(OWNERS.colour[condition.colour], 5 * way + 7 * shift),
        o=_of(OWNERS.optics[condition.optics], 7 * way + 5 * shift),
    )


def _of(texts: Sequence[str], number: int) -> str:
    return texts[number % len(texts)]


def _rules() -> Catalogue:
    """A rule of form ``set`` for every choice of topics, first in the first frame and names."""
    chosen = list(combinations(load_topics(), IN_RULE))
    ways = [
        [_rule(topics, place, way) for way in range(RULE_WAYS)]
        for place, topics in enumerate(chosen)
    ]
    return _catalogue("assistant", ASSISTANT_VERSION, ways)


def _rule(topics: Sequence[Topic], place: int, way: int) -> str:
    important, other = WORDS[2]
    number = 0 if way == 0 else way + place
    names = [_of(topic.names, number) for topic in topics]
    return _of(SET_FRAMES, way).format(a=important, b=other, x=join_names(names))


def _catalogue(name: str, version: int, ways: Sequence[Sequence[str]]) -> Catalogue:
    """Of each entry's sentences, the first of which is its description."""
    firsts = tuple(texts[0] for texts in ways)
    return Catalogue(name, version, firsts, tuple(tuple(texts[1:]) for texts in ways))
