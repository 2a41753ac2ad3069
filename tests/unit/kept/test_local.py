"""What clients trained themselves is found again for the same task, and for no other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sglora_fed.adapters.layout import Layout, initial_vector, layout_of
from sglora_fed.backbones import load_backbone
from sglora_fed.config.schema import AdapterConfig, BackboneConfig, TrainConfig
from sglora_fed.kept.local import Lesson, train_or_recall
from sglora_fed.tasks.types import Example, Task

CONFIG = TrainConfig(steps=1, batch_size=2, checkpoints=1)


def lesson(layout: Layout, first: str, second: str) -> Lesson:
    examples = (Example("book a flight", "a"), Example("who won the match", "b"))
    task = Task(
        id="t",
        description="travel is urgent",
        labels={"a": "now", "b": "later"},
        train=examples,
        test=examples,
        role="client",
        split="new_rule",
        hints={"a": first, "b": second},
    )
    return Lesson(task, examples, initial_vector(layout, 0).numpy(), 0)


def test_a_phrase_that_moves_to_another_label_is_another_lesson(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SGLORA_FED_HOME", str(tmp_path))
    adapter = AdapterConfig()
    encoder = load_backbone(BackboneConfig(), adapter)
    layout = layout_of(encoder.model, encoder.adaptable(), adapter.rank, adapter.alpha)
    lessons = [
        lesson(layout, "travel, money", "sports"),
        lesson(layout, "travel", "money, sports"),
        lesson(layout, "travel, money", "sports"),
    ]
    vectors, _ = train_or_recall(encoder, layout, CONFIG, lessons, "phrases")
    assert len(list((tmp_path / "kept" / "trained_alone").iterdir())) == 2
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert not np.array_equal(vectors[0], vectors[1])
    again, _ = train_or_recall(encoder, layout, CONFIG, lessons[:1], "phrases")
    np.testing.assert_array_equal(again[0], vectors[0])
    assert len(list((tmp_path / "kept" / "trained_alone").iterdir())) == 2
