"""The studies of attacks run at small size."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from sglora_fed.backbones import load_describer
from sglora_fed.config import compose
from sglora_fed.privacy import NoMechanism

Script = Callable[[str], ModuleType]


def test_requests(
    script: Script, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    attacks = script("attacks")
    monkeypatch.setattr(attacks, "EPSILONS", (1.0,))
    monkeypatch.setattr(attacks, "TIMES", (1, 2, 3))
    monkeypatch.setattr(attacks, "ROOMS", attacks.ROOMS[:2])
    sizes = ["--trials", "40", "--conditions", "4", "--clients", "2"]
    monkeypatch.setattr(sys, "argv", ["attacks", *sizes])
    attacks.main()
    found = json.loads((results / "attacks.json").read_text())["rows"]
    assert {row["attack"].split(",")[0] for row in found} >= {"condition", "words", "repetition"}
    clear = {row["attack"]: row["success"] for row in found if row["mechanism"] == "none"}
    assert clear["condition"] == 1
    assert (results / "attacks.png").stat().st_size > 10_000
    assert "| condition | krr | 1.0 |" in capsys.readouterr().out


def test_the_catalogue_tells_conditions_apart(script: Script) -> None:
    attacks = script("attacks")
    one = attacks.world(3)
    assert len(one.texts) == 24
    again = load_describer(compose([]).backbone).encode([one.texts[9]])[0]
    assert np.abs(again - one.rows[9]).max() < 1e-6
    assert attacks.release(NoMechanism(384), one.rows[:2]).shape == (2, 384)


def test_the_zoo(script: Script, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attacks = script("attacks_zoo")
    sizes = ["--experts", "10", "--pairs", "8", "--rounds", "1", "--shadows", "2"]
    monkeypatch.setattr(sys, "argv", ["attacks_zoo", *sizes])
    attacks.main()
    (run,) = json.loads((results / "attacks-zoo.json").read_text())["runs"]
    assert len(run["rows"]) == 12
    assert all(0 <= row["auc"] <= 1 for row in run["rows"])


def test_errors_are_of_experts_not_of_their_records(script: Script) -> None:
    """Records of an expert that all score alike say no more than one."""
    table, rng = script("attacks_zoo_table"), np.random.default_rng(0)
    scores, inside = rng.normal(size=(40, 1)), rng.random((40, 1)) < 0.5
    alone = table.between_experts(scores, inside)
    many = table.between_experts(np.repeat(scores, 50, axis=1), np.repeat(inside, 50, axis=1))
    np.testing.assert_allclose(many, alone)
    assert 0.07 < alone < 0.13  # Hanley & McNeil: .092 for 20 against 20 at an AUC of .5


def test_each_pair_is_in_half_of_the_shadows(script: Script) -> None:
    members = script("attacks_zoo").draw_members(3, 5, 4)
    assert members.shape == (5, 3, 10)
    assert (members.sum(axis=2) == 5).all()
    assert (members[1:].sum(axis=0) == 2).all()
