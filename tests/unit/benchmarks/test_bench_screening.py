"""Planted zoos: liars among experts that agree are found, among noise nobody can tell."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from sglora_fed.adapters.layout import Layout, ModuleShape
from sglora_fed.zoo import Zoo, ZooIdentity, open_zoo

LAYOUT = Layout((ModuleShape("wide", 12, 12),), 2, 4.0)


@pytest.fixture
def folder(tmp_path: Path, identity: ZooIdentity, make_zoo: Callable[..., Zoo]) -> Path:
    """A zoo in which an adapter is mostly the same for all, and a little of its own."""
    zoo = make_zoo(40, dim=8, size=LAYOUT.size)
    common = np.random.default_rng(1).normal(size=LAYOUT.size)
    means = (common + 0.1 * zoo.means).astype(np.float32)
    store = open_zoo(tmp_path / "zoo", replace(identity, layout=LAYOUT.to_dict()))
    store.add(replace(zoo, means=means))
    return tmp_path / "zoo"


def test_liars_are_found_where_honest_experts_agree(
    script: Callable[[str], ModuleType],
    results: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = script("bench_screening")
    monkeypatch.setattr(bench, "DRAWS", 2)
    monkeypatch.setattr(bench, "CROWDS", (24, 1000))
    monkeypatch.setattr(bench, "SHARES", (0.0, 0.3))
    bench.main([str(folder)])
    found: dict[str, Any] = json.loads((results / "screening.json").read_text())
    nobody, some = found["one_expert_each"]
    assert (nobody["nodes"], nobody["liars"], nobody["found"]) == (24, 0, 0.0)
    assert some["liars"] == 7
    assert some["found"] == 1.0
    assert nobody["honest_distrusted"] < 0.2
    assert some["honest_distrusted"] < 0.2
    assert found["big_node"]["found"] == 1.0
