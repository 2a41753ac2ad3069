"""Sentences follow planted differences, whichever way they point."""

from __future__ import annotations

import pytest

from sglora_fed.report.headline import findings, lead, verdict
from sglora_fed.report.words import best_untrained


def test_lead_counts_wins_and_losses(run):
    text = lead(run[0])
    assert "ridge beats all of zero_shot, described, topk, shared_lora on 1 of 2 kinds" in text
    assert "on 1 it loses to at least one" in text


def test_findings_name_winners_and_losers(run):
    rule, combo = findings(run[0])
    assert (rule.split, rule.verdict) == ("new_rule", "ahead")
    assert (combo.split, combo.verdict) == ("combo", "behind")
    assert "Behind shared_lora (-6." in combo.text or "Behind shared_lora (-5." in combo.text
    assert "Of what the client can train, oracle is best. Behind oracle (-1" in rule.text


@pytest.mark.parametrize(("gain", "expected"), [(0.0, "none of 1"), (-0.2, "none of 1")])
def test_a_generator_that_wins_nothing_is_said_to(planted, gain, expected):
    summary, _ = planted({"combo": {"zero_shot": 0.0, "topk": 0.0, "ridge": gain}})
    assert expected in lead(summary)
    assert findings(summary)[0].verdict == ("level" if gain == 0 else "behind")


def test_training_is_compared_with_by_its_strongest_row(planted):
    gains = {"zero_shot": 0.0, "ridge": 0.3, "oracle": 0.2, "local_5shot": 0.1, "shared_full": 0.4}
    (finding,) = findings(planted({"new_rule": gains})[0])
    assert "Of what the client can train, shared_full is best. Behind shared_full" in finding.text
    assert "oracle" not in finding.text
    (finding,) = findings(planted({"new_rule": gains | {"ridge": 0.4}})[0])
    assert "No certain difference from shared_full" in finding.text


@pytest.mark.parametrize("clients", [1, 2, 7])
def test_a_handful_of_clients_is_no_ground_for_a_verdict(planted, clients):
    gains = {"zero_shot": 0.0, "topk": 0.1, "ridge": 0.3, "oracle": 0.2}
    summary, _ = planted({"new_rule": gains}, clients=clients)
    (finding,) = findings(summary)
    assert finding.verdict == "too few"
    assert finding.text.endswith(f"% on {clients} client{'s'[: clients - 1]}.")
    assert "fewer than 8 clients" in lead(summary)
    assert not any(word in lead(summary) for word in ("beats", "certainly", "loses"))
    assert best_untrained(summary, "accuracy") == set()


def test_kinds_of_few_clients_are_left_out_of_the_count(planted):
    gains = {"zero_shot": 0.0, "ridge": 0.3}
    summary, _ = planted({"new_rule": gains})
    few, _ = planted({"combo": gains}, clients=3)
    summary["results"] += few["results"]
    assert "on 1 of 1 kind of unseen task; 1 more kind had fewer than 8 clients." in lead(summary)


def test_nothing_adopted_is_said(planted):
    summary, _ = planted({"combo": {"zero_shot": 0.0, "oracle": 0.2}})
    assert findings(summary) == []
    assert "No client adopted" in lead(summary)


@pytest.mark.parametrize(
    ("ci95", "expected"),
    [([0.1, 0.2], "ahead"), ([-0.2, -0.1], "behind"), ([-0.1, 0.1], "level"), ([0, 0.1], "level")],
)
def test_verdict_needs_an_interval_without_zero(ci95, expected):
    assert verdict({"mean": 0.05, "ci95": ci95, "clients": 8}) == expected
    assert verdict({"mean": 0.05, "ci95": ci95, "clients": 7}) == "too few"
