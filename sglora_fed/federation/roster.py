"""What each node of a run may own. What a node says first binds it; nobody can own too much."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain, count
from typing import Literal, Protocol

import numpy as np

from sglora_fed.config.schema import FederationConfig
from sglora_fed.errors import MessageError, RepliesError
from sglora_fed.tasks.types import KINDS, Kind

Part = Literal["experts", "clients"]

LONGEST_ID = 64

RENAMED = -1
"""Node of a name that is nobody's own id."""

MOST_EXPERTS = 2.0
"""Times as many as the median node's: no node has more experts among those that train in rounds."""


class Reply(Protocol):
    """What every node's reply says of itself."""

    @property
    def about(self) -> Part:
        """What its ids name."""
        ...

    @property
    def partition(self) -> int:
        """Of the node."""
        ...

    @property
    def ids(self) -> tuple[str, ...]:
        """Experts or clients of the node."""
        ...


class Roster:
    """The nodes of a run with their partitions, experts and clients.

    A node's ids are its own: two nodes may use the same ones, and neither can speak for the other.

    Args:
        config: how many experts and clients a node may own.

    Attributes:
        owners: expert in the zoo -> node.
        kinds: node -> what its tasks are.
    """

    def __init__(self, config: FederationConfig) -> None:
        self._most = {"experts": config.experts_per_node, "clients": config.clients_per_node}
        self._partitions: dict[int, int] = {}
        self._ids: dict[tuple[int, Part], frozenset[str]] = {}
        self._clients: dict[str, int] = {}
        self._renamed: dict[tuple[int, str], str] = {}
        self._own_ids: dict[str, str] = {}
        self._names: dict[tuple[int, str], str] = {}
        self.owners: dict[str, int] = {}
        self.kinds: dict[int, Kind] = {}
        self._config = config

    def of_another_zoo(self) -> Roster:
        """A roster of the same nodes, bound by what they have said, without experts' names."""
        other = Roster(self._config)
        other._partitions, other._ids = self._partitions, self._ids
        other._clients, other._renamed = self._clients, self._renamed
        return other

    def admit(self, node: int, reply: Reply) -> None:
        """Check a reply against what its node may own and has said before.

        Raises:
            MessageError: for another partition than before, more ids than a node may own, or an id
                that was not among the node's first.
        """
        if self._partitions.get(node, reply.partition) != reply.partition:
            raise MessageError(f"partition {reply.partition}; it was {self._partitions[node]}")
        if len(reply.ids) > self._most[reply.about]:
            raise MessageError(
                f"{len(reply.ids)} {reply.about}; a node has at most {self._most[reply.about]}"
            )
        known = self._ids.get((node, reply.about), frozenset(reply.ids))
        if foreign := set(reply.ids) - known:
            raise MessageError(f"{len(foreign)} {reply.about} that the node did not name at first")
        self._partitions[node] = reply.partition
        self._ids[node, reply.about] = known

    @property
    def kind(self) -> Kind:
        """What most nodes' tasks are; a run is about one kind."""
        told = Counter(self.kinds.values())
        return max(KINDS, key=lambda kind: told[kind])

    def bind(self, node: int, about: Part, ids: Sequence[str]) -> None:
        """What a node named at first, in an earlier part of the run."""
        self._ids[node, about] = frozenset(ids)

    def node_of(self, partition: int) -> int:
        """The node that said that it has a partition.

        Raises:
            RepliesError: when none did, or several.
        """
        found = [node for node, own in self._partitions.items() if own == partition]
        if len(found) != 1:
            raise RepliesError(f"{len(found)} nodes of partition {partition}; need the one before")
        return found[0]

    def place(self, node: int) -> tuple[int, int]:
        """By which nodes are ordered: partitions may be equal, ids are random in simulation."""
        return self._partitions[node], node

    def enlist(self, node: int, own: str, name: str) -> None:
        """An expert of a node, by the node's own id and by its name in the zoo."""
        self.owners[name] = node
        self._own_ids[name], self._names[node, own] = own, name

    def present(self, names: Sequence[str]) -> list[str]:
        """Those of some experts whose node takes part in this run."""
        return [name for name in names if name in self.owners]

    def taking_part(self, names: Sequence[str], rng: np.random.Generator) -> list[str]:
        """Those present, of which no node has many more than the median node has.

        Else one node with many experts would take all places in rounds of a few.
        """
        own = self.by_node(self.present(names))
        most = int(MOST_EXPERTS * np.median([len(some) for some in own.values()])) if own else 0
        return sorted(
            chain.from_iterable(
                some if len(some) <= most else rng.choice(some, most, replace=False).tolist()
                for some in own.values()
            )
        )

    def client_name(self, node: int, own: str) -> str:
        """A client's name in the results, the same in a whole run: its own id, where it is free.

        Another node that uses the id, too, gets a number behind it.
        """
        if (node, own) in self._renamed:
            return self._renamed[node, own]
        # Nearly all keep their own id: of a hundred thousand clients nothing else is held.
        if self._clients.setdefault(own, node) == node:
            return own
        numbered = (another_name(own, str(number)) for number in count(2))
        name = next(name for name in numbered if name not in self._clients)
        self._clients[name] = RENAMED
        self._renamed[node, own] = name
        return name

    def by_node(self, names: Sequence[str]) -> dict[int, list[str]]:
        """Node -> those of some experts that are its own, nodes by their place."""
        found: dict[int, list[str]] = {}
        for node in sorted({self.owners[name] for name in names}, key=self.place):
            found[node] = [name for name in names if self.owners[name] == node]
        return found

    def own_ids(self, names: Sequence[str]) -> tuple[str, ...]:
        """What their nodes call some experts."""
        return tuple(self._own_ids[name] for name in names)

    def names(self, node: int, own: Sequence[str]) -> list[str]:
        """The inverse of :meth:`own_ids` for one node."""
        return [self._names[node, name] for name in own]


def another_name(own: str, addition: str) -> str:
    """A name for something whose own id another node uses already."""
    return f"{own[: LONGEST_ID - len(addition) - 1]}.{addition}"
