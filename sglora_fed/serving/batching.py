"""Adapters for many requests by one matrix product."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from sglora_fed.adapters.start import within_bound
from sglora_fed.generators.export import Export
from sglora_fed.seeds import derive_seed
from sglora_fed.serving.fair import FairQueue

Waiting = tuple[np.ndarray, asyncio.Future[np.ndarray]]
"""Embeddings [m, d], and where their adapters are told."""

WAIT = 0.002
"""Seconds for which the first request of a batch waits for others."""

MOST_ROWS = 8
"""Adapters that are made at once: more gain little, and whoever asks just after a batch has begun
waits for all of it, and for its answers."""


@dataclass
class Batcher:
    """Collects requests for a moment, then makes all their adapters in a thread beside the loop.

    Args:
        export: whose generator makes them.
    """

    export: Export
    batches: int = 0
    """Made so far."""

    _waiting: FairQueue[Waiting] = field(default_factory=FairQueue)
    _timer: asyncio.TimerHandle | None = None
    _working: bool = False
    _worker: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "generate"))

    async def adapters(self, client: str, embeddings: np.ndarray) -> np.ndarray:
        """Adapters [m, D] float16 for unit embeddings [m, d], within the clients' bound.

        Args:
            client: that asks: those of others need not wait for all of its own.
            embeddings: of what it asks for.

        Raises:
            Exception: whatever the generator raises for these; others of the batch get theirs.
        """
        parts = [embeddings[i : i + MOST_ROWS] for i in range(0, len(embeddings), MOST_ROWS)]
        return np.concatenate(await asyncio.gather(*(self._asked(client, one) for one in parts)))

    def _asked(self, client: str, embeddings: np.ndarray) -> asyncio.Future[np.ndarray]:
        """What comes of no more rows than a batch has: nobody waits for a large request's rest."""
        loop = asyncio.get_running_loop()
        made: asyncio.Future[np.ndarray] = loop.create_future()
        self._waiting.put(client, len(embeddings), (embeddings, made))
        if not self._working:
            self._wait(loop)
        return made

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin soon, or at once where a batch is full."""
        if self._waiting.cost >= MOST_ROWS:
            self._begin(loop)
        elif self._timer is None:
            self._timer = loop.call_later(WAIT, self._begin, loop)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make a batch; what comes meanwhile keeps waiting here, where it can be put in order."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch = self._waiting.take(MOST_ROWS)
        self.batches += 1
        self._working = True
        work = loop.run_in_executor(self._worker, self._made, [rows for rows, _ in batch])
        work.add_done_callback(lambda done: self._end(loop, batch, done))

    def _end(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: list[Waiting],
        done: asyncio.Future[list[np.ndarray | Exception]],
    ) -> None:
        """Hand out a batch, and begin the next: whatever waits has done so for a while."""
        self._working = False
        if self._waiting.cost:
            self._begin(loop)
        _hand_out(batch, done)

    def _made(self, parts: list[np.ndarray]) -> list[np.ndarray | Exception]:
        """Each request's adapters, or what it fails with: then each is made alone."""
        try:
            made = self.generate(np.concatenate(parts))
        except Exception as error:  # noqa: BLE001 - whoever asked is told, and nobody else
            if len(parts) > 1:
                return [one for part in parts for one in self._made([part])]
            return [error]
        return list(np.split(made, np.cumsum([len(part) for part in parts])[:-1]))

    def generate(self, embeddings: np.ndarray) -> np.ndarray:
        """As :meth:`adapters`, at once."""
        export = self.export
        seed = derive_seed(export.about.identity.seed, "generate", export.generator.name)
        made = export.generator.generate(embeddings, 1, seed).adapters[:, 0]
        return within_bound(made, export.layout).astype(np.float16)

    def close(self) -> None:
        """Let the thread end."""
        self._worker.shutdown(wait=True)


def _hand_out(
    batch: list[Waiting],
    done: asyncio.Future[list[np.ndarray | Exception]],
) -> None:
    """Give each request its rows or its error; who has gone away gets nothing."""
    for (_, made), found in zip(batch, done.result(), strict=True):
        if made.done():
            continue
        if isinstance(found, Exception):
            made.set_exception(found)
        else:
            made.set_result(found)
