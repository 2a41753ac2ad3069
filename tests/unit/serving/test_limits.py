"""The gate against a count by hand, on a clock that the test moves."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from sglora_fed.errors import ConfigError, RateError
from sglora_fed.serving import limits
from sglora_fed.serving.limits import Gate, Limits


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def asked(gate: Gate, name: str) -> bool:
    try:
        with gate.admitted(name):
            return True
    except RateError:
        return False


def test_a_burst_then_the_rate(clock: Clock) -> None:
    gate = Gate(Limits(rate=2, burst=3), clock)
    assert [asked(gate, "a") for _ in range(5)] == [True] * 3 + [False] * 2
    taken = 0
    for _ in range(100):
        clock.now += 0.25
        taken += asked(gate, "a")
    assert taken == 50
    clock.now += 1000
    assert [asked(gate, "a") for _ in range(5)] == [True] * 3 + [False] * 2


def test_one_who_waits_as_told_is_let_in(clock: Clock) -> None:
    gate = Gate(Limits(rate=0.3, burst=1), clock)
    assert asked(gate, "a")
    with pytest.raises(RateError) as told, gate.admitted("a"):
        pass
    assert told.value.seconds == 4
    clock.now += told.value.seconds
    assert asked(gate, "a")


def test_others_are_not_held_up(clock: Clock) -> None:
    gate = Gate(Limits(rate=1, burst=1), clock)
    assert [asked(gate, name) for name in "aaabab"] == [True, False, False, True, False, False]


def test_so_many_at_once_and_no_more(clock: Clock) -> None:
    gate = Gate(Limits(rate=1, burst=100, concurrent=2, pending=3), clock)
    with ExitStack() as stack:
        stack.enter_context(gate.admitted("a"))
        stack.enter_context(gate.admitted("a"))
        assert not asked(gate, "a")
        stack.enter_context(gate.admitted("b"))
        assert not asked(gate, "c")
        assert gate.active == 3
    assert gate.active == 0
    assert asked(gate, "a")


def test_a_failure_leaves_no_trace(clock: Clock) -> None:
    gate = Gate(Limits(rate=1, burst=100, concurrent=1), clock)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), gate.admitted("a"):
            raise ZeroDivisionError
    assert asked(gate, "a")


def test_whoever_has_spent_nothing_is_forgotten(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MOST_CLIENTS", 10)
    gate = Gate(Limits(rate=1, burst=5), clock)
    for number in range(1000):
        clock.now += 1
        assert asked(gate, f"client {number}")
    assert len(gate._clients) <= 10
    clock.now += 1000
    for _ in range(5):
        asked(gate, "greedy")
    assert not asked(gate, "greedy")
    for number in range(10):
        asked(gate, f"other {number}")
    assert not asked(gate, "greedy")


@pytest.mark.parametrize(
    "wrong", [{"rate": 0}, {"rate": float("inf")}, {"burst": 0}, {"concurrent": 0}, {"pending": -1}]
)
def test_impossible_limits_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Limits(**wrong)  # type: ignore[arg-type]
