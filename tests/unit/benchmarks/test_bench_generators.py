"""Every generator is measured, against as many operations as its decoder has numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from sglora_fed.config.schema import GeneratorConfig
from sglora_fed.generators import generator_names

SMALL = {
    "EXPERTS": 14, "BATCH": 8, "SQUARE": 32, "ONE": 3, "MANY": 3, "PRODUCTS": 3,
    "LAYOUTS": {"tiny": 40},
}  # fmt: skip


@pytest.fixture
def bench(script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = script("bench_generators")
    for name, value in SMALL.items():
        monkeypatch.setattr(module, name, value)
    return module


def test_all_are_measured(bench: ModuleType, results: Path) -> None:
    bench.main()
    (layout,) = json.loads((results / "generators.json").read_text())["layouts"]
    assert [row["generator"] for row in layout["generators"]] == generator_names()
    for row in layout["generators"]:
        best = max(layout["product_rate_gflops_per_s"].values())
        share = row["decoder_gflops_per_s"] / best
        assert row["share_of_square_rate"] == pytest.approx(share, rel=0.2, abs=0.01)


def test_operations_are_those_of_the_matrices(bench: ModuleType) -> None:
    config, zoo = GeneratorConfig(steps=1), bench.random_zoo(40)
    state = bench.fitted("functional", config, zoo).state()
    (products,) = [value for value in state.values() if value.shape == (bench.DIRECTIONS, 40)]
    assert bench.operations("functional", config, 40) == 2 * products.size
    assert bench.operations("topk", config, 40) == 2 * np.prod(zoo.means.shape)
