"""Batches that the test lets go one after another: whose requests are in which."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from itertools import chain
from typing import Any

import numpy as np
import pytest

from sglora_fed.generators.export import Export
from sglora_fed.serving.batching import MOST_ROWS, Batcher

DIM = 384


class Steps:
    """A generator that begins a batch and makes it once it is told to."""

    def __init__(self, generate: Callable[..., Any]) -> None:
        self._generate, self._go = generate, threading.Semaphore(0)
        self._begun = threading.Semaphore(0)
        self.batches: list[list[int]] = []
        """The rows of each, by the number that :func:`rows` gave them."""

    def __call__(self, embeddings: np.ndarray, *rest: Any) -> Any:
        self.batches.append([int(row.argmax()) for row in embeddings])
        self._begun.release()
        assert self._go.acquire(timeout=20)
        return self._generate(embeddings, *rest)

    async def next(self) -> None:
        """Wait until one more batch has begun."""
        assert await asyncio.to_thread(self._begun.acquire, timeout=20)

    def let_go(self, batches: int = 1) -> None:
        self._go.release(batches)


@pytest.fixture
def steps(export: Export, monkeypatch: pytest.MonkeyPatch) -> Iterator[Steps]:
    found = Steps(export.generator.generate)
    monkeypatch.setattr(export.generator, "generate", found)
    yield found
    found.let_go(1000)


def rows(*numbers: int) -> np.ndarray:
    return np.eye(DIM, dtype=np.float32)[list(numbers)]


def run(export: Export, steps: Steps, last: Callable[[Batcher], list[Awaitable[Any]]]) -> None:
    """Hold a batch, put all else behind it, then let all go."""
    batcher = Batcher(export)

    async def whole() -> None:
        held = asyncio.ensure_future(batcher.adapters("held", rows(0)))
        await steps.next()
        waiting = [asyncio.ensure_future(one) for one in last(batcher)]
        await asyncio.sleep(0)  # all of them have asked
        steps.let_go(1000)
        await asyncio.gather(held, *waiting)

    try:
        asyncio.run(whole())
    finally:
        steps.let_go(1000)
        batcher.close()


def test_a_hundred_requests_of_one_hold_up_another_by_no_batch(
    export: Export, steps: Steps
) -> None:
    def asked(batcher: Batcher) -> list[Awaitable[Any]]:
        greedy = [batcher.adapters("greedy", rows(number)) for number in range(1, 101)]
        return [*greedy, batcher.adapters("other", rows(200))]

    run(export, steps, asked)
    assert 200 in steps.batches[1]
    assert sorted(chain(*steps.batches)) == [*range(101), 200]


def test_nor_do_those_of_many(export: Export, steps: Steps) -> None:
    def asked(batcher: Batcher) -> list[Awaitable[Any]]:
        whose = [f"greedy {number % 20}" for number in range(100)]
        greedy = [batcher.adapters(name, rows(n + 1)) for n, name in enumerate(whose)]
        return [*greedy, batcher.adapters("other", rows(200))]

    run(export, steps, asked)
    before = next(place for place, batch in enumerate(steps.batches) if 200 in batch)
    # One request of each of the others, and what was held.
    assert sum(map(len, steps.batches[:before])) <= 1 + 20


def test_a_large_request_goes_in_parts_and_comes_whole(export: Export, steps: Steps) -> None:
    found: list[np.ndarray] = []

    async def large(batcher: Batcher) -> None:
        found.append(await batcher.adapters("large", rows(*range(1, 65))))

    run(export, steps, lambda batcher: [large(batcher), batcher.adapters("other", rows(200))])
    assert max(map(len, steps.batches)) <= MOST_ROWS
    assert 200 in chain(*steps.batches[1:3])
    alone = Batcher(export)
    expected = alone.generate(rows(*range(1, 65)))
    alone.close()
    assert found[0].dtype == np.float16
    np.testing.assert_allclose(found[0], expected, rtol=2e-3, atol=1e-5)


def test_one_batch_is_made_at_a_time_and_what_waits_is_still_in_order(
    export: Export, steps: Steps
) -> None:
    batcher = Batcher(export)

    async def whole() -> None:
        greedy = [
            asyncio.ensure_future(batcher.adapters("greedy", rows(number)))
            for number in range(5 * MOST_ROWS)
        ]
        await steps.next()
        for number in range(1, 4):  # a new one comes while each batch is made
            place = 200 + number
            other = asyncio.ensure_future(batcher.adapters(f"other {number}", rows(place)))
            await asyncio.sleep(0)
            assert len(steps.batches) == number
            steps.let_go()
            await steps.next()
            assert place in steps.batches[number]
            assert not other.done()
        steps.let_go(1000)
        await asyncio.gather(*greedy)

    try:
        asyncio.run(whole())
    finally:
        steps.let_go(1000)
        batcher.close()
    assert batcher.batches == len(steps.batches) == 6


def test_a_part_that_fails_fails_its_request_alone(
    export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = export.generator.generate

    def generate(embeddings: np.ndarray, *rest: Any) -> Any:
        if (embeddings.argmax(axis=1) == MOST_ROWS).any():
            raise ZeroDivisionError
        return right(embeddings, *rest)

    monkeypatch.setattr(export.generator, "generate", generate)
    batcher = Batcher(export)

    async def whole() -> list[Any]:
        asked = [batcher.adapters("large", rows(*range(3 * MOST_ROWS)))]
        asked.append(batcher.adapters("other", rows(200)))
        return await asyncio.gather(*asked, return_exceptions=True)

    failed, made = asyncio.run(whole())
    batcher.close()
    assert isinstance(failed, ZeroDivisionError)
    assert len(made) == 1
