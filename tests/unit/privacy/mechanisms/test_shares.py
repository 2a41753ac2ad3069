"""Shares: each alone is uniform, both together are the adapter, exactly."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare

from sglora_fed.errors import PrivacyError
from sglora_fed.privacy.mechanisms import Projection, SharesMechanism
from sglora_fed.privacy.mechanisms.retrieval import hidden_places, summed
from sglora_fed.privacy.mechanisms.shares import (
    MOST_UP,
    POINT,
    answers,
    combined,
    entries_that_fit,
    fixed,
    share_servers,
)
from sglora_fed.privacy.snapping import Snap, snap_to, unit

DIM, RANK, SIZE = 12, 5, 7
LISTED, ENTRIES = 70, 4  # more than one number of a set has bits


@pytest.fixture
def projection() -> Projection:
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(DIM, RANK)))[0]
    return Projection(rng.normal(size=DIM) / 10, directions, 1.0)


@pytest.fixture
def snap() -> Snap:
    means = np.random.default_rng(2).normal(size=(LISTED, 1, DIM))
    spread = 0.2 * np.random.default_rng(3).normal(size=(LISTED, 5, DIM))
    return snap_to([unit(rows) for rows in means + spread])


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
        made = combined(answers(servers, sent[None]))
        inside = [round(float(c) * 2**POINT) for c in projection.coordinates(description(seed))]
        exact = [
            sum(c * round(float(w) * 2**POINT) for c, w in zip(inside, column, strict=True))
            + round(float(o) * 2 ** (2 * POINT))
            for column, o in zip(weights.T, offset, strict=True)
        ]
        expected = np.array([value / 2 ** (2 * POINT) for value in exact])
        np.testing.assert_array_equal(made[0], expected.astype(np.float32)[None])
        clear = projection.coordinates(description(seed)) @ weights + offset
        np.testing.assert_allclose(expected, clear, atol=1e-5)


def test_answers_add_up_to_the_adapters_of_what_is_near_and_of_the_description(
    projection: Projection, snap: Snap
) -> None:
    """The nearest by distances, the sums by two servers who have one row of the shares each."""
    rng = np.random.default_rng(1)
    weights, offset = rng.normal(size=(RANK, SIZE)), rng.normal(size=SIZE)
    adapters = rng.normal(size=(LISTED, SIZE)).astype(np.float16)
    adapters[0, :2] = -0.0, np.finfo(np.float16).max
    servers = share_servers(weights, offset, adapters)
    mechanism = SharesMechanism(projection, snap, ENTRIES)
    assert mechanism.replies == ENTRIES + 1
    said = np.stack([description(seed) for seed in range(20)])
    sent = np.stack([mechanism.release(row) for row in said])
    assert sent.shape[1:] == mechanism.form.shape
    assert sent[0].nbytes == mechanism.form.nbytes == 2 * 8 * (RANK + 2 * ENTRIES)
    made = combined(answers(servers, sent))
    moved = unit((said - snap.mean) @ snap.matrix)
    for row, clear, near in zip(made, said, moved, strict=True):
        order = np.linalg.norm(snap.rows - near, axis=1).argsort()[:ENTRIES]
        np.testing.assert_array_equal(row[:-1], adapters[order].astype(np.float32))
        own = projection.coordinates(clear) @ weights + offset
        np.testing.assert_allclose(row[-1], own, atol=1e-5)


@pytest.mark.parametrize("place", range(LISTED))
def test_every_place_is_found(place: int) -> None:
    table = np.random.default_rng(0).integers(2**16, size=(LISTED, SIZE)).astype(np.uint16)
    first, second = hidden_places(np.array([place, 3]), LISTED)
    found = summed(first, table) ^ summed(second, table)
    np.testing.assert_array_equal(found, table[[place, 3]])


@pytest.mark.parametrize("server", [0, 1])
def test_one_share_is_uniform_whatever_the_description(
    projection: Projection, snap: Snap, server: int
) -> None:
    mechanism = SharesMechanism(projection, snap, ENTRIES)
    for seed in (3, 4):
        sent = np.stack([mechanism.release(description(seed))[server] for _ in range(2000)])
        for bits in (sent >> np.uint64(60), sent & np.uint64(15)):
            for column in bits.T:
                assert chisquare(np.bincount(column.astype(int), minlength=16)).pvalue > 1e-6


@pytest.mark.parametrize("server", [0, 1])
def test_one_share_says_nothing_of_the_entries(
    projection: Projection, snap: Snap, server: int
) -> None:
    """Each place is in each set by a coin, and in two sets by two: theirs as well as any other."""
    mechanism, count = SharesMechanism(projection, snap, ENTRIES), 4000
    near = snap.nearest(description(3), ENTRIES)
    sent = np.stack([mechanism.release(description(3))[server, RANK:] for _ in range(count)])
    sets = sent.reshape(count, ENTRIES, -1).view(np.uint8)
    among = np.unpackbits(sets, axis=2, bitorder="little").astype(float)
    theirs = among[:, np.arange(ENTRIES), near]
    spread = 0.5 / np.sqrt(count)
    assert abs(among.mean(axis=0) - 0.5).max() < 5.5 * spread
    # Sets with the same coins would differ in their places alone.
    for bits in (theirs, among[:, :, near[0]], among[:, :, LISTED - 1]):
        pairs = np.corrcoef(np.column_stack([bits, sent[:, 0] & np.uint64(1)]).T)
        assert abs(pairs - np.eye(ENTRIES + 1)).max() < 5.5 / np.sqrt(count)


@pytest.mark.parametrize(("rank", "listed"), [(47, 144), (1, 5), (60, 144), (47, 513), (30, 1000)])
def test_as_many_entries_as_fit_are_asked_for(rank: int, listed: int) -> None:
    def sent(entries: int) -> int:
        return 2 * (8 * rank + entries * 8 * -(-listed // 64))

    found = entries_that_fit(rank, listed, 7)
    assert sent(found) <= MOST_UP
    assert found == 7 or sent(found + 1) > MOST_UP


def test_a_description_that_fills_a_request_alone_is_asked_for_alone() -> None:
    assert entries_that_fit(384, 144, 7) == 0


def test_two_releases_have_nothing_in_common(projection: Projection, snap: Snap) -> None:
    mechanism = SharesMechanism(projection, snap, ENTRIES)
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
