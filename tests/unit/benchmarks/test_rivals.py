"""The same work, one by one and several at once, ends in the same mean; rates are compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from sglora_fed.federation.inprocess import InProcessGrid

Load = Callable[[str], ModuleType]


def test_one_client_a_message_trains_what_several_do(script: Load) -> None:
    work, flower = script("rivals.work"), script("rivals.flower.flower_round")
    names = work.names(3)
    means = []
    for kind in ("batched", "lora"):
        groups = flower.groups_of(kind, 3)
        assert sorted(name for group in groups for name in group) == sorted(names)
        grid = InProcessGrid(flower.client, len(groups), {})
        means.append(flower.lora(grid, groups)())
    assert np.linalg.norm(means[0] - work.start()) > 0.1
    assert means[1] == pytest.approx(means[0], abs=1e-5)


def test_every_client_of_plain_flower_has_two_messages(script: Load) -> None:
    work, flower = script("rivals.work"), script("rivals.flower.flower_round")
    seen: list[str] = []

    class Watched(InProcessGrid):
        def _answer(self, message: Any) -> Any:
            seen.append(message.metadata.message_type)
            return super()._answer(message)

    mean = flower.noop(Watched(flower.client, 3, {}), 3)()
    assert mean == pytest.approx(work.description())
    assert sorted(seen) == ["evaluate.compare"] * 3 + ["query.describe"] * 3


def test_a_client_refuses_what_is_no_adapter(script: Load) -> None:
    work = script("rivals.work")
    row = work.adapters(1)[0]
    assert work.measured(row) == 0
    for wrong in (row[1:], np.full_like(row, np.nan)):
        with pytest.raises(ValueError, match="not an adapter"):
            work.measured(wrong)


def test_the_driver_divides_rates_and_keeps_turns(
    script: Load, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = script("rivals.run")
    times = {("ours", "batched"): 2.0, ("flower", "lora"): 4.0, ("pfl", "lora"): 6.0}
    times |= {("flower", "noop"): 10.0, ("pfl", "noop"): 2.0}
    monkeypatch.setattr(run, "OURS", 5000)
    monkeypatch.setattr(run, "ours", lambda: {"seconds": 1.0, "mean": []})
    monkeypatch.setattr(
        run, "measured", lambda e, _: {"seconds": times[e.name, e.kind], "mean": [1.0, 2.0]}
    )
    run.main(["nowhere", "--repeats", "2", "--skip", "nvflare"])
    found = json.loads((results / "rivals.json").read_text())
    assert found["noop"]["pfl"] == {
        "clients": 5000,
        "turns": [2500.0, 2500.0],
        "clients_per_second": 2500.0,
    }
    assert found["noop"]["ours_times"] == {"flower": 100.0, "pfl": 2.0}
    assert all(goal["reached"] for goal in found["noop"]["goals"].values())
    assert found["lora"]["ours_times"] == {"flower": 2.0, "pfl": 3.0}
    assert found["lora"]["distance"] == {"flower": 0.0, "pfl": 0.0}


def test_another_mean_is_not_the_same_training(script: Load) -> None:
    run = script("rivals.run")
    turns = {"ours": [{"mean": [1.0, 0.0]}], "pfl": [{"mean": [1.0, 0.001]}]}
    with pytest.raises(SystemExit, match="other means than ours"):
        run.distances([e for e in run.LORA if e.name in turns], turns)


def test_a_turn_that_fails_says_why(script: Load, tmp_path: Path) -> None:
    run = script("rivals.run")
    with pytest.raises(SystemExit, match=r"nobody, noop: .*can't open file"):
        run.measured(run.Entry("nobody", "nowhere.py", "noop", 1), tmp_path)
