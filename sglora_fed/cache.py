"""What is kept to be used again, within a budget of bytes."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Generic, TypeVar

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
