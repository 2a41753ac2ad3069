"""The benchmark of many clients with a few."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import sglora_fed.experiments.finish


def test_it_measures_every_size(
    script: Callable[[str], ModuleType],
    results: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = script("bench_clients")
    monkeypatch.setattr(bench, "CONDITIONS", 2)
    small = [word for word in bench.WORDS if "clients_per_split" not in word]
    few = (
        *small,
        "family.clients_per_split=2",
        "family.experts=6",
        "adapter.train.steps=1",
        "adapter.train.checkpoints=1",
    )
    monkeypatch.setattr(bench, "WORDS", few)
    monkeypatch.setattr(bench, "apart", lambda clients: bench.measure(clients) if clients else {})
    monkeypatch.setattr(sglora_fed.experiments.finish, "write_report", lambda *_: None)
    bench.main(["--clients", "6", "12"])
    found = json.loads((results / "clients.json").read_text())
    assert [one["clients"] for one in found["sizes"]] == [6, 12]
    assert set(found["growth"]) == {"cpu_ms_per_client", "peak_mb"}
