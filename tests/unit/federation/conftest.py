"""A roster whose nodes have said what they own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from sglora_fed.config.schema import FederationConfig
from sglora_fed.federation.roster import Part, Roster


@dataclass(frozen=True)
class Said:
    """As little as a reply says of itself."""

    about: Part
    partition: int
    ids: tuple[str, ...]


def _enlisted(
    config: FederationConfig,
    names: Sequence[str],
    nodes: Sequence[int],
    prefix: str = "",
    backwards: bool = False,
) -> Roster:
    roster, count = Roster(config), len(nodes)
    for number, node in enumerate(nodes):
        mine = names[number::count]
        place = count - 1 - number if backwards else number
        roster.admit(node, Said("experts", place, tuple(prefix + name for name in mine)))
        for name in mine:
            roster.enlist(node, prefix + name, name)
    return roster


@pytest.fixture
def enlisted() -> Callable[..., Roster]:
    """A function of (config, names, nodes, prefix, backwards): every n-th expert is a node's."""
    return _enlisted


@pytest.fixture
def said() -> Callable[[Part, int, tuple[str, ...]], Said]:
    """A function of (about, partition, ids) that gives a reply."""
    return Said
