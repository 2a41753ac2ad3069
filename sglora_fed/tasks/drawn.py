"""Examples that are made when they are looked at: a hundred thousand clients' fit in no memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import overload

from sglora_fed.tasks.types import Example


@dataclass(frozen=True, eq=False)
class Drawn(Sequence[Example]):
    """Examples by a function that makes the same ones each time.

    Attributes:
        size: how many they are.
        draw: makes them; whoever makes them may keep some.
    """

    size: int
    draw: Callable[[], tuple[Example, ...]]

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, key: int) -> Example: ...

    @overload
    def __getitem__(self, key: slice) -> tuple[Example, ...]: ...

    def __getitem__(self, key: int | slice) -> Example | tuple[Example, ...]:
        return self.draw()[key]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Drawn | tuple) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(self.draw())
