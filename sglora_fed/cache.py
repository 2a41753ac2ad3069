"""What is kept to be used again, within a budget of bytes."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

V = TypeVar("V")


class ByteCache(Generic[V]):
    """Recent values whose tensors take at most ``budget`` bytes together.

    A storage counts whole, because a view keeps all of it, and once, however many tensors and
    values share it.

    Args:
        budget: bytes that are never exceeded: room is made before a value is added, by giving up
            those that were not used for longest.
        tensors: of a value; what else it holds is not counted.

    Attributes:
        bytes: of all storages that are kept.
    """

    def __init__(self, budget: int, tensors: Callable[[V], Iterable[Tensor]]) -> None:
        self.budget = budget
        self._tensors = tensors
        self._values: OrderedDict[Hashable, V] = OrderedDict()
        self._users: Counter[int] = Counter()
        self.bytes = 0

    def __contains__(self, key: Hashable) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable) -> V | None:
        """The value, which counts as used now; None when it is not kept."""
        if key in self._values:
            self._values.move_to_end(key)
        return self._values.get(key)

    def add(self, key: Hashable, value: V) -> None:
        """Keep a value, unless it alone is beyond the budget."""
        self._drop(key)
        own = self._storages(value)
        if sum(own.values()) > self.budget:
            return
        while self.bytes + self._new(own) > self.budget:
            self._drop(next(iter(self._values)))
        self.bytes += self._new(own)
        self._values[key] = value
        self._users.update(own.keys())

    def _new(self, storages: dict[int, int]) -> int:
        """Bytes of the storages that no kept value has."""
        return sum(size for address, size in storages.items() if address not in self._users)

    def _storages(self, value: V) -> dict[int, int]:
        """Address -> bytes; an empty storage has no address of its own."""
        stores = [tensor.untyped_storage() for tensor in self._tensors(value)]
        return {store.data_ptr(): store.nbytes() for store in stores if store.nbytes()}

    def _drop(self, key: Hashable) -> None:
        if key not in self._values:
            return
        for address, size in self._storages(self._values.pop(key)).items():
            self._users[address] -= 1
            if not self._users[address]:
                del self._users[address]
                self.bytes -= size


class RowCache:
    """Recent rows of numbers in one table.

    Rows of their own would lie scattered between what is free, which then fits nothing large.

    Args:
        most: rows that are kept; room is made by giving up those that were not used for longest.
        width: numbers in a row, float32.
    """

    def __init__(self, most: int, width: int) -> None:
        self._rows = np.empty((most, width), np.float32)
        self._places: OrderedDict[Hashable, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: Hashable) -> np.ndarray | None:
        """A copy of the row, which counts as used now; None when it is not kept."""
        if key not in self._places:
            return None
        self._places.move_to_end(key)
        row: np.ndarray = self._rows[self._places[key]].copy()
        return row

    def add(self, key: Hashable, row: np.ndarray) -> None:
        """Keep a row."""
        place = self._places.pop(key, len(self._places))
        if place == len(self._rows):
            _, place = self._places.popitem(last=False)
        self._rows[place] = row
        self._places[key] = place
