"""Attacks on experts: against models whose leak is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from sglora_fed.errors import AttackError
from sglora_fed.privacy.attacks import (
    alignment,
    calibrated,
    expert_in_zoo,
    explained,
    lira,
    logits,
    rmia,
    separation,
)


def world(leak: float, seed: int = 0, shadows: int = 16) -> tuple[np.ndarray, ...]:
    """Log-probabilities of 800 records of unequal difficulty, surer by ``leak`` where seen."""
    rng = np.random.default_rng(seed)
    ease = rng.normal(0, 2, 800)
    members = rng.random((shadows + 1, 800)) < 0.5
    values = ease + leak * members + 0.5 * rng.normal(size=members.shape)
    logs = -np.logaddexp(0, -values)
    others = -np.logaddexp(0, -(rng.normal(0, 2, 300) + 0.5 * rng.normal(size=(shadows + 1, 300))))
    return logs, members, others


def test_lira_is_nearly_the_likelihood_ratio_test() -> None:
    """With the difficulty known, two normals 1 apart with spread .5: the AUC is Phi(sqrt 2)."""
    logs, members, _ = world(1.0)
    scores = lira(logits(logs[0]), logits(logs[1:]), members[1:])
    found = separation(scores[members[0]], scores[~members[0]]).auc
    assert found <= norm.cdf(2**0.5) + 0.02
    assert found > norm.cdf(2**0.5) - 0.05


def test_every_attack_beats_the_loss_alone_and_finds_nothing_where_nothing_is() -> None:
    for leak in (0.0, 1.0):
        logs, members, others = world(leak)
        seen = (logs[0], logs[1:], members[1:])
        tried = [
            lira(logits(seen[0]), logits(seen[1]), seen[2]),
            rmia(*seen, others[0], others[1:]),
            calibrated(logits(seen[0]), logits(seen[1]), seen[2]),
        ]
        areas = [separation(s[members[0]], s[~members[0]]) for s in (logs[0], *tried)]
        if leak:
            assert all(one.auc > areas[0].auc + 0.05 for one in areas[1:])
        else:
            assert all(abs(one.auc - 0.5) < 4 * one.standard_error for one in areas)


def test_logits_stay_finite() -> None:
    assert np.isfinite(logits(np.array([0.0, -1e-300, -1e9, -np.inf]))).all()
    assert logits(np.log(np.array([0.25]))) == pytest.approx(np.log(1 / 3))


def test_values_that_do_not_belong() -> None:
    logs, members, others = world(1.0, shadows=3)
    good = (logs[0], logs[1:], members[1:])
    for bad in (
        (logs[0, :5], logs[1:], members[1:]),
        (logs[0], logs[1:], members[1:, :5]),
        (logs[0], logs[1:], members[1:] * 1.0),
        (logs[0] * np.nan, logs[1:], members[1:]),
        (logs[0], logs[1:] * np.inf, members[1:]),
    ):
        for attack in (lira, calibrated):
            with pytest.raises(AttackError):
                attack(*bad)
        with pytest.raises(AttackError):
            rmia(*bad, others[0], others[1:])
    with pytest.raises(AttackError, match="shadows"):
        rmia(*good, others[0], others[1:, :5])
    everyone = np.ones_like(members[1:])
    for attack in (lira, calibrated):
        with pytest.raises(AttackError, match="in all shadows"):
            attack(logs[0], logs[1:], everyone)
    with pytest.raises(AttackError, match="in all shadows"):
        rmia(logs[0], logs[1:], everyone, others[0], others[1:])


class TestExpertInZoo:
    def test_a_generator_that_remembers_is_caught(self) -> None:
        rng = np.random.default_rng(0)
        own, members = rng.normal(size=(60, 40)), np.arange(60) < 30
        remembered = rng.normal(size=(60, 40)) + np.where(members[:, None], own, 0)
        assert expert_in_zoo(remembered, own, members).auc > 0.95
        same = expert_in_zoo(rng.normal(size=(60, 40)), own, members)
        assert abs(same.auc - 0.5) < 4 * same.standard_error

    def test_arrays_that_do_not_belong(self) -> None:
        rows, members = np.ones((4, 3)), np.arange(4) < 2
        for bad in ((rows[:3], rows, members), (rows, rows, members[:3])):
            with pytest.raises(AttackError, match="need"):
                expert_in_zoo(*bad)
        for bad in ((rows * np.nan, rows, members), (rows, rows, members * 1)):
            with pytest.raises(AttackError, match="members"):
                expert_in_zoo(*bad)
        with pytest.raises(AttackError, match="scores"):
            expert_in_zoo(rows, rows, np.ones(4, bool))


class TestUpdates:
    def test_one_step_gives_away_its_batch(self) -> None:
        rng = np.random.default_rng(0)
        gradients, trained = rng.normal(size=(50, 200)), np.arange(50) < 10
        update = -0.1 * gradients[trained].mean(axis=0)
        assert explained(update, gradients) == pytest.approx(0.01 * trained, abs=1e-9)
        scores = alignment(update, gradients)
        assert separation(scores[trained], scores[~trained]).auc > 0.95

    def test_noise_hides_it(self) -> None:
        rng = np.random.default_rng(0)
        gradients, trained = rng.normal(size=(50, 200)), np.arange(50) < 25
        update = -gradients[trained].mean(axis=0) + 50 * rng.normal(size=200)
        for attack in (alignment, explained):
            scores = attack(update, gradients)
            found = separation(scores[trained], scores[~trained])
            assert abs(found.auc - 0.5) < 4 * found.standard_error

    def test_arrays_that_do_not_belong(self) -> None:
        for bad in ((np.ones(3), np.ones((2, 4))), (np.ones((3, 1)), np.ones((2, 3)))):
            with pytest.raises(AttackError, match="need"):
                alignment(*bad)
        with pytest.raises(AttackError, match="NaN"):
            explained(np.full(3, np.nan), np.ones((2, 3)))
