"""Nodes with a share of the clients each come to what one node comes to; tiny, on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType

import numpy as np
import pytest
import torch

from sglora_fed.federation.node import Node


@pytest.fixture
def bench(script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    found = script("bench_devices")
    tiny = {"ITEMS": 2, "TOKENS": 5, "EXPERTS": 4, "PAIRS": 8, "PICTURES": 6}
    for name, value in tiny.items():
        monkeypatch.setattr(found, name, value)
    monkeypatch.setattr(script("bench_gpu"), "ITEMS", 2)
    monkeypatch.setattr(found, "bert", partial(found.bert, 2, 24, 2))
    return found


def test_cameras(bench: ModuleType) -> None:
    config = bench.configuration(bench.Size(clients=2, steps=2), "cpu")
    whole = bench.cameras(Node(config, 0, 1))
    shares = [bench.cameras(Node(config, number, 2)) for number in range(2)]
    assert [len(share) for share in shares] == [3, 3]
    assert bench.largest_difference(whole, shares[0] | shares[1]) < 1e-4
    # Behind each adapter stands what was measured: fractions.
    node = Node(config, 0, 1)
    for row in whole.values():
        assert len(row) > node.layout.size
        assert ((row[node.layout.size :] >= 0) & (row[node.layout.size :] <= 1)).all()


def test_steps_of_adapters(bench: ModuleType) -> None:
    whole = bench.adapters(0, 1, torch.device("cpu"), 2)
    shares = [bench.adapters(number, 2, torch.device("cpu"), 2) for number in range(2)]
    assert bench.largest_difference(whole, shares[0] | shares[1]) < 1e-4
    assert not np.allclose(whole["expert-0"], whole["expert-1"])


def test_others_than_the_same_are_told(bench: ModuleType) -> None:
    one = {"a": np.zeros(2), "b": np.ones(2)}
    assert bench.largest_difference(one, one | {"b": np.array([1.0, 0.5])}) == 0.5
    with pytest.raises(ValueError, match="1 are in one"):
        bench.largest_difference(one, {"a": np.zeros(2)})
