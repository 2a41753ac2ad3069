"""Screening against brute force, dense products and planted poison."""

from __future__ import annotations

import numpy as np
import pytest

from sglora_fed.adapters.layout import Layout, ModuleShape, effect_gram
from sglora_fed.zoo import screening
from sglora_fed.zoo.screening import PENALTY, agreement, trusted, voices, weighted_median

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


@pytest.mark.parametrize("centred", [False, True])
def test_agreement_is_leaving_one_out_by_hand(centred: bool) -> None:
    """Normal equations in the descriptions' own coordinates; experts 2 and 5 do not count."""
    texts, vectors = planted(9)
    weights = np.array([1.0, 2, 0, 1, 3, 0, 1, 1, 2])
    shares, used = weights / weights.sum(), np.flatnonzero(weights)
    inputs = texts - shares @ texts
    inputs /= np.sqrt(shares @ (inputs**2).sum(axis=1))
    effects = products(vectors)
    if centred:
        effects = effects - shares @ effects
    else:
        inputs = np.hstack([inputs, np.ones((9, 1))])
    penalty = PENALTY / len(used) * np.eye(inputs.shape[1])
    wanted = []
    for left in range(9):
        x, y, w = (np.delete(array, left, axis=0) for array in (inputs, effects, shares))
        said = inputs[left] @ np.linalg.solve((x.T * w) @ x + penalty, (x.T * w) @ y)
        own = effects[left]
        wanted.append(own @ said / np.linalg.norm(own) / np.linalg.norm(said))
    found = agreement(texts, effect_gram(LAYOUT, vectors), weights, centred)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_node_has_one_voice() -> None:
    np.testing.assert_allclose(voices(["a", "b", "a", "c", "a"]), np.array([1, 3, 1, 3, 1]) / 9)


@pytest.mark.parametrize("counts", [[1] * 7, [1] * 8, [3, 1, 2, 5, 1]])
def test_a_weighted_median_is_that_of_repeated_values(counts: list[int]) -> None:
    values = np.random.default_rng(3).normal(size=(len(counts), 4))
    weights = np.array(counts) / sum(counts)
    wanted = np.median(np.repeat(values, counts, axis=0), axis=0)
    np.testing.assert_allclose(weighted_median(values, weights), wanted)
    np.testing.assert_allclose(weighted_median(values[:, 0], weights), wanted[0])


def alone(texts: np.ndarray) -> list[str]:
    """Every expert is a node of its own."""
    return [f"node-{number}" for number in range(len(texts))]


def test_honest_experts_are_trusted() -> None:
    for seed in range(5):
        texts, vectors = planted(seed=seed)
        for owners in (
            alone(texts),
            ["one"] * 40,
            ["one", "two"] * 20,
            ["one"] * 30 + ["two"] * 10,
        ):
            assert trusted(texts, vectors, LAYOUT, owners).all()


@pytest.mark.parametrize("experts", [12, 48, 100])
def test_experts_that_have_nothing_to_do_with_one_another_are_trusted(experts: int) -> None:
    """Noise has camps, too; believed, they would cost every third expert."""
    layout, distrusted = Layout((ModuleShape("wide", 64, 64),), 4, 4.0), 0
    for seed in range(5):
        texts, rng = planted(experts, seed)[0], np.random.default_rng(seed)
        a = np.tile(5 * rng.normal(size=256), (experts, 1))
        vectors = np.hstack([a, rng.normal(size=(experts, 256))]).astype(np.float32)
        distrusted += int((~trusted(texts, vectors, layout, alone(texts))).sum())
    assert distrusted <= 0.05 * 5 * experts


@pytest.mark.parametrize("part", [A_PART, B_PART, np.arange(36)], ids=["A", "B", "both"])
def test_a_sign_flipped_expert_is_found_and_nobody_else(part: np.ndarray) -> None:
    texts, vectors = planted()
    for expert in range(0, 40, 5):
        poisoned = vectors.copy()
        poisoned[expert, part] *= -1
        kept = trusted(texts, poisoned, LAYOUT, alone(texts))
        np.testing.assert_array_equal(np.flatnonzero(~kept), [expert])


def test_a_huge_expert_is_found_and_nobody_else() -> None:
    texts, vectors = planted()
    vectors[3] *= 50
    kept = trusted(texts, vectors, LAYOUT, alone(texts))
    np.testing.assert_array_equal(np.flatnonzero(~kept), [3])


@pytest.mark.parametrize("liars", [30, 34])
@pytest.mark.parametrize("seed", range(3))
def test_nearly_half_of_the_nodes_may_say_the_opposite(liars: int, seed: int) -> None:
    texts, vectors = planted(70, seed)
    vectors[:liars, B_PART] *= -1
    kept = trusted(texts, vectors, LAYOUT, alone(texts))
    assert (~kept[:liars]).mean() > 0.9
    assert kept[liars:].all()


@pytest.mark.parametrize("seed", range(3))
def test_a_node_of_200_experts_is_one_of_five(seed: int) -> None:
    texts, vectors = planted(240, seed)
    vectors[40:, B_PART] *= -1
    owners = [f"node-{number // 10}" for number in range(40)] + ["many"] * 200
    kept = trusted(texts, vectors, LAYOUT, owners)
    assert kept[:40].all()
    assert not kept[40:].any()


def test_a_node_that_says_one_thing_two_hundred_times_does_not_stand_for_all() -> None:
    """What is usual would else be the length of one adapter that comes 200 times."""
    texts, vectors = planted(240)
    vectors[40:] = 30 * vectors[40]
    owners = [f"node-{number // 10}" for number in range(40)] + ["many"] * 200
    kept = trusted(texts, vectors, LAYOUT, owners)
    assert kept[:40].all()
    assert not kept[40:].any()


def test_a_change_is_judged_by_itself() -> None:
    """What the experts had before, here all the same and long, hides who turned it round."""
    texts, changes = planted(48)
    changes[:, A_PART] *= 0.01
    start = np.random.default_rng(1).normal(size=LAYOUT.size).astype(np.float32)
    changes[:20] *= -1
    before = np.tile(10 * start, (48, 1))
    kept = trusted(texts, before + changes, LAYOUT, alone(texts), before)
    np.testing.assert_array_equal(kept, np.arange(48) >= 20)


def test_copies_of_an_expert_are_no_reason_for_distrust() -> None:
    texts, vectors = planted()
    texts, vectors = np.vstack([texts, *[texts[:1]] * 5]), np.vstack([vectors, *[vectors[:1]] * 5])
    assert trusted(texts, vectors, LAYOUT, alone(texts)).all()


@pytest.mark.parametrize("experts", [1, 2, 7])
def test_a_few_experts_are_all_trusted(experts: int) -> None:
    texts, vectors = planted(experts)
    vectors[0] *= -100
    assert trusted(texts, vectors, LAYOUT, alone(texts)).all()


def test_equal_descriptions_and_equal_adapters_are_no_error() -> None:
    texts, vectors = planted(12)
    noise = 0.3 * np.random.default_rng(2).normal(size=vectors.shape)
    alike = (vectors[:1] + noise).astype(np.float32)
    assert trusted(np.tile(texts[:1], (12, 1)), alike, LAYOUT, alone(texts)).all()
    assert trusted(texts, np.tile(vectors[:1], (12, 1)), LAYOUT, alone(texts)).all()


def test_a_large_zoo_is_judged_in_random_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Liars stand side by side: in groups of neighbours they would be the majority of one."""
    texts, vectors = planted(200)
    vectors[:30, B_PART] *= -1
    monkeypatch.setattr(screening, "TOGETHER", 80)
    kept = trusted(texts, vectors, LAYOUT, alone(texts))
    assert (~kept[:30]).mean() > 0.9
    assert kept[30:].all()


def test_in_every_group_all_nodes_are_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, vectors = planted(240)
    vectors[12:, B_PART] *= -1
    owners = [f"node-{number // 3}" for number in range(12)] + ["many"] * 228
    monkeypatch.setattr(screening, "TOGETHER", 40)
    kept = trusted(texts, vectors, LAYOUT, owners)
    assert kept[:12].all()
    assert not kept[12:].any()
