"""The catalogues of the embedded families: everything that a client of theirs could have asked.

They are made of the families' public words alone, in a fixed order, and depend on no configuration,
no seed and no client.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

from sglora_fed.errors import CatalogueError
from sglora_fed.privacy.catalogue import Catalogue, read_catalogue
from sglora_fed.tasks.assistant.content import load_topics
from sglora_fed.tasks.cameras.conditions import CONDITIONS, Condition
from sglora_fed.tasks.cameras.wording import OWNERS
from sglora_fed.tasks.family import IN_RULE
from sglora_fed.tasks.rules import WORDS
from sglora_fed.tasks.wording import SET_FRAMES, join_names

CAMERAS_VERSION = 1
ASSISTANT_VERSION = 1


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
        return Catalogue("cameras", CAMERAS_VERSION, tuple(map(_camera, CONDITIONS)))
    if family == "assistant":
        return Catalogue("assistant", ASSISTANT_VERSION, _rules())
    raise CatalogueError(f"family {family!r} has no catalogue; give a file, as for your own data")


def _camera(condition: Condition) -> str:
    """A condition in the first frame and clauses of the owners' words."""
    return OWNERS.frames[0].format(
        g=OWNERS.geometry[condition.geometry][0],
        c=OWNERS.colour[condition.colour][0],
        o=OWNERS.optics[condition.optics][0],
    )


def _rules() -> tuple[str, ...]:
    """A rule of form ``set`` for every choice of topics, in the first frame and names."""
    important, other = WORDS[2]
    names = [topic.names[0] for topic in load_topics()]
    return tuple(
        SET_FRAMES[0].format(a=important, b=other, x=join_names(list(chosen)))
        for chosen in combinations(names, IN_RULE)
    )
