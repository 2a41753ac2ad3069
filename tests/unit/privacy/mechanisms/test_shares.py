"""Shares: each alone is uniform, both together are the adapter, exactly."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare

from sglora_fed.errors import PrivacyError
from sglora_fed.privacy.mechanisms import Projection, SharesMechanism
from sglora_fed.privacy.mechanisms.shares import POINT, combined, fixed, share_servers

DIM, RANK, SIZE = 12, 5, 7


@pytest.fixture
def projection() -> Projection:
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(DIM, RANK)))[0]
    return Projection(rng.normal(size=DIM) / 10, directions, 1.0)


def description(seed: int) -> np.ndarray:
    row = np.random.default_rng(seed).normal(size=DIM)
    return np.asarray(row / np.linalg.norm(row))


def test_two_answers_add_up_to_exactly_the_rounded_product(projection: Projection) -> None:
    """Python's whole numbers, of any size, are the independent arithmetic."""
    rng = np.random.default_rng(1)
    weights, offset = rng.normal(size=(RANK, SIZE)), rng.normal(size=SIZE)
    servers = share_servers(weights, offset)
    mechanism = SharesMechanism(projection)
    for seed in range(20):
        sent = mechanism.release(description(seed))
        answers = np.stack([one.answer(sent[i : i + 1]) for i, one in enumerate(servers)], axis=1)
        inside = [round(float(c) * 2**POINT) for c in projection.coordinates(description(seed))]
        exact = [
            sum(c * round(float(w) * 2**POINT) for c, w in zip(inside, column, strict=True))
            + round(float(o) * 2 ** (2 * POINT))
            for column, o in zip(weights.T, offset, strict=True)
        ]
        expected = np.array([value / 2 ** (2 * POINT) for value in exact])
        np.testing.assert_array_equal(combined(answers)[0], expected.astype(np.float32))
        clear = projection.coordinates(description(seed)) @ weights + offset
        np.testing.assert_allclose(expected, clear, atol=1e-5)


@pytest.mark.parametrize("server", [0, 1])
def test_one_share_is_uniform_whatever_the_description(projection: Projection, server: int) -> None:
    mechanism = SharesMechanism(projection)
    for seed in (3, 4):
        sent = np.stack([mechanism.release(description(seed))[server] for _ in range(2000)])
        for bits in (sent >> np.uint64(60), sent & np.uint64(15)):
            for column in bits.T:
                assert chisquare(np.bincount(column.astype(int), minlength=16)).pvalue > 1e-6


def test_two_releases_have_nothing_in_common(projection: Projection) -> None:
    mechanism = SharesMechanism(projection)
    one, other = (mechanism.release(description(5)) for _ in range(2))
    assert not np.isin(one, other).any()


@pytest.mark.parametrize("wrong", [np.zeros(DIM), np.full(DIM, np.nan), np.ones(3), np.ones(DIM)])
def test_an_unfit_embedding_is_refused(projection: Projection, wrong: np.ndarray) -> None:
    with pytest.raises(PrivacyError):
        SharesMechanism(projection).release(wrong)


def test_an_adapter_that_the_ring_cannot_hold_is_refused() -> None:
    with pytest.raises(PrivacyError, match="hold"):
        share_servers(np.full((RANK, SIZE), 1e5), np.zeros(SIZE))
    with pytest.raises(PrivacyError):
        share_servers(np.full((RANK, SIZE), np.nan), np.zeros(SIZE))


def test_fixed_point_keeps_the_sign() -> None:
    assert fixed(np.array([-1.0, 0.5])).view(np.int64).tolist() == [-(2**POINT), 2 ** (POINT - 1)]
