"""Linkage, attributes, repetition, labels and words: nothing above its ceiling, nothing missed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sglora_fed.errors import AttackError
from sglora_fed.privacy import (
    GaussianMechanism,
    KrrMechanism,
    Mechanism,
    NoMechanism,
    PrivUnitMechanism,
    SubsetMechanism,
)
from sglora_fed.privacy.attacks import (
    attribute_inference,
    bag_of_words,
    features,
    invert,
    learn_labels,
    linkage,
    repetition,
)
from sglora_fed.privacy.ledger import Budget, Ledger, Request, create_ledger


def released(mechanism: Mechanism, rows: np.ndarray) -> np.ndarray:
    return np.stack([mechanism.release(row) for row in rows])


def drawn(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(7).integers(count, size=size)


class TestLinkage:
    @pytest.mark.parametrize("epsilon", [0.5, 2.0, 5.0])
    def test_is_within_its_ceiling(self, epsilon: float, candidates: np.ndarray) -> None:
        rows = candidates[drawn(12, 1500)]
        for mechanism in (
            KrrMechanism(candidates, epsilon),
            SubsetMechanism(candidates, epsilon, 4),
            PrivUnitMechanism(16, epsilon),
            GaussianMechanism(16, epsilon, 1e-6),
        ):
            found = linkage(
                mechanism, released(mechanism, rows), released(mechanism, rows), candidates
            )
            assert found.found.auc <= found.ceiling + 5 * found.found.standard_error
            assert found.found.auc >= 0.5 - 5 * found.found.standard_error

    def test_finds_what_randomised_response_leaves(self, candidates: np.ndarray) -> None:
        """Both true with p^2: the pairs that are equal, by enumeration of the two answers."""
        mechanism = KrrMechanism(candidates, 3.0)
        rows = candidates[drawn(12, 4000)]
        found = linkage(mechanism, released(mechanism, rows), released(mechanism, rows), candidates)
        truth = np.exp(3) / (np.exp(3) + 11)
        same = truth**2 + (1 - truth) ** 2 / 11
        assert found.found.auc == pytest.approx(0.5 + (same - 1 / 12) / 2, abs=0.02)

    def test_in_the_clear_all_are_linked(self, candidates: np.ndarray) -> None:
        rows = candidates.astype(np.float32)
        found = linkage(NoMechanism(16), rows, rows, candidates)
        assert (found.found.auc, found.ceiling) == (1, 1)

    def test_lists_that_do_not_belong(self, candidates: np.ndarray) -> None:
        rows = candidates.astype(np.float32)
        with pytest.raises(AttackError, match="need as many"):
            linkage(NoMechanism(16), rows, rows[1:], candidates)


class TestAttributes:
    @pytest.mark.parametrize("epsilon", [0.5, 2.0])
    def test_are_within_their_ceiling(self, epsilon: float, candidates: np.ndarray) -> None:
        attributes, truths = np.arange(12) % 2, drawn(12, 2000)
        for mechanism in (
            KrrMechanism(candidates, epsilon),
            SubsetMechanism(candidates, epsilon, 4),
            PrivUnitMechanism(16, epsilon),
        ):
            sent = released(mechanism, candidates[truths])
            found = attribute_inference(mechanism, sent, candidates, attributes, truths)
            assert found.ceiling == pytest.approx(np.exp(epsilon) / (1 + np.exp(epsilon)))
            assert 0.5 - 0.06 < found.accuracy <= found.ceiling + 5 * np.sqrt(0.25 / 2000)
            assert found.chance == 0.5

    def test_by_hand(self, candidates: np.ndarray) -> None:
        """One of twelve is special; k-RR names it: odds e^eps to 11 others."""
        attributes = (np.arange(12) == 0).astype(int)
        sent = np.array([[0], [0], [5]], np.uint16)
        mechanism = KrrMechanism(candidates, 4.0)
        found = attribute_inference(mechanism, sent, candidates, attributes, np.array([0, 3, 0]))
        assert found.accuracy == pytest.approx(1 / 3)
        assert found.balanced == pytest.approx((1 / 2 + 0) / 2)

    @pytest.mark.parametrize("attributes", [np.zeros(12, int), np.zeros(11, int), np.zeros(12)])
    def test_that_are_none(self, attributes: np.ndarray, candidates: np.ndarray) -> None:
        sent = candidates[:2].astype(np.float32)
        with pytest.raises(AttackError, match=r"attributes|one value"):
            attribute_inference(NoMechanism(16), sent, candidates, attributes, np.array([0, 1]))
        with pytest.raises(AttackError, match="truths"):
            attribute_inference(NoMechanism(16), sent, candidates, np.arange(12), np.array([0, 12]))


class TestRepetition:
    def test_fresh_noise_averages_away(self, candidates: np.ndarray) -> None:
        mechanism, truths = PrivUnitMechanism(16, 2.0), drawn(12, 60)
        sent = np.stack([released(mechanism, candidates[[t] * 300]) for t in truths])
        found = repetition(mechanism, sent, candidates, truths, (1, 30, 300))
        assert found[0].top1 < 0.5 < 0.9 < found[2].top1
        assert found[0].ceiling < found[1].ceiling <= found[2].ceiling
        assert found[2].cosine is not None
        assert 0.5 < found[1].cosine < found[2].cosine  # type: ignore[operator]

    def test_what_the_ledger_remembers_does_not(
        self, tmp_path: Path, candidates: np.ndarray
    ) -> None:
        create_ledger(tmp_path / "ledger")
        ledger = Ledger(tmp_path / "ledger", Budget(1.0))
        mechanism, truths = KrrMechanism(candidates, 1.0), drawn(12, 8)
        sent = np.stack(
            [
                [
                    ledger.release(Request(f"c{i}", "words"), mechanism, candidates[t])
                    for _ in "abcd"
                ]
                for i, t in enumerate(truths)
            ]
        )
        found = repetition(mechanism, sent, candidates, truths, (1, 4))
        assert found[0].top1 == found[1].top1
        assert found[0].cosine is None

    def test_impossible_numbers(self, candidates: np.ndarray) -> None:
        sent, truths = candidates[:2, None].astype(np.float32), np.array([0, 1])
        for times in ((), (0,), (2,)):
            with pytest.raises(AttackError, match="times="):
                repetition(NoMechanism(16), sent, candidates, truths, times)
        with pytest.raises(AttackError, match="truths"):
            repetition(NoMechanism(16), sent, candidates, truths[:1], (1,))


class TestLearning:
    def test_learns_what_is_there(self) -> None:
        rng = np.random.default_rng(0)
        labels = rng.integers(3, size=900)
        values = rng.normal(size=(900, 5))
        values[:, 2] += 4.0 * labels
        found = learn_labels(values, labels, 600)
        assert found.accuracy > 0.9
        assert found.balanced > 0.9
        assert found.labels == 3

    def test_below_the_codeword_is_nothing(self, candidates: np.ndarray) -> None:
        """Two ways of saying one thing are snapped to one place, at any epsilon."""
        rng = np.random.default_rng(1)
        labels, mechanism = rng.integers(2, size=2000), KrrMechanism(candidates, 8.0)
        shift = rng.normal(size=16) * 0.05
        rows = candidates[drawn(12, 2000)] + shift * labels[:, None]
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        sent = features(mechanism, released(mechanism, rows), 12)
        found = learn_labels(sent, labels, 1000)
        assert abs(found.accuracy - found.chance) < 4 * found.standard_error
        seen = learn_labels(
            features(NoMechanism(16), released(NoMechanism(16), rows)), labels, 1000
        )
        assert seen.accuracy > 0.95

    def test_what_cannot_be_learnt(self) -> None:
        values, labels = np.zeros((4, 2)), np.array([0, 1, 0, 1])
        for bad in (values[0], values * np.nan):
            with pytest.raises(AttackError, match="values"):
                learn_labels(bad, labels, 2)
        for wrong in (labels[:3], labels * 1.0):
            with pytest.raises(AttackError, match="labels"):
                learn_labels(values, wrong, 2)
        for count in (0, 4):
            with pytest.raises(AttackError, match="learnt_from"):
                learn_labels(values, labels, count)
        with pytest.raises(AttackError, match="two different"):
            learn_labels(values, np.array([0, 0, 1, 1]), 2)
        with pytest.raises(AttackError, match="place"):
            features(KrrMechanism(np.eye(3), 1.0), np.array([[3]], np.uint16), 3)


class TestInversion:
    TEXTS = tuple(f"the {a} camera is {b}" for a in ("red", "old", "new") for b in ("up", "low"))

    def test_names_the_words_of_an_embedding_in_the_clear(self) -> None:
        rng = np.random.default_rng(0)
        which = rng.integers(6, size=300)
        bags, words = bag_of_words([self.TEXTS[i] for i in which])
        assert words == sorted({"the", "camera", "is", "red", "old", "new", "up", "low"})
        clear = np.eye(6)[which] + 0.01 * rng.normal(size=(300, 6))
        found = invert(clear, bags, 200)
        assert found.recovered == 1
        assert found.gain > 10 * found.gain_error
        noise = invert(rng.normal(size=(300, 6)), bags, 200)
        assert abs(noise.gain) < 4 * noise.gain_error + 1e-9
        assert noise.prior_only == pytest.approx(found.prior_only)

    def test_what_cannot_be(self) -> None:
        with pytest.raises(AttackError, match="no word"):
            bag_of_words(["one", "two"])
        bags = np.ones((3, 2), bool)
        for values in (np.zeros(3), np.full((3, 2), np.inf)):
            with pytest.raises(AttackError, match="values"):
                invert(values, bags, 2)
        with pytest.raises(AttackError, match="bags"):
            invert(np.zeros((3, 2)), bags[:2], 2)
        with pytest.raises(AttackError, match="learnt_from"):
            invert(np.zeros((3, 2)), bags, 3)
        with pytest.raises(AttackError, match="no description"):
            invert(np.zeros((3, 2)), np.array([[True], [True], [False]]), 2)
