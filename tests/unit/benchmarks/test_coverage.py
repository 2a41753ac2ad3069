"""The coverage study runs at small size, and its worlds are what they say."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

# By its path: an installed package is called benchmarks too.
PATH = Path(__file__).parents[3] / "benchmarks" / "coverage.py"
SPEC = importlib.util.spec_from_file_location("coverage_study", PATH)
coverage = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(coverage)


def test_the_command_writes_every_number(tmp_path, monkeypatch, capsys):
    path = tmp_path / "coverage.json"
    monkeypatch.setattr(sys, "argv", ["coverage", "--trials", "2", "--output", str(path)])
    monkeypatch.setattr(coverage, "CLIENTS", (2, 8))
    coverage.main()
    found = json.loads(path.read_text())
    assert len(found["one_seed"]) == 2 * len(coverage.WORLDS)
    assert len(found["several_seeds"]) == 2 * 3 * 2 * 3
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(rows) == 4 + len(found["one_seed"]) + len(found["several_seeds"])


def test_kept_numbers_are_of_the_intervals_in_use():
    found = json.loads(coverage.RESULT.read_text())
    (kept,) = [
        row for row in found["one_seed"] if (row["world"], row["clients"]) == ("accuracy .6", 8)
    ]
    rng = np.random.default_rng(11)
    values = np.stack([coverage.middling(rng, (8, 1)) for _ in range(1500)])
    assert coverage.student(values, 0.6).mean() == pytest.approx(kept["Student"], abs=0.02)


def test_the_planted_mean_is_the_middle_of_the_world():
    rng = np.random.default_rng(12)
    assert coverage.middling(rng, (200_000, 1)).mean() == pytest.approx(0.6, abs=0.002)
    assert coverage.near_ceiling(rng, (200_000, 1)).mean() == pytest.approx(0.95, abs=0.002)
    values = coverage.crossed(rng, (50_000, 2, 3), 1.0, 0.5)
    assert values.mean() == pytest.approx(0, abs=0.02)
    assert values.var() == pytest.approx(1 + 0.25 + 0.25, rel=0.02)
