"""Greedy clients of the endpoint, in a process of their own: their work delays no other's clock.

They run on the same cores as the endpoint, which they would not do elsewhere. So they get what it
and the others leave of them; how much they send all the same is in what they have seen.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import Sequence
from multiprocessing.connection import Connection

from serving_load import Client, Seen, closed, pressing, warm
from sglora_fed.serving.tls import Files
from sglora_fed.serving.wire import AdapterRequest

LAST = 19
"""Niceness of whoever gets only what others leave of a core."""


class Crowd:
    """Clients that press once they are told to.

    Args:
        named: names and certificates.
        port: of the endpoint.
        connections: of each client.
        requests: that they send in turn.
        seconds: for which they press.
    """

    def __init__(
        self,
        named: Sequence[tuple[str, Files]],
        port: int,
        connections: int,
        requests: Sequence[AdapterRequest],
        seconds: float,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        told = (other, named, port, connections, requests, seconds)
        self._process = context.Process(target=_crowd, args=told)

    def __enter__(self) -> Crowd:
        """Start them, and wait until all their connections are open."""
        self._process.start()
        self._pipe.recv()
        return self

    def press(self) -> None:
        """Let them begin."""
        self._pipe.send(None)

    def seen(self) -> Seen:
        """What they have met, once they have ended."""
        found = self._pipe.recv()
        assert isinstance(found, Seen)
        return found

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()


def _crowd(
    pipe: Connection,
    named: Sequence[tuple[str, Files]],
    port: int,
    connections: int,
    requests: Sequence[AdapterRequest],
    seconds: float,
) -> None:
    """Open all connections, press when told to, and tell what was seen."""
    os.nice(LAST)

    async def whole() -> Seen:
        clients = [Client(*one, port) for one in named for _ in range(connections)]
        await warm(clients, requests[0])
        pipe.send(None)
        pipe.recv()
        seen = await pressing(clients, requests, seconds)
        await closed(clients)
        return seen

    pipe.send(asyncio.run(whole()))
