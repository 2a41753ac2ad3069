"""Adapters for many requests by one matrix product."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from sglora_fed.adapters.start import within_bound
from sglora_fed.generators.export import Export
from sglora_fed.seeds import derive_seed

WAIT = 0.002
"""Seconds for which the first request of a batch waits for others."""

MOST_ROWS = 32
"""Adapters that are made at once: more gain nothing, and what they need for a moment stays the
process's memory."""


@dataclass
class Batcher:
    """Collects requests for a moment, then makes all their adapters in a thread beside the loop.

    Args:
        export: whose generator makes them.
    """

    export: Export
    batches: int = 0
    """Made so far."""

    _waiting: list[tuple[np.ndarray, asyncio.Future[np.ndarray]]] = field(default_factory=list)
    _timer: asyncio.TimerHandle | None = None
    _worker: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "generate"))

    async def adapters(self, embeddings: np.ndarray) -> np.ndarray:
        """Adapters [m, D] float16 for unit embeddings [m, d], within the clients' bound.

        Raises:
            Exception: whatever the generator raises for these; others of the batch get theirs.
        """
        loop = asyncio.get_running_loop()
        made: asyncio.Future[np.ndarray] = loop.create_future()
        self._waiting.append((embeddings, made))
        if sum(len(rows) for rows, _ in self._waiting) >= MOST_ROWS:
            self._begin(loop)
        elif self._timer is None:
            self._timer = loop.call_later(WAIT, self._begin, loop)
        return await made

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._waiting = self._waiting, []
        if batch:
            self.batches += 1
            work = loop.run_in_executor(self._worker, self._made, [rows for rows, _ in batch])
            work.add_done_callback(lambda done: _hand_out(batch, done))

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
    batch: list[tuple[np.ndarray, asyncio.Future[np.ndarray]]],
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
