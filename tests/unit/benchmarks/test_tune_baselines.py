"""Rates and steps are chosen on held-out experts: by the whole command, on a few of them."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml

from sglora_fed.config import compose
from sglora_fed.config.schema import TRAINED_METHODS, TuningConfig
from sglora_fed.tasks import load_family
from sglora_fed.tasks.types import Example, Task

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
TINY = (
    "experiment=assistant", "family.rule_experts=6", "family.style_experts=2",
    "family.clients_per_split=1", "family.train_per_client=32",
    "federation.shared_rounds=1", "federation.shared_steps=1",
    "federation.generator_rounds=1", "federation.generator_steps=1",
    "adapter.train.steps=1", "adapter.train.checkpoints=1",
)  # fmt: skip
RATES, STEPS = (1e-9, 5e-3), (1, 2)


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("tune_baselines")


@pytest.fixture(scope="module")
def told(bench: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the command wrote, and what it printed."""
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench.machine, "RESULTS", folder)
        printed: list[str] = []
        patch.setattr("builtins.print", lambda text: printed.append(str(text)))
        options = ["--seeds", "0", "1", "--rates", *map(str, RATES), "--steps", *map(str, STEPS)]
        bench.main([*TINY, *options])
    written = json.loads((folder / "tuning-assistant.json").read_text(encoding="utf-8"))
    return {"written": written, "printed": yaml.safe_load(printed[-1])}


def test_what_is_chosen_is_near_the_best_and_nothing_cheaper_is(told: dict[str, Any]) -> None:
    written = told["written"]
    assert set(written["chosen"]) == set(TRAINED_METHODS)
    assert told["printed"] == {"tuning": written["chosen"]}
    for name, best in written["chosen"].items():
        table = np.array(written["accuracy"][name])
        assert table.shape == (len(RATES), len(STEPS))
        row, column = RATES.index(best["lr"]), STEPS.index(best["steps"])
        assert table[row, column] >= table.max() - 0.0051, "means are rounded to four digits"
        assert table[row, column] == table[:, column].max()
        assert (table[:, :column] < table.max() - 0.0049).all()
    overrides = [
        f"experiment.tuning.{name}.{key}={value}"
        for name, best in written["chosen"].items()
        for key, value in best.items()
    ]
    tuning = compose(overrides).experiment.tuning
    assert all(getattr(tuning, n).lr == best["lr"] for n, best in written["chosen"].items())


def test_a_choice_by_hand(bench: ModuleType) -> None:
    means = {(1e-3, 10): 0.794, (2e-3, 10): 0.796, (5e-3, 10): 0.797, (1e-3, 20): 0.8}
    tuned = {bench.FineTuning(*point): mean for point, mean in means.items()}
    assert bench.best(tuned) == bench.FineTuning(5e-3, 10)
    assert bench.best(tuned | {bench.FineTuning(1e-3, 20): 0.9}) == bench.FineTuning(1e-3, 20)


def test_the_defaults_are_what_the_kept_grid_chooses(bench: ModuleType) -> None:
    """Worked out again from the whole grid, not read from its last lines."""
    path = BENCHMARKS / "results" / "tuning-assistant.json"
    kept = json.loads(path.read_text(encoding="utf-8"))
    for name in TRAINED_METHODS:
        rows = zip(kept["rates"], kept["accuracy"][name], strict=True)
        means = {
            bench.FineTuning(rate, steps): mean
            for rate, row in rows
            for steps, mean in zip(kept["steps"], row, strict=True)
            if mean is not None
        }
        assert getattr(TuningConfig(), name) == bench.best(means)


def test_a_rate_that_moves_nothing_measures_the_start(told: dict[str, Any]) -> None:
    accuracy = told["written"]["accuracy"]
    starts = {"local": "untrained", "oracle": "untrained", "shared": "shared"}
    for name in TRAINED_METHODS:
        start = starts.get(name.split("_")[0], "generated")
        assert accuracy[name][0] == accuracy[f"none: {start}"][0] * len(STEPS)


def test_nobodys_test_examples_and_no_client_are_touched(bench: ModuleType) -> None:
    config = compose(TINY)
    family = load_family(config.family)
    experts = family.of_role("expert")
    world = bench.HeldOut(TINY, 0, experts)
    assert len(world.judges) == 2
    ids = [task.id for task in (*world.judges, *world.experts)]
    assert sorted(ids) == sorted(task.id for task in experts)
    known = {task.id: task for task in experts}
    for judge in world.judges:
        whole = known[judge.id]
        assert sorted(map(str, judge.train + judge.test)) == sorted(map(str, whole.train))
        assert not set(judge.train) & set(judge.test)
    assert world.judges != bench.HeldOut(TINY, 1, experts).judges


def test_what_is_held_back_has_an_equal_share_of_each_label(bench: ModuleType) -> None:
    import held_out

    examples = tuple(
        Example(f"{key} {n}", key) for key, n in (("a", 9), ("b", 8)) for n in range(n)
    )
    task = Task("t", "d", {"a": "x", "b": "y"}, examples, examples[:1] + examples[-1:])
    back = held_out.held_back(task, 0)
    assert [e.label for e in back.test] == ["a", "a", "b", "b"]
    assert sorted(map(str, back.train + back.test)) == sorted(map(str, examples))
    assert replace(back, train=task.train, test=task.test) == task
    assert held_out.held_back(task, 0) == back
