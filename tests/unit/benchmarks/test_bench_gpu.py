"""The GPU's benchmark on a CPU, tiny: both ways give the same, and everything is there."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest


def test_both_ways_give_the_same(
    script: Callable[[str], ModuleType], results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = script("bench_gpu")
    for name, value in {"ITEMS": 2, "TOKENS": 5, "REPEATS": 1}.items():
        monkeypatch.setattr(bench, name, value)
    monkeypatch.setattr(bench, "bert", partial(bench.bert, 2, 24, 2))
    bench.main(["--experts", "3", "--device", "cpu"])
    found = json.loads((results / "gpu.json").read_text())
    single, half = found["runs"]
    assert single["least_cosine_of_both_ways"] == pytest.approx(1, abs=1e-5)
    assert half["least_cosine_of_both_ways"] > 0.99
    assert single["step"]["peft_one_by_one_ms"] > 0
