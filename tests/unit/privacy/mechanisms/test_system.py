"""Randomness of the operating system: right in distribution, and nothing repeats it."""

from __future__ import annotations

import ast
import multiprocessing
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from sglora_fed.config.schema import PrivacyConfig
from sglora_fed.privacy.mechanisms import system


def _normals(count: int) -> np.ndarray:
    np.random.seed(0)
    return system.system_normals(count)


def test_whole_numbers_are_equally_likely() -> None:
    counts = np.bincount([system.below(7) for _ in range(70_000)], minlength=7)
    assert stats.chisquare(counts).pvalue > 1e-6


def test_places_are_inside_and_uniform() -> None:
    drawn = [system.system_uniform() for _ in range(20_000)]
    assert 0 < min(drawn) < max(drawn) < 1
    assert stats.kstest(drawn, "uniform").pvalue > 1e-6


class TestSystemNoise:
    def test_scale_and_shape_of_the_distribution(self) -> None:
        noise = system.system_normals(100_000)
        assert noise.std() == pytest.approx(1, rel=0.01)
        low, high = stats.chi2.ppf([1e-7, 1 - 1e-7], len(noise))
        assert low < float(noise @ noise) < high
        assert stats.kstest(noise, "norm").pvalue > 1e-7

    def test_neighbours_are_uncorrelated(self) -> None:
        noise = system.system_normals(100_000)
        assert abs(float(noise[1:] @ noise[:-1])) / len(noise) < 0.02

    @pytest.mark.parametrize(
        ("byte", "value"),
        [(b"\xff", stats.norm.ppf(0.5 - 2.0**-54)), (b"\x00", stats.norm.isf(2.0**-54))],
    )
    def test_extreme_bits_give_finite_noise(
        self, byte: bytes, value: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(system.secrets, "token_bytes", lambda size: byte * size)
        noise = system.system_normals(3)
        assert np.isfinite(noise).all()
        assert noise.tolist() == pytest.approx([value] * 3)

    def test_forks_draw_different_noise(self) -> None:
        with multiprocessing.get_context("fork").Pool(2) as pool:
            drawn = pool.map(_normals, [4] * 8, chunksize=1)
        assert len({values.tobytes() for values in [*drawn, _normals(4)]}) == 9

    def test_fresh_processes_draw_different_noise(self) -> None:
        module = "sglora_fed.privacy.mechanisms.system"
        code = f"from {module} import system_normals as n; print(n(4).tolist())"
        root = Path(system.__file__).parents[3]
        command = [sys.executable, "-c", code]
        runs = [subprocess.run(command, cwd=root, capture_output=True, check=True) for _ in "ab"]
        assert runs[0].stdout != runs[1].stdout

    def test_nothing_can_seed_it(self) -> None:
        assert not [item.name for item in fields(PrivacyConfig) if "seed" in item.name]
        folder = Path(system.__file__).parents[1]
        # Audits and attacks are experiments: theirs have seeds, and they release nothing.
        tried = {folder / "audit", folder / "attacks"}
        paths = [path for path in folder.rglob("*.py") if not tried & set(path.parents)]
        assert Path(system.__file__) in paths
        for path in paths:
            tree = ast.parse(path.read_text())
            names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
            names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
            assert names.isdisjoint({"random", "default_rng", "seed", "derive_seed", "torch"}), path
