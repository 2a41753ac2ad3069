"""The order of what waits, against what may stand before it at most."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from sglora_fed.serving.fair import FairQueue, Turns
from sglora_fed.serving.guard import InTurn

Entry = tuple[str, int, int]
"""(client, number, cost)."""

steps = st.lists(st.sampled_from([*"abcd", ""]), max_size=60)
"""Who puts an entry; empty where one is taken."""


def put(queue: FairQueue[Entry], client: str, costs: list[int]) -> None:
    for number, cost in enumerate(costs):
        queue.put(client, cost, (client, number, cost))


def test_who_comes_last_goes_next() -> None:
    queue: FairQueue[Entry] = FairQueue()
    put(queue, "greedy", [1] * 100)
    queue.take(8)
    put(queue, "other", [1])
    assert queue.take(1) == [("other", 0, 1)]


def test_also_where_many_are_greedy() -> None:
    queue: FairQueue[Entry] = FairQueue()
    for number in range(10):
        put(queue, f"greedy {number}", [1] * 100)
    for _ in range(7):
        queue.take(8)
    put(queue, "other", [1])
    assert queue.take(1) == [("other", 0, 1)]


def test_what_is_dear_has_fewer_turns() -> None:
    queue: FairQueue[Entry] = FairQueue()
    put(queue, "dear", [8] * 100)
    put(queue, "cheap", [1] * 100)
    paid: dict[str, int] = defaultdict(int)
    for _ in range(20):
        for client, _, cost in queue.take(8):
            paid[client] += cost
    assert paid["dear"] + paid["cheap"] > 100
    assert abs(paid["dear"] - paid["cheap"]) <= 8


@pytest.mark.parametrize(("costs", "taken"), [([3, 3, 3], 2), ([9, 1], 1), ([8, 1], 1), ([1], 1)])
def test_as_much_as_goes_together(costs: list[int], taken: int) -> None:
    queue: FairQueue[Entry] = FairQueue()
    put(queue, "a", costs)
    assert [cost for _, _, cost in queue.take(8)] == costs[:taken]
    assert queue.cost == sum(costs[taken:])


def test_nothing_comes_of_nothing() -> None:
    assert FairQueue[Entry]().take(8) == []


def test_an_empty_queue_remembers_nobody() -> None:
    queue: FairQueue[Entry] = FairQueue()
    for number in range(1000):
        put(queue, f"client {number}", [1])
        queue.take(8)
    assert not queue._ends


@given(steps)
def test_who_comes_anew_waits_for_no_two_of_anybody(steps: list[str]) -> None:
    queue: FairQueue[Entry] = FairQueue()
    waiting: list[Entry] = []
    passed: dict[Entry, Counter[str]] = {}
    """Who has gone before the first entry of a client since nothing waited."""
    known: set[str] = set()
    for number, client in enumerate([*steps, *[""] * len(steps)]):
        if client:
            entry = (client, number, 1)
            if client not in known:
                passed[entry] = Counter()
            known.add(client)
            waiting.append(entry)
            queue.put(client, 1, entry)
        elif taken := queue.take(1):
            (gone,) = taken
            assert gone == next(entry for entry in waiting if entry[0] == gone[0])
            waiting.remove(gone)
            passed.pop(gone, None)
            for seen in passed.values():
                seen[gone[0]] += 1
                assert seen[gone[0]] == 1
            known = known if waiting else set()
    assert not waiting
    assert queue.cost == 0


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 8)), max_size=60))
def test_those_who_wait_have_had_as_much_as_one_another(asked: list[tuple[str, int]]) -> None:
    queue: FairQueue[Entry] = FairQueue()
    for number, (client, cost) in enumerate(asked):
        queue.put(client, cost, (client, number, cost))
    left, paid = Counter(client for client, _ in asked), Counter(dict.fromkeys("abcd", 0))
    for _ in asked:
        ((client, _, cost),) = queue.take(1)
        left[client] -= 1
        paid[client] += cost
        waiting = [paid[client] for client, count in left.items() if count]
        assert not waiting or max(waiting) - min(waiting) <= 8


def begun(order: list[str], rounds: int, gone: int) -> None:
    """Note who begins: a greedy client's hundred, and another's one so many rounds later."""

    async def both() -> None:
        turns = Turns()

        async def begin(client: str) -> None:
            await turns.taken(client)
            order.append(client)

        greedy = [asyncio.create_task(begin("greedy")) for _ in range(100)]
        await asyncio.sleep(0)
        for one in greedy[len(greedy) - gone :]:
            one.cancel()
        for _ in range(rounds):
            await asyncio.sleep(0)
        order.append("it comes")
        await asyncio.gather(begin("other"), *greedy, return_exceptions=True)

    asyncio.run(both())


@pytest.mark.parametrize("rounds", [0, 5, 50])
def test_whose_turn_it_is(rounds: int) -> None:
    order: list[str] = []
    begun(order, rounds, 0)
    assert order.index("it comes") <= rounds  # no more than one has begun in a round
    assert order.index("other") - order.index("it comes") <= 3
    assert order.count("greedy") == 100


def test_who_has_gone_away_takes_no_turn_and_stops_nobody() -> None:
    order: list[str] = []
    begun(order, 0, 40)
    assert order.count("greedy") == 60
    assert order.count("other") == 1


def test_requests_begin_in_turn_whatever_they_ask_for() -> None:
    order: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        order.append(scope["path"])

    async def nothing(*_: Message) -> Message:
        return {}

    async def all_of_them() -> None:
        guarded = InTurn(app, lambda scope: str(scope["path"])[:2])
        paths = [*(f"/a{number}" for number in range(50)), "/b"]
        await asyncio.gather(*(guarded({"path": path}, nothing, nothing) for path in paths))

    asyncio.run(all_of_them())
    assert order[:3] == ["/a0", "/b", "/a1"]
    assert len(order) == 51
