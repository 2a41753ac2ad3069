"""Sweeps: what is run, what is not run again, and what is kept of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sglora_fed.config import compose, config_sha256, config_yaml
from sglora_fed.errors import ConfigError, LaunchError, SweepError
from sglora_fed.experiments.finish import write_results
from sglora_fed.experiments.sweep import Combination, expand, plan, run_sweep
from sglora_fed.results.rows import Row
from sglora_fed.results.summary import RunFacts

SMALL = (
    "family.rule_experts=8",
    "family.style_experts=0",
    "family.clients_per_split=4",
)


def facts_of(one: Combination) -> RunFacts:
    return RunFacts(
        name=one.config.name,
        generator=one.config.generator.name,
        seeds=one.config.seeds,
        seconds=1.0,
        config_sha256=config_sha256(one.config),
        versions={},
        experts=8,
        clients=2,
        virtual_clients_per_node=1,
        refused_replies=0,
        distrusted_experts=0,
        privacy={"mechanism": "none", "epsilon": None, "delta": None, "unit": "one description"},
        bytes_per_client={"up": 1, "down": 1},
        seconds_by_stage={},
        seconds_by_method={},
        bytes_by_method={},
        confidence={},
    )


class Runner:
    """Writes real results in which every client has what ``values`` says; keeps what it ran."""

    def __init__(self, values: Callable[[Combination], dict[str, list[float]]]) -> None:
        self.values = values
        self.ran: list[str] = []

    def __call__(self, one: Combination, folder: Path) -> None:
        self.ran.append(one.folder)
        rows = [
            Row(f"{split}-{client}", split, 0, method, "accuracy", value)
            for method, own in self.values(one).items()
            for split in ("new_rule", "combo")
            for client, value in enumerate(own)
        ]
        write_results(folder, rows, facts_of(one), config_yaml(one.config))


def equal_values(one: Combination) -> dict[str, list[float]]:
    return {"zero_shot": [0.25, 0.25], one.config.generator.name: [0.5, 0.5]}


def chosen(overrides: Sequence[str]) -> list[list[str]]:
    return [list(everything) for _, everything in expand(overrides)]


def problems(*overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        plan(overrides)
    return caught.value.problems


class TestExpansion:
    def test_without_a_list_there_is_one_run(self) -> None:
        assert expand(["seeds=[0,1]", "name='a,b'"]) == [((), ("seeds=[0,1]", "name='a,b'"))]
        assert expand([]) == [((), ())]

    def test_the_last_list_varies_fastest(self) -> None:
        assert chosen(["adapter.rank=2,4", "seeds=[0]", "generator=topk,ridge"]) == [
            ["adapter.rank=2", "seeds=[0]", "generator=topk"],
            ["adapter.rank=2", "seeds=[0]", "generator=ridge"],
            ["adapter.rank=4", "seeds=[0]", "generator=topk"],
            ["adapter.rank=4", "seeds=[0]", "generator=ridge"],
        ]

    def test_only_what_has_a_list_is_swept(self) -> None:
        swept = [found for found, _ in expand(["adapter.rank=2,4", "name=x"])]
        assert swept == [("adapter.rank=2",), ("adapter.rank=4",)]

    def test_quoted_commas_and_brackets_hold_together(self) -> None:
        found = plan([*SMALL, "name='a,b',c", "seeds=[0,1],[2]"])
        assert [(one.config.name, one.config.seeds) for one in found] == [
            ("a,b", (0, 1)),
            ("a,b", (2,)),
            ("c", (0, 1)),
            ("c", (2,)),
        ]

    def test_folders_have_safe_names_of_their_own(self) -> None:
        long = "x" * 300
        found = plan([*SMALL, f"name='../up','a/b c','a/b\\\\c','..',{long},'ü'", "seeds=[0],[1]"])
        names = [one.folder for one in found]
        assert names[:3] == ["01-up-0", "02-up-1", "03-a_b_c-0"]
        assert len(set(names)) == 12
        assert all(set(name) <= set("-._x0123456789abcup") for name in names)
        assert max(map(len, names)) <= 60


class TestMistakes:
    def test_of_all_combinations_at_once(self) -> None:
        found = problems(
            "generator=topk,magic", "generator.kl_weight=1,-1", "adapter.rank=many", "no.such=1"
        )
        text = "\n".join(found)
        assert len(found) == 4
        assert "generator=magic: generator must be one of" in text
        assert "kl_weight=-1.0: must be a number >= 0" in text
        assert text.count("adapter.rank='many'") == 1
        assert text.count("no.such=1") == 1

    def test_a_combination_that_only_its_tasks_forbid(self, tmp_path: Path) -> None:
        found = problems(f"family.path={tmp_path}/none", "family=local", "adapter.rank=2,0")
        assert any(f"{tmp_path}/none" in problem and "SGL-201" in problem for problem in found)
        assert any("adapter.rank=0: must be" in problem for problem in found)

    def test_the_combination_is_named_when_others_are_right(self) -> None:
        (found,) = problems(*SMALL, "generator=topk,ridge", "family.clients_per_split=4,4000")
        assert found.startswith("with generator=topk, family.clients_per_split=4000: [SGL-200]")

    @pytest.mark.parametrize("value", ["range(1,3)", "shuffle(1,2)", "interval(1,2)"])
    def test_only_plain_lists_are_taken(self, value: str) -> None:
        (found,) = problems(f"adapter.rank={value}")
        assert "one value only" in found

    @pytest.mark.parametrize("values", ["1,1", "1,1.0"])
    def test_one_run_twice(self, values: str) -> None:
        (found,) = problems(*SMALL, f"generator.kl_weight={values}")
        assert "the same run as generator.kl_weight=1" in found

    @pytest.mark.parametrize("override", ["adapter.rank=2,4", "generator=topk,ridge"])
    def test_one_run_takes_no_list_and_says_what_does(self, override: str) -> None:
        with pytest.raises(ConfigError, match="sglora-fed sweep") as caught:
            compose([override])
        assert override in str(caught.value)


class TestRuns:
    def test_a_finished_run_is_not_run_again(self, tmp_path: Path) -> None:
        runner, runs = Runner(equal_values), plan([*SMALL, "generator=topk,ridge"])
        run_sweep(runs, tmp_path, runner)
        assert runner.ran == ["01-topk", "02-ridge"]
        run_sweep(runs, tmp_path, runner)
        assert runner.ran == ["01-topk", "02-ridge"]

    def test_another_configuration_is_run_again(self, tmp_path: Path) -> None:
        runner = Runner(equal_values)
        run_sweep(plan([*SMALL, "generator=topk,ridge"]), tmp_path, runner)
        finished = run_sweep(
            plan([*SMALL, "generator=topk,ridge", "adapter.rank=2"]), tmp_path, runner
        )
        assert runner.ran == ["01-topk", "02-ridge"] * 2
        wanted = {config_sha256(compose([*SMALL, "generator=topk", "adapter.rank=2"]))}
        assert {finished[0].summary["run"]["config_sha256"]} == wanted

    def test_a_run_without_its_last_file_is_run_again(self, tmp_path: Path) -> None:
        runner, runs = Runner(equal_values), plan([*SMALL, "generator=topk,ridge"])
        run_sweep(runs, tmp_path, runner)
        (tmp_path / "02-ridge" / "summary.json").unlink()
        run_sweep(runs, tmp_path, runner)
        assert runner.ran == ["01-topk", "02-ridge", "02-ridge"]

    def test_a_relative_path_is_recognised_as_the_servers(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (one,) = plan([*SMALL, "zoo.path=my-zoo"])
        assert one.config.zoo.path == str(tmp_path / "my-zoo")
        # The server composes what it is sent.
        assert config_sha256(compose(one.overrides)) == config_sha256(one.config)

    def test_a_failing_run_stops_the_sweep_which_continues_there(self, tmp_path: Path) -> None:
        output, broken = tmp_path / "a sweep", True
        runner = Runner(equal_values)

        def run(one: Combination, folder: Path) -> None:
            if broken and one.number == 2:
                raise LaunchError("no memory")
            runner(one, folder)

        runs = plan([*SMALL, "generator=topk,ridge,soup"])
        with pytest.raises(SweepError, match=r"02-ridge: \[SGL-803\] no memory") as caught:
            run_sweep(runs, output, run)
        assert f"--output '{output}' continues" in str(caught.value)
        assert [one["folder"] for one in sweep_json(output)] == ["01-topk"]
        assert not (output / "sweep.html").exists()
        broken = False
        run_sweep(runs, output, run)
        assert runner.ran == ["01-topk", "02-ridge", "03-soup"]
        assert len(sweep_json(output)) == 3
        assert (output / "sweep.html").exists()


def sweep_json(output: Path) -> list[dict[str, object]]:
    kept = json.loads((output / "sweep.json").read_text())
    assert kept["schema"] == 1
    return kept["runs"]


def test_what_is_kept_of_each_run(tmp_path: Path) -> None:
    means = {"topk": [0.5, 0.75], "ridge": [1.0, 1.0]}
    runner = Runner(lambda one: {"oracle": [1.0, 1.0], **{m: means[m] for m in means}})
    overrides = [*SMALL, "generator=topk,ridge"]
    run_sweep(plan(overrides), tmp_path, runner)
    first, second = sweep_json(tmp_path)
    assert (first["folder"], first["overrides"]) == ("01-topk", ["generator=topk"])
    assert (first["adopted"], second["adopted"]) == ("topk", "ridge")
    assert first["config_sha256"] == config_sha256(compose([*SMALL, "generator=topk"]))
    assert first["metric"] == "accuracy"
    # Two clients a quarter apart: 12.7 standard errors to either side, as far as values go.
    sure = {"mean": 1.0, "ci95": [1.0, 1.0]}
    wanted = {
        "topk": {"mean": 0.625, "ci95": [0.0, 1.0]},
        "ridge": sure,
        "oracle": sure,
    }
    assert first["results"] == {
        method: {"new_rule": value, "combo": value} for method, value in wanted.items()
    }
    assert (tmp_path / "01-topk" / "report.html").is_file()


def test_the_study_of_generators_and_what_the_command_line_changes_in_it() -> None:
    study, usual = compose(["experiment=generators"]), compose(["experiment=assistant"])
    assert study.seeds == (0, 1, 2)
    assert (study.family.unseen_forms, study.family.unseen_styles) == (True, 2)
    same = {"clients_per_split": 24, "unseen_forms": True, "unseen_styles": 2}
    assert study == replace(usual, seeds=(0, 1, 2), family=replace(usual.family, **same))
    mine = compose(["seeds=[5]", "experiment=generators", "family.unseen_forms=false"])
    assert (mine.seeds, mine.family.unseen_forms) == ((5,), False)
    few = ["experiment=generators", "experiment.controls=false"]
    assert not compose(few).experiment.controls


def test_the_study_of_generators_has_every_kind_of_unseen_task() -> None:
    from sglora_fed.report.words import SPLITS
    from sglora_fed.tasks import load_family

    family = load_family(compose(["experiment=generators"]).family)
    assert {task.split for task in family.of_role("client")} == set(SPLITS) - {
        "new_class",
        "new_combination",
        "new_element",
    }
