"""The study of experts' places: one tiny federation, and differences of known recalls."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def study(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("study_catalogue")


def test_a_way_is_measured(study: ModuleType, tmp_path: Path) -> None:
    small = (
        "family.experts=16", "family.clients_per_split=2", "family.train_per_client=4",
        "family.test_per_client=4", "adapter.train.steps=1", "adapter.train.checkpoints=1",
        "federation.shared_rounds=1", "federation.shared_steps=1", "federation.generator_rounds=1",
        "federation.generator_steps=1",
    )  # fmt: skip
    found = study.measured("cpu", small, tmp_path, (study.CLEAR, 0))
    assert {split: len(cells) for split, cells in found.items()} == {
        "new_combination": 2, "new_words": 2, "new_element": 2,
    }  # fmt: skip


def test_each_way_stands_beside_words_in_clear(study: ModuleType) -> None:
    found = {
        (study.CLEAR, 0): {"a": [0.9, 0.7]}, ("x", 0): {"a": [0.5, 0.5]},
        (study.CLEAR, 1): {"a": [0.6, 0.8]}, ("x", 1): {"a": [0.6, 0.6]},
    }  # fmt: skip
    clear, other = study.rows(found)
    assert (clear["beside_clear"], clear["ci95_half"]) == (0, 0)
    assert (other["recall"], other["by_seed"], other["beside_clear"]) == (0.55, [0.5, 0.6], -0.2)
    # Student's t with one degree of freedom, 12.706, times the standard error of -.3 and -.1.
    assert other["ci95_half"] == pytest.approx(1.2706, abs=1e-4)
