"""The cameras' study: what it trains, merges and compares, at a size that takes seconds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from sglora_fed.federation.node import Node
from sglora_fed.federation.shared import SharedRequest, train_shared_round

TINY = (
    "family.experts=8", "family.clients_per_split=2", "family.train_per_client=8",
    "family.test_per_client=8", "adapter.train.steps=2", "adapter.train.checkpoints=1",
    "federation.shared_rounds=1", "federation.shared_steps=1", "federation.generator_rounds=1",
    "federation.generator_steps=1", "generator.steps=20",
)  # fmt: skip

World = Any


@pytest.fixture(scope="module")
def world(script: Callable[[str], ModuleType], tmp_path_factory: pytest.TempPathFactory) -> World:
    made = script("study_cameras_world").World(TINY, 0, tmp_path_factory.mktemp("honest"))
    assert len(made.shared) == made.layout.size
    return made


def test_one_expert_lies_and_no_other(
    script: Callable[[str], ModuleType], world: World, tmp_path: Path
) -> None:
    liar, reconstruction = script("study_cameras_liar"), script("study_cameras_sglora")
    lying = type(world)(TINY, 0, tmp_path, lambda nodes, config: liar.OneLiar(True, nodes, config))
    one, other = world.store.load(), lying.store.load()
    row = one.ids.index(liar.LIAR)
    honest, told = (reconstruction.products(world.layout, zoo.means[:]) for zoo in (one, other))
    np.testing.assert_allclose(told[row], -honest[row], atol=1e-6)
    np.testing.assert_allclose(np.delete(told, row, 0), np.delete(honest, row, 0), atol=1e-6)


def test_a_shared_lora_moves_by_twice_what_the_liar_learnt(
    script: Callable[[str], ModuleType], world: World, tmp_path: Path
) -> None:
    liar = script("study_cameras_liar")
    lying = type(world)(TINY, 0, tmp_path, lambda nodes, config: liar.OneLiar(False, nodes, config))
    assert len(lying.zoo.ids) == len(world.zoo.ids) == 8
    request = SharedRequest(0, 1, (liar.LIAR,), world.start)
    learnt = train_shared_round(Node(world.config, 1, 2), request).mean - world.start
    np.testing.assert_allclose(lying.shared, world.shared - 2 * learnt / 8, atol=1e-6)


def test_every_client_is_measured_and_an_untrained_adapter_changes_nothing(world: World) -> None:
    bare, start = world.cells(None), world.cells(world.alike(world.start))
    assert [len(values) for values in bare.values()] == [2, 2, 2]
    assert bare == start
    assert not (world.said == world.shuffled).all(axis=1).any()


def test_products_say_what_factors_do(script: Callable[[str], ModuleType], world: World) -> None:
    tools = script("study_cameras_sglora")
    vectors = world.experts[:6]
    rows = tools.products(world.layout, vectors)
    wide, unfactored = tools.unfactored(world.layout, rows)
    np.testing.assert_allclose(tools.products(wide, unfactored), rows, atol=1e-6)
    assert world.measured(wide, unfactored) == world.measured(world.layout, vectors)


def test_the_nearest_point_of_a_span(script: Callable[[str], ModuleType]) -> None:
    tools = script("study_cameras_sglora")
    rng = np.random.default_rng(0)
    experts, row = rng.normal(size=(4, 10)), rng.normal(size=(1, 10))
    moved = tools.projected(experts, row)
    best = np.linalg.lstsq((experts[1:] - experts[0]).T, (row - experts[0])[0], rcond=None)[0]
    np.testing.assert_allclose(moved[0], experts[0] + best @ (experts[1:] - experts[0]), atol=1e-5)
    assert tools.explained(row, row, experts.mean(axis=0)) == 1
    assert tools.explained(experts.mean(axis=0), row, experts.mean(axis=0)) == 0


def test_twins_have_no_randomness(script: Callable[[str], ModuleType], world: World) -> None:
    tools, config = script("study_cameras_sglora"), world.config.generator
    kinds = [tools.SgLora, *tools.TWINS.values()]
    equal = []
    for kind in kinds:
        made = kind(config)
        made.fit(world.zoo, 0)
        one, other = (made.generate(world.said, 1, seed).adapters for seed in (0, 1))
        equal.append(bool((one == other).all()))
    assert equal == [False, True, True]


def test_training_in_one_place_follows_the_description(
    script: Callable[[str], ModuleType], world: World
) -> None:
    tools = script("study_cameras_central")
    made = tools.central(world, tools.Descent(1e-3, 2, 0.0))
    assert made.shape == (6, world.layout.size)
    assert np.abs(made - world.shared).max() > 1e-4
    assert len(np.unique(made.round(7), axis=0)) == 6


def test_weights_of_experts_stay_in_their_span(
    script: Callable[[str], ModuleType], world: World
) -> None:
    parts = world.learnt("oracle")
    made = script("study_cameras_central").best_weights(world, parts, 0.1, 2)
    moved = script("study_cameras_sglora").projected(world.experts, made)
    np.testing.assert_allclose(made, moved, atol=1e-4)
    assert np.abs(made - world.experts.mean(axis=0)).max() > 1e-3


def test_a_job_writes_its_clients_and_is_not_done_twice(
    script: Callable[[str], ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study, threads = script("study_cameras"), torch.get_num_threads()
    quick = (*TINY, "experiment.tuning.oracle.steps=1")
    told = [*quick, "--cells", str(tmp_path), "--parts", "rank", "--runs", "1", "--seeds", "0"]
    study.main(told)
    found = json.loads((tmp_path / "rank.1.0.json").read_text())
    assert set(found["cells"]) == {
        "topk", "ridge", "sglora", "functional", "shared_lora", "oracle"
    }  # fmt: skip
    assert found["numbers"] == {"distrusted": 0.0}
    capsys.readouterr()
    study.main(told)
    assert capsys.readouterr().out == ""
    torch.set_num_threads(threads)


def test_no_two_jobs_share_a_file(script: Callable[[str], ModuleType]) -> None:
    study = script("study_cameras")
    jobs = study.jobs_of([*study.PARTS, study.TUNE], study.SEEDS)
    assert len({study.place(Path(), *job) for job in jobs}) == len(jobs)


def test_the_report_is_what_the_kept_numbers_make(
    script: Callable[[str], ModuleType], results: Path
) -> None:
    table = script("study_cameras_table")
    kept = Path(table.__file__).parent / "results"
    (results / "study-cameras.json").write_bytes((kept / "study-cameras.json").read_bytes())
    table.main([])
    made = (results / "study-cameras.md").read_text(encoding="utf-8")
    assert made == (kept / "study-cameras.md").read_text(encoding="utf-8")
    assert (results / "study-cameras.png").stat().st_size > 10_000
