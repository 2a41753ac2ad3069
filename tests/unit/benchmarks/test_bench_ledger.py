"""A release is timed on ledgers of both sizes, beside the disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import pytest

from sglora_fed.privacy.ledger import Ledger


@pytest.fixture
def bench(script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = script("bench_ledger")
    for name, value in {"ROWS": (1, 3), "LEDGERS": 2, "RELEASES": 2}.items():
        monkeypatch.setattr(module, name, value)
    return module


def test_both_sizes_are_measured(bench: ModuleType, results: Path) -> None:
    bench.main()
    found = json.loads((results / "ledger.json").read_text())["ledgers"]
    assert [(row["rows"], row["releases"]) for row in found] == [(1, 4), (3, 4)]
    for row in found:
        assert row["cpu_median_ms"] > 0
        assert 0 < row["fsync_median_ms"] < row["median_ms"]


def test_a_ledger_is_as_long_as_it_says(bench: ModuleType, tmp_path: Path) -> None:
    bench.filled(tmp_path / "ledger", 3)
    assert Ledger(tmp_path / "ledger", bench.BUDGET).spent("me") == (Fraction(3), Fraction())
