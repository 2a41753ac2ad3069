"""The study runs whole federations, on any family."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from sglora_fed.config import compose
from sglora_fed.tasks import load_family
from sglora_fed.tasks.export import write_family

CAMERAS = ("family=cameras", "backbone=cameras", "adapter=cameras")
TINY = (
    *CAMERAS, "family.experts=8", "family.clients_per_split=1", "family.train_per_client=8",
    "family.test_per_client=8", "adapter.train.steps=1", "adapter.train.checkpoints=1",
    "federation.shared_rounds=1", "federation.shared_steps=1", "federation.generator_rounds=1",
    "federation.generator_steps=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def study(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("study")


def test_runs_are_pooled_over_seeds_and_compared(study: ModuleType, results: Path) -> None:
    home = os.environ["SGLORA_FED_HOME"]
    study.main([*TINY, "--seeds", "0", "1", "--parts", "junk"])
    assert os.environ["SGLORA_FED_HOME"] == home
    found = json.loads((results / "conditions-cameras.json").read_text())
    own, junk = found["parts"]["junk"].values()
    assert found["metric"] == "r1"
    assert {one["method"] for one in own} == {"functional", "ridge", "shared_lora", "topk"}
    assert {one["cells"] for one in own if one["split"] == "new_element"} == {2}
    less = {(one["method"], one["split"]): one["minus_reference"]["mean"] for one in junk}
    assert less["shared_lora", "all"] == 0
    page = (results / "conditions-cameras.md").read_text()
    assert page.count("\n| the same junk for all |") == 4


def test_few_experts_are_few(study: ModuleType, tmp_path: Path) -> None:
    condition = study.PARTS["experts"]["experts of 1 of 4 nodes"]
    summary, rows = study.run(condition, TINY, 0, tmp_path)
    assert summary["counts"]["experts"] == 2
    assert summary["counts"]["refused_replies"] == 0
    assert len({row.client for row in rows}) == summary["counts"]["clients"] > 1


def test_a_liars_replies_are_taken_and_do_not_end_the_run(
    study: ModuleType, tmp_path: Path
) -> None:
    condition = study.PARTS["liars"]["one of 5 flips its experts"]
    summary, _ = study.run(condition, TINY, 0, tmp_path)
    counts = summary["counts"]
    assert counts["experts"] + counts["distrusted_experts"] == 8
    assert not (tmp_path / "zoos").exists()


def test_a_client_is_another_one_when_its_task_is(study: ModuleType, tmp_path: Path) -> None:
    drawn = [compose([*TINY, f"family.seed={seed}"]) for seed in (0, 1)]
    assert not set(study.task_names(drawn[0]).values()) & set(study.task_names(drawn[1]).values())
    write_family(load_family(drawn[0].family), tmp_path)
    fixed = [f"family.path={tmp_path}", "backbone=cameras", "adapter=cameras", "family=local"]
    first, second = (study.task_names(compose([*fixed, f"family.seed={seed}"])) for seed in (0, 1))
    assert first == second
