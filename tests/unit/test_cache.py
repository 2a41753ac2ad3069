"""The cache against a plain list of what it may still hold, byte by byte."""

from __future__ import annotations

import gc
import weakref
from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sglora_fed.cache import ByteCache, RowCache


def of_bytes(count: int) -> Tensor:
    return torch.zeros(count, dtype=torch.uint8)


def cache(budget: int) -> ByteCache[list[Tensor]]:
    return ByteCache(budget, lambda value: value)


def test_what_was_not_used_for_longest_goes_first() -> None:
    kept = cache(100)
    for name in "abc":
        kept.add(name, [of_bytes(30)])
    assert kept.get("a") is not None
    kept.add("d", [of_bytes(30)])
    assert [name in kept for name in "abcd"] == [True, False, True, True]
    assert (kept.bytes, len(kept), kept.get("b")) == (90, 3, None)


def test_what_is_larger_than_the_budget_is_not_kept_and_costs_nobody_the_place() -> None:
    kept = cache(100)
    kept.add("small", [of_bytes(60)])
    kept.add("large", [of_bytes(60), of_bytes(41)])
    assert ("small" in kept, "large" in kept, kept.bytes) == (True, False, 60)


def test_a_shared_storage_counts_once_until_its_last_user_goes() -> None:
    shared = of_bytes(80)
    kept = cache(100)
    kept.add("one", [shared[:10], shared[5:]])
    kept.add("two", [shared, of_bytes(20)])
    assert (len(kept), kept.bytes) == (2, 100)
    kept.add("three", [of_bytes(20)])  # "one" gives nothing back, so "two" must go as well
    assert (len(kept), kept.bytes) == (1, 20)


def test_a_view_counts_as_what_it_keeps_in_memory() -> None:
    kept = cache(100)
    kept.add("view", [of_bytes(101)[:1]])
    assert "view" not in kept
    kept.add("half", [torch.zeros(50, dtype=torch.float16)])
    kept.add("empty", [torch.empty(0), torch.empty(0)])
    assert kept.bytes == 100


def test_a_value_given_up_is_free() -> None:
    kept = cache(10)
    row = of_bytes(10)
    gone = weakref.ref(row)
    kept.add("first", [row])
    del row
    kept.add("second", [of_bytes(10)])
    gc.collect()
    assert gone() is None


def test_a_key_that_comes_again_is_replaced() -> None:
    kept = cache(100)
    kept.add("a", [of_bytes(90)])
    kept.add("a", [of_bytes(20)])
    assert (kept.bytes, len(kept)) == (20, 1)
    kept.add("a", [of_bytes(101)])
    assert (kept.bytes, len(kept)) == (0, 0)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 50), st.booleans()), max_size=40))
def test_the_budget_is_never_exceeded(steps: list[tuple[int, int, bool]]) -> None:
    kept, plain = cache(100), OrderedDict[int, int]()
    for key, size, look in steps:
        if look:
            if kept.get(key) is not None:
                plain.move_to_end(key)
        else:
            kept.add(key, [of_bytes(size)])
            plain.pop(key, None)
            while sum(plain.values()) + size > 100:
                plain.popitem(last=False)
            plain[key] = size
        assert kept.bytes == sum(plain.values()) <= 100
        assert {name for name in range(7) if name in kept} == set(plain)


@pytest.mark.parametrize("budget", [0, 1])
def test_no_budget_keeps_nothing(budget: int) -> None:
    kept = cache(budget)
    kept.add("a", [of_bytes(2)])
    assert len(kept) == 0


@given(st.integers(1, 4), st.lists(st.tuples(st.booleans(), st.integers(0, 6)), max_size=60))
def test_rows_are_those_of_a_list_in_order_of_use(most: int, steps: list[tuple[bool, int]]) -> None:
    kept, wanted = RowCache(most, 2), OrderedDict[int, int]()
    for number, (adds, key) in enumerate(steps):
        if adds:
            kept.add(key, np.array([key, number], np.float32))
            wanted.pop(key, None)
            wanted[key] = number
            if len(wanted) > most:
                wanted.popitem(last=False)
        else:
            found = kept.get(key)
            assert (None if found is None else found.tolist()) == (
                [key, wanted[key]] if key in wanted else None
            )
            if key in wanted:
                wanted.move_to_end(key)
        assert len(kept) == len(wanted)
