"""The control of the everyday topics: every list, on a few experts."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from sglora_fed.adapters.candidates import candidate_texts
from sglora_fed.backbones import load_backbone
from sglora_fed.config.schema import AdapterConfig, BackboneConfig, FamilyConfig
from sglora_fed.tasks import load_family
from sglora_fed.tasks.everyday import EVERYDAY_TOPICS

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
TINY = (
    "experiment=assistant", "family.rule_experts=8", "family.style_experts=0",
    "family.clients_per_split=1", "family.train_per_client=16", "federation.shared_rounds=1",
    "federation.shared_steps=1", "federation.generator_rounds=1", "federation.generator_steps=1",
    "adapter.train.steps=1", "adapter.train.checkpoints=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def control() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("control_everyday")


def test_every_list_is_measured_on_the_same_experts(
    control: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control.machine, "RESULTS", tmp_path)
    monkeypatch.setattr(control, "LISTS", {"none": (), "new": EVERYDAY_TOPICS})
    control.main([*TINY, "--seeds", "0"])
    written = json.loads((tmp_path / "control-everyday.json").read_text(encoding="utf-8"))
    assert set(written["accuracy"]) == {"none", "new"}
    for means in written["accuracy"].values():
        assert set(means) == {"described", "shared_lora", "generated"}
        assert all(0 <= value <= 1 for value in means.values())
    assert written["held_out"] == [2]


def test_the_new_list_gives_the_texts_that_a_run_has(control: ModuleType) -> None:
    """All but the phrase, which is there to keep a run's own topics out."""
    encoder = load_backbone(BackboneConfig(), AdapterConfig())
    config = FamilyConfig(rule_experts=4, style_experts=0, clients_per_split=1)
    for task in load_family(config).of_role("expert"):
        changed = control.with_list(encoder, task, EVERYDAY_TOPICS)
        texts, owners = candidate_texts(encoder, changed, "phrases")
        wanted, whose = candidate_texts(encoder, task, "phrases")
        assert [re.sub(control.PHRASE, "everything else", text) for text in texts] == wanted
        assert owners.tolist() == whose.tolist()
        none, _ = candidate_texts(encoder, control.with_list(encoder, task, ()), "phrases")
        assert not set(none) & set(EVERYDAY_TOPICS)
