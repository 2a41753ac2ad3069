"""``sglora-fed audit``: what it prints, writes and exits with."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from sglora_fed.config.schema import MECHANISMS
from sglora_fed.privacy.mechanisms import krr, odds

FEW = ("--draws", "1000", "--confidence", "0.9999")
"""A tight claim is refuted by chance once in ten thousand times."""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def audit(run: Run) -> Run:
    """As ``run``, of arguments of ``audit``."""
    return partial(run, "audit")


def test_all_mechanisms_claimed_against_certified(audit: Run, tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    code, out, _ = audit("--epsilon", "1", *FEW, "--json", str(path))
    assert code == 0
    assert out.rstrip().endswith(str(path))
    rows = json.loads(path.read_text())
    audited = {row["mechanism"].split(",")[0] for row in rows}
    assert audited >= {*MECHANISMS, "projected_privunit", "dp_sgd"}
    for row in rows:
        assert [*row][:2] == ["mechanism", "claimed_epsilon"]
        assert [*row][2:] == ["delta", "certified_epsilon", "confidence", "draws"]
        assert row["confidence"] == 0.9999
        assert row["draws"] == (1600 if row["mechanism"] == "dp_sgd" else 1000)
        claim = row["claimed_epsilon"]
        assert (claim is None) == (row["mechanism"] == "none")
        alone = row["mechanism"].split(",")[0] in ("local", "shares")
        assert claim is None or row["certified_epsilon"] <= claim == 1 - alone


def test_several_epsilons_of_one_mechanism(audit: Run) -> None:
    code, out, _ = audit("krr", "--epsilon", "1", "--epsilon", "2.5", *FEW)
    assert code == 0
    assert [line.split()[3] for line in out.splitlines() if "stands" in line] == ["1", "2.5"]


def test_a_refuted_claim_is_an_error(
    audit: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(krr, "odds", lambda epsilon: odds.odds(3 * epsilon))
    path = tmp_path / "audit.json"
    code, out, error = audit("krr", "--epsilon", "1", "--draws", "2000", "--json", str(path))
    assert code == 1
    assert "REFUTED" in out
    assert "SGL-712" in error
    assert "krr at epsilon 1" in error
    assert json.loads(path.read_text())[0]["certified_epsilon"] > 1


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (("nonsense",), "SGL-711"),
        (("krr", "--json", "/nonexistent/file.json"), "no such folder"),
        (("krr", "--json", "/"), "name a file"),
        (("krr", "--draws", "10"), "at least 1000"),
        (("krr", "--confidence", "1"), "confidence=1.0"),
        (("krr", "--epsilon", "0"), "SGL-700"),
        (("krr", "--epsilon", "nan"), "SGL-700"),
        (("gaussian", "--delta", "0"), "SGL-700"),
        (("privunit", "--epsilon", "65"), "SGL-700"),
    ],
)
def test_refusals(audit: Run, arguments: tuple[str, ...], wrong: str) -> None:
    code, _, error = audit(*arguments)
    assert code == 1
    assert wrong in error
