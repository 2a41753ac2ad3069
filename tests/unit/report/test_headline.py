"""Sentences follow planted differences, whichever way they point."""

from __future__ import annotations

import pytest

from sglora_fed.report.headline import findings, lead, verdict


def test_lead_counts_wins_and_losses(run):
    text = lead(run[0])
    assert "ridge beats all of zero_shot, described, topk, shared_lora on 1 of 2 kinds" in text
    assert "on 1 it loses to at least one" in text


def test_findings_name_winners_and_losers(run):
    rule, combo = findings(run[0])
    assert (rule.split, rule.verdict) == ("new_rule", "ahead")
    assert (combo.split, combo.verdict) == ("combo", "behind")
    assert "75 % of the way" in rule.text or "74 % of the way" in rule.text
    assert "Behind shared_lora (-6." in combo.text or "Behind shared_lora (-5." in combo.text
    assert "oracle" in rule.text
    assert "Not certainly below the oracle" not in rule.text


@pytest.mark.parametrize(("gain", "expected"), [(0.0, "none of 1"), (-0.2, "none of 1")])
def test_a_generator_that_wins_nothing_is_said_to(planted, gain, expected):
    summary, _ = planted({"combo": {"zero_shot": 0.0, "topk": 0.0, "ridge": gain}})
    assert expected in lead(summary)
    assert findings(summary)[0].verdict == ("level" if gain == 0 else "behind")


def test_reaching_the_oracle_is_said(planted):
    gains = {"new_rule": {"zero_shot": 0.0, "ridge": 0.41, "oracle": 0.4}}
    assert "Not certainly below the oracle" in findings(planted(gains)[0])[0].text


def test_nothing_adopted_is_said(planted):
    summary, _ = planted({"combo": {"zero_shot": 0.0, "oracle": 0.2}})
    assert findings(summary) == []
    assert "No client adopted" in lead(summary)


@pytest.mark.parametrize(
    ("ci95", "expected"),
    [([0.1, 0.2], "ahead"), ([-0.2, -0.1], "behind"), ([-0.1, 0.1], "level"), ([0, 0.1], "level")],
)
def test_verdict_needs_an_interval_without_zero(ci95, expected):
    assert verdict({"mean": 0.05, "ci95": ci95}) == expected
