"""The endpoint's benchmarks at a small size: all parts run, and nothing crashes on odd requests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

Load = Callable[[str], ModuleType]


def test_all_parts_are_measured(
    script: Load, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = script("bench_serving")
    for name, value in (("CLIENTS", 3), ("RATE", 100.0), ("GREEDY", 1), ("CONNECTIONS", 3)):
        monkeypatch.setattr(bench, name, value)
    bench.main(["--seconds", "0.3", "--requests", "100"])
    found = json.loads((results / "serving.json").read_text())
    assert found["pace"]["statuses"] == {"200": 30}
    assert found["press"]["adapters_per_second"] > 1
    assert 0 < found["press"]["ratio_to_in_process"] < 1
    assert found["overload"]["others_statuses"] == {"200": 30}
    assert found["overload"]["greedy_429_without_retry_after"] == 0
    assert found["soak"]["statuses"] == {"200": 100}
    assert len(found["soak"]["megabytes"]) == 11


def test_odd_requests_and_replies(script: Load, results: Path) -> None:
    script("fuzz_serving").main(["--requests", "400", "--replies", "100"])
    found = json.loads((results / "fuzz-serving.json").read_text())
    assert found["requests"] >= 400
    assert {"200", "400", "401", "404"} <= set(found["statuses"])
    assert max(map(int, found["statuses"])) < 500
    assert sum(found["replies"].values()) == 100
    assert found["reached"]
