"""The benchmark of large zoos at a small size: every number is there, and files are removed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from sglora_fed.adapters.layout import Layout, ModuleShape

SMALL = {
    "LAYOUT": Layout((ModuleShape("one", 8, 8),), 2, 4.0),
    "DIM": 16, "TAKING_PART": 4, "ROUNDS": 2, "ASKED": 6, "SHARD": 7, "DOMAINS": 3, "TOPICS": 5,
    "GOALS": {"20 to 9": 100.0},
}  # fmt: skip


@pytest.fixture
def bench(
    script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> ModuleType:
    module = script("bench_scale")
    for name, value in SMALL.items():
        monkeypatch.setattr(module, name, value)

    def here(folder: Path, kind: str, name: str, option: str, size: str) -> object:
        del kind, option
        return module.measure(folder, int(size)) if name == "zoo" else module.search(int(size))

    monkeypatch.setattr(module, "apart", here)
    return module


def test_it_measures_every_size(bench: ModuleType, results: Path, tmp_path: Path) -> None:
    folder = tmp_path / "numbers"
    folder.mkdir()
    bench.main(["--experts", "9", "20", "--descriptions", "30", "--folder", str(folder)])
    found = json.loads((results / "scale.json").read_text())
    assert [one["experts"] for one in found["zoos"]] == [9, 20]
    assert found["search"]["recall_at_4"] == 1
    assert found["reached"]["round, 20 to 9"]["reached"]
    assert not list(folder.iterdir())


def test_the_zoo_is_read_from_its_files(bench: ModuleType, tmp_path: Path) -> None:
    zoo = bench.large_zoo(tmp_path, 20)
    assert zoo.means[np.arange(20)].shape == (20, 32)
    np.testing.assert_allclose(np.linalg.norm(zoo.wordings[:], axis=2), 1, atol=1e-5)
    assert len(list(tmp_path.iterdir())) == 6
