"""The lies are what they are called, and what is compared are honest clients alone."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from sglora_fed.adapters.layout import Layout, ModuleShape
from sglora_fed.adapters.start import norm_bound
from sglora_fed.config import compose
from sglora_fed.federation.compare import COMPARE
from sglora_fed.federation.describe import DESCRIBE
from sglora_fed.federation.enrol import ENROL
from sglora_fed.federation.rounds import ROUND
from sglora_fed.federation.shared import SHARED

Load = Callable[[str], ModuleType]
LAYOUT = Layout((ModuleShape("query", 6, 5), ModuleShape("value", 6, 5)), 2, 1.0)
TINY = (
    "family.experts=6", "family.clients_per_split=3", "family.train_per_client=16",
    "family.test_per_client=10", "adapter.train.steps=1", "adapter.train.checkpoints=1",
    "federation.shared_rounds=1", "federation.shared_steps=1",
    "federation.generator_rounds=1", "federation.generator_steps=1",
)  # fmt: skip


def effects(vectors: np.ndarray) -> list[np.ndarray]:
    factors = LAYOUT.unpack(torch.from_numpy(vectors.reshape(-1, LAYOUT.size)))
    return [(b @ a).numpy() for a, b in factors.values()]


def test_lies_have_the_opposite_effect_and_a_length_that_is_taken(script: Load) -> None:
    liars = script("liars")
    vectors = np.random.default_rng(0).normal(size=(3, LAYOUT.size)).astype(np.float32)
    for made, true in zip(effects(liars.flipped(LAYOUT, vectors)), effects(vectors), strict=True):
        np.testing.assert_array_equal(made, -true)
    long = np.linalg.norm(liars.longest(LAYOUT, vectors).astype(np.float64), axis=-1)
    assert (long < norm_bound(LAYOUT)).all()
    assert (long > 0.99 * norm_bound(LAYOUT)).all()


def test_every_lie_is_told_through_the_whole_loop(
    script: Load, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    liars = script("liars")
    monkeypatch.setenv("SGLORA_FED_HOME", os.environ.get("SGLORA_FED_HOME", ""))
    told = ("many", "repeats", "later")
    monkeypatch.setattr(liars, "LIES", {name: liars.LIES[name] for name in told})
    liars.main(TINY)
    found = json.loads((results / "liars.json").read_text())
    assert tuple(found["lies"]) == told
    honest = liars.honest_clients(compose([*liars.RUN, *TINY]))
    for run in (*found["lies"].values(), found["honest"], found["absent"]):
        assert set(run["methods"]) == {"topk", "ridge", "functional", "shared_lora"}
        for entry in run["methods"].values():
            assert entry["accuracy"]["clients"] == len(honest)
    assert all(e["minus_honest"]["mean"] == 0 for e in found["honest"]["methods"].values())
    # Too few experts for a screening: the liar is asked in every exchange, and is not refused.
    for run in found["lies"].values():
        assert set(run["answered_with_lies"]) == {ENROL, SHARED, ROUND, DESCRIBE, COMPARE}
        assert run["refused_replies"] == 0
    assert found["absent"]["answered_with_lies"] == {}
    for base in ("honest", "absent"):
        costs = [
            found[base]["methods"][method]["accuracy"]["mean"] - entry["accuracy"]["mean"]
            for run in found["lies"].values()
            for method, entry in run["methods"].items()
        ]
        worst = found["worst_cost"][f"against_{base}"]["points"]
        assert worst == pytest.approx(max(costs), abs=2e-4)
