"""Screening against brute force, dense products and planted poison."""

from __future__ import annotations

import numpy as np
import pytest

from sglora_fed.adapters.layout import Layout, ModuleShape, effect_gram
from sglora_fed.zoo import screening
from sglora_fed.zoo.screening import PENALTY, agreement, trusted

LAYOUT = Layout((ModuleShape("one", 5, 4), ModuleShape("two", 3, 6)), 2, 4.0)


def products(vectors: np.ndarray) -> np.ndarray:
    """[n, ...] every B A, written out."""
    rows = []
    for vector in vectors:
        first_a, rest = vector[:10].reshape(2, 5), vector[10:]
        first_b, rest = rest[:8].reshape(4, 2), rest[8:]
        second_a, second_b = rest[:6].reshape(2, 3), rest[6:].reshape(6, 2)
        rows.append(np.concatenate([(first_b @ first_a).ravel(), (second_b @ second_a).ravel()]))
    return np.array(rows)


def planted(experts: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Descriptions, and adapters with a common A whose B follows the description."""
    rng = np.random.default_rng(seed)
    texts = rng.normal(size=(experts, 6))
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    # As in trained LoRAs, A is long beside what training moves.
    factors = {"one": 5 * rng.normal(size=(2, 5)), "two": 5 * rng.normal(size=(2, 3))}
    law = rng.normal(size=(6, 20))
    b = texts @ law + 0.3 * rng.normal(size=(experts, 20))
    a = [np.tile(factors[name].ravel(), (experts, 1)) for name in ("one", "two")]
    return texts, np.hstack([a[0], b[:, :8], a[1], b[:, 8:]]).astype(np.float32)


B_PART = np.concatenate([np.arange(10, 18), np.arange(24, 36)])
A_PART = np.setdiff1d(np.arange(36), B_PART)


def test_the_gram_is_that_of_the_products_written_out() -> None:
    vectors = np.random.default_rng(1).normal(size=(5, LAYOUT.size)).astype(np.float32)
    wanted = products(vectors) @ products(vectors).T
    np.testing.assert_allclose(effect_gram(LAYOUT, vectors), wanted, rtol=1e-5)


def test_agreement_is_leaving_one_out_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screening, "DIRECTIONS", 100)
    texts, vectors = planted(9)
    effects = products(vectors)
    effects -= effects.mean(axis=0)
    inputs = texts - texts.mean(axis=0)
    kernel = inputs @ inputs.T
    kernel /= np.trace(kernel) / 9
    wanted = []
    for left in range(9):
        rest = [other for other in range(9) if other != left]
        inner = kernel[np.ix_(rest, rest)] + PENALTY * np.eye(8)
        said = kernel[left, rest] @ np.linalg.solve(inner, effects[rest])
        own = effects[left]
        wanted.append(own @ said / np.linalg.norm(own) / np.linalg.norm(said))
    found = agreement(texts, effect_gram(LAYOUT, vectors))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_honest_experts_are_trusted() -> None:
    for seed in range(5):
        assert trusted(*planted(seed=seed), LAYOUT).all()


@pytest.mark.parametrize("part", [A_PART, B_PART, np.arange(36)], ids=["A", "B", "both"])
def test_a_sign_flipped_expert_is_found_and_nobody_else(part: np.ndarray) -> None:
    texts, vectors = planted()
    for expert in range(0, 40, 5):
        poisoned = vectors.copy()
        poisoned[expert, part] *= -1
        kept = trusted(texts, poisoned, LAYOUT)
        np.testing.assert_array_equal(np.flatnonzero(~kept), [expert])


def test_a_huge_expert_is_found_and_nobody_else() -> None:
    texts, vectors = planted()
    vectors[3] *= 50
    np.testing.assert_array_equal(np.flatnonzero(~trusted(texts, vectors, LAYOUT)), [3])


def test_copies_of_an_expert_are_no_reason_for_distrust() -> None:
    texts, vectors = planted()
    texts, vectors = np.vstack([texts, *[texts[:1]] * 5]), np.vstack([vectors, *[vectors[:1]] * 5])
    assert trusted(texts, vectors, LAYOUT).all()


@pytest.mark.parametrize("experts", [1, 2, 7])
def test_a_few_experts_are_all_trusted(experts: int) -> None:
    texts, vectors = planted(experts)
    vectors[0] *= -100
    assert trusted(texts, vectors, LAYOUT).all()


def test_equal_descriptions_and_equal_adapters_are_no_error() -> None:
    texts, vectors = planted(12)
    assert trusted(np.tile(texts[:1], (12, 1)), vectors, LAYOUT).all()
    assert trusted(texts, np.tile(vectors[:1], (12, 1)), LAYOUT).all()
