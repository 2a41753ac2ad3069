"""A run whose experts are protected: one promise, kept in the zoo, told in the results."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from client.app import app
from sglora_fed.config import compose
from sglora_fed.experiments.progress import ProgressLog
from sglora_fed.experiments.run import enrolled, open_federation, run_experiment
from sglora_fed.federation.inprocess import InProcessGrid
from sglora_fed.promises import EXAMPLE_UNIT
from sglora_fed.zoo import read_store

TINY = (
    "experiment=private", "family.experts=16", "family.clients_per_split=4",
    "family.train_per_client=8", "family.test_per_client=8", "federation.generator_rounds=2",
    "federation.generator_steps=1", "experiment.tuning.dp_oracle.steps=4",
    "experiment.methods=[zero_shot,functional,shared_lora,dp_oracle]", "experiment.controls=false",
)  # fmt: skip


def test_experts_promise_one_epsilon_for_all_that_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SGLORA_FED_HOME", str(tmp_path / "home"))
    config = compose(TINY)
    grid = InProcessGrid(app, 2, {"overrides": shlex.join(TINY)})
    folder = run_experiment(config, grid, tmp_path / "out")
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    told = summary["privacy"]["training"]
    assert told["unit"] == EXAMPLE_UNIT
    assert told["per_seed"] == told["total"] == {"epsilon": 8.0, "delta": 1 / 80}
    methods = {result["method"] for result in summary["results"]}
    assert methods == {"zero_shot", "functional", "shared_lora", "dp_oracle"}
    (path,) = (tmp_path / "home" / "zoos").iterdir()
    zoo = read_store(path).load()
    assert {one and (one.steps, one.rate, one.examples) for one in zoo.promises} == {(4, 1.0, 8)}
    # Each of the 16 experts in its enrolment, and all whom noise does not make look like liars
    # in one shared round and two of the generator.
    released = list((tmp_path / "home" / "released").iterdir())
    assert len(released) == 16 + 3 * (16 - summary["counts"]["distrusted_experts"])
    # A zoo that was lost is made of the same numbers again, at no cost.
    (path / "manifest.json").unlink()
    federation = open_federation(config, grid, ProgressLog(tmp_path / "progress.jsonl"))
    again = enrolled(federation).load()
    assert (again.means == zoo.means).all()
    assert set((tmp_path / "home" / "released").iterdir()) == set(released)
