"""Two ways of the same run: what is compared, and that the one process does the whole of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

TINY = (
    *("family.experts=6", "family.clients_per_split=2", "family.train_per_client=8"),
    *("family.test_per_client=4", "adapter.train.steps=1", "adapter.train.checkpoints=1"),
    *("generator=ridge", "experiment.methods=[zero_shot,ridge,oracle]"),
    "experiment.tuning.oracle.steps=1",
)


def test_ratios_are_of_one_turn(script: Callable[[str], ModuleType]) -> None:
    """A busy turn slows both; medians of each alone would compare different minutes."""
    turns = [
        {"warm": {"simulate": (wall, 9.0), "in_process": (alone, 8.0)}}
        for wall, alone in ((10.0, 10.0), (60.0, 40.0), (12.0, 10.0))
    ]
    found = script("bench_inprocess").summary(turns)["warm"]
    assert found["ratio"] == 1.2
    assert found["reached"]
    assert found["all_ratios"] == [1.0, 1.5, 1.2]
    assert found["simulate"] == {"seconds": 12.0, "cpu_seconds": 9.0}


def test_a_turn_that_is_not_over_counts_as_far_as_it_went(
    script: Callable[[str], ModuleType],
) -> None:
    whole = {"simulate": (12.0, 9.0), "in_process": (10.0, 8.0)}
    cut = {"simulate": (20.0, 9.0), "in_process": (10.0, 8.0)}
    found = script("bench_inprocess").summary([{"cold": whole, "warm": whole}, {"cold": cut}])
    assert found["cold"]["ratio"] == 1.6
    assert found["warm"]["ratio"] == 1.2


def test_profiles_are_added_one_by_one_to_the_results_of_the_same_run(
    script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = script("bench_inprocess")
    monkeypatch.setattr(bench.machine, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(bench, "profiled", lambda output, overrides: {"all": 1.0})
    bench.machine.write("own", {"overrides": ["a=1"], "warm": {"ratio": 1.1}})
    home = tmp_path / "home"
    with pytest.raises(SystemExit):
        bench.main(["a=1", "--name", "own", "--profile", "warm", "--home", str(home)])
    bench.main(["a=1", "--name", "own", "--profile", "cold", "--home", str(home)])
    (home / "kept").mkdir(parents=True)
    with pytest.raises(SystemExit):
        bench.main(["a=1", "--name", "own", "--profile", "cold", "--home", str(home)])
    bench.main(["a=1", "--name", "own", "--profile", "warm", "--home", str(home)])
    found = json.loads((tmp_path / "results" / "own.json").read_text())
    assert found["warm"] == {"ratio": 1.1}
    assert [found["profile"][state]["all"] for state in ("cold", "warm")] == [1.0, 1.0]
    bench.main(["a=2", "--name", "own", "--profile", "warm", "--home", str(home)])
    found = json.loads((tmp_path / "results" / "own.json").read_text())
    assert found.keys() == {"overrides", "profile"}
    assert found["profile"].keys() == {"warm"}


def test_the_one_process_does_the_whole_run_and_knows_its_stages(
    script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SGLORA_FED_HOME", str(tmp_path / "home"))
    stages = script("bench_inprocess").profiled(tmp_path / "results", TINY)
    assert (tmp_path / "results" / "summary.json").exists()
    assert 0 < stages["scoring"] < stages["compare"] < stages["all"]
    assert stages["fine_tuning"] > 0
    assert 0 < stages["evaluation_share"] < 1


def test_commands_are_the_same_run(script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    made = script("bench_inprocess").commands(["family.experts=6"])
    assert set(made) == {"simulate", "in_process"}
    for make in made.values():
        command = make(tmp_path)
        assert "family.experts=6" in command
        assert command[-1] == str(tmp_path)
    wall, cpu = script("bench_inprocess").timed(["true"], tmp_path)
    assert 0 <= cpu <= wall + 1
