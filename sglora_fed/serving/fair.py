"""Whose turn it is: nobody waits for all that somebody else has asked for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class FairQueue(Generic[T]):
    """What waits, in fair order among clients: start-time fair queueing (Goyal et al. 1996).

    Each entry gets the moment at which it would begin if its client had a share of its own, on a
    clock that counts cost. The earliest goes first; of those that begin together, that of whoever
    has ended longest ago. So whoever comes anew waits for no second entry of anybody, and who has
    had dear ones waits until the others have had as much.
    """

    cost: int = 0
    """Of all that waits."""

    _heap: list[tuple[int, int, int, int, T]] = field(default_factory=list)
    """(begin, end of the client's entry before, number, cost, item)."""

    _ends: dict[str, int] = field(default_factory=dict)
    """Of each client's last entry, of those who have asked since nothing waited."""

    _now: int = 0
    _numbers: count[int] = field(default_factory=count)

    def put(self, client: str, cost: int, item: T) -> None:
        """Let something wait.

        Args:
            client: that waits for it.
            cost: of it; at least 1.
            item: the thing.
        """
        before = self._ends.get(client, 0)
        begin = max(self._now, before)
        self._ends[client] = begin + cost
        self.cost += cost
        heappush(self._heap, (begin, before, next(self._numbers), cost, item))

    def take(self, most: int) -> list[T]:
        """What comes next and costs no more than so much together, or one thing that does.

        Returns:
            In order; empty only when nothing waits.
        """
        found: list[T] = []
        left = most
        while self._heap and (not found or self._heap[0][3] <= left):
            self._now, _, _, cost, item = heappop(self._heap)
            found.append(item)
            self.cost -= cost
            left -= cost
        if not self._heap:  # nobody has had more than anybody who still waits
            self._now = 0
            self._ends.clear()
        return found


@dataclass
class Turns:
    """Whose work begins next on the event loop, one in each of its rounds.

    Between two the loop takes what has come meanwhile, so that whoever comes now goes before most
    of what others have sent at once.
    """

    _waiting: FairQueue[asyncio.Future[None]] = field(default_factory=FairQueue)
    _running: bool = False

    async def taken(self, client: str) -> None:
        """Return when it is a client's turn."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.put(client, 1, turn)
        if not self._running:
            self._running = True
            loop.call_soon(self._next, loop)
        await turn

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give the next turn; whoever has gone away meanwhile needs none."""
        found = self._waiting.take(1)
        for turn in found:
            if not turn.done():
                turn.set_result(None)
        self._running = bool(found)
        if found:
            loop.call_soon(self._next, loop)
