"""What a node measures in NumPy is what it would measure with torch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sglora_fed.backbones import light_backbone
from sglora_fed.backbones.arithmetic import Adapter
from sglora_fed.config import compose
from sglora_fed.edge import measuring
from sglora_fed.edge.answering import OwnersNode
from sglora_fed.edge.measuring import FEW, measured
from sglora_fed.privacy.floor import UNTOLD
from sglora_fed.tasks import load_family
from sglora_fed.tasks.types import Task


def node_of(experiment: str, number: int, every: int) -> tuple[OwnersNode, Task, np.ndarray]:
    config = compose([f"experiment={experiment}"])
    task = load_family(config.family).of_role("client")[number]
    task = replace(task, test=task.test[::every])
    node = OwnersNode(config, 0, 1, None, UNTOLD, task)
    rng = np.random.default_rng(0)
    return node, task, rng.normal(scale=0.1, size=node.layout.size).astype(np.float32)


@pytest.mark.parametrize(("experiment", "number"), [("assistant", 0), ("cameras", 3)])
def test_scores_and_metrics_are_those_of_torch(
    experiment: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, task, vector = node_of(experiment, number, 4)
    plain = light_backbone(node.config.backbone)
    assert plain is not None
    hints, adapter = node.config.adapter.hints, Adapter(node.layout, vector)
    mine = measuring._by_numpy(plain, task, adapter, hints)
    theirs = measuring._by_torch(node, task, vector)
    for own, wanted in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(own, wanted, atol=1e-4)
    assert np.abs(mine[0] - mine[1]).max() > 0.1
    found = measured(node, task, vector)
    monkeypatch.setattr(measuring, "FEW", 0)
    assert measured(node, task, vector) == found


def test_labels_of_several_texts_are_scored_as_torch_scores_them() -> None:
    """The first client of the assistant has a label that means the rest, with topics beside it."""
    node, task, vector = node_of("assistant", 0, 8)
    plain = light_backbone(node.config.backbone)
    assert plain is not None
    said = measuring.compared(plain, task, task.test, node.config.adapter.hints)
    assert len(said.texts) > len(task.labels)
    adapter = Adapter(node.layout, vector)
    mine = measuring._by_numpy(plain, task, adapter, node.config.adapter.hints)
    theirs = measuring._by_torch(node, task, vector)
    assert mine[0].shape == (len(task.test), len(task.labels))
    np.testing.assert_allclose(mine[:2], theirs[:2], atol=1e-4)


def test_many_examples_are_worth_torch() -> None:
    node, task, vector = node_of("cameras", 0, 50)
    measured(node, task, vector)
    assert "encoder" not in vars(node)
    measured(node, replace(task, test=task.test * (FEW // 2 + 1)), vector)
    assert "encoder" in vars(node)
