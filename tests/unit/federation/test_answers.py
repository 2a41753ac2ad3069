"""What a client makes of a generator that a server has chosen to learn something."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from sglora_fed.adapters.layout import Layout, ModuleShape
from sglora_fed.adapters.unpaired import FEWEST_ITEMS
from sglora_fed.config import compose
from sglora_fed.errors import MessageError
from sglora_fed.federation import answers
from sglora_fed.federation.answers import added, chosen, made_here
from sglora_fed.federation.node import Node
from sglora_fed.privacy.mechanisms import Projection, SharesMechanism
from sglora_fed.privacy.mechanisms.shares import Answers, share_servers
from sglora_fed.privacy.mechanisms.shares import answers as answers_of
from sglora_fed.privacy.snapping import snap_to, unit
from sglora_fed.tasks.types import Example, Task

LAYOUT, DIM = Layout((ModuleShape("query", 3, 2),), 1, 1.0), 4


def asking(words: np.ndarray) -> Node:
    """A node whose client's words have this embedding."""
    told: Any = SimpleNamespace(
        config=compose(["generator=ridge", "generator.readings=1"]),
        layout=LAYOUT,
        describer=None,
        catalogue=None,
        embed=lambda _: words[None],
    )
    return cast(Node, told)


def split(steepness: float) -> dict[str, np.ndarray]:
    """A ridge regression whose adapters are finite for one half of all descriptions, at 1e30."""
    return {
        "embeddings": np.eye(DIM, dtype=np.float32),
        "centre": np.array([-1.0, 0, 0, 0]),
        "map": np.eye(DIM, 1) * steepness,
        "basis": np.full((1, LAYOUT.size), 1e10, np.float32),
        "offset": np.zeros(LAYOUT.size, np.float32),
    }


@pytest.mark.parametrize("steepness", [1.0, 1e30])
def test_an_answer_does_not_tell_for_whom_a_generator_is_infinite(steepness: float) -> None:
    task = Task("own", "words", {"a": "A", "b": "B"}, (), (), "client", "own")
    for words in np.array([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]], np.float32):
        (made,) = made_here(asking(words), [task], 0, "ridge", split(steepness))
        assert made.dtype == np.float32
        assert np.isfinite(made).all()
        assert made.any() == (words[0] > 0 and steepness == 1)


READINGS = 3


def owner(pictures: int) -> Task:
    train = tuple(Example(f"item {i}", f"caption {i}") for i in range(pictures))
    return Task("own", "words", {}, train, (), "client", "own", kind="retrieval")


def asked() -> tuple[Answers, np.ndarray]:
    """Two servers' answers about a description, and what one that reads it sends: [1, m, D]."""
    rng = np.random.default_rng(0)
    snap = snap_to([unit(rng.normal(size=(1, DIM))) for _ in range(70)])
    table = (rng.normal(size=(70, LAYOUT.size)) / 8).astype(np.float16)
    weights = rng.normal(size=(DIM, LAYOUT.size)) / 8
    said = unit(rng.normal(size=(1, DIM)))[0]
    mechanism = SharesMechanism(
        Projection(np.zeros(DIM), np.eye(DIM), 1.0), snap, entries=READINGS - 1
    )
    servers = share_servers(weights, np.zeros(LAYOUT.size), table)
    near = (snap.rows @ snap.down(said)).argsort()[::-1][: READINGS - 1]
    clear = np.vstack([table[near], said @ weights]).astype(np.float32)
    return answers_of(servers, mechanism.release(said)[None]), clear[None]


@pytest.mark.parametrize("planted", range(READINGS))
def test_a_client_of_shares_keeps_what_it_would_keep_in_clear(
    planted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pictures suit the adapter of one reading: that one, whoever made it."""
    both, clear = asked()

    def suited(tasks: Any, seed: int, adapters: np.ndarray, agree: Any) -> np.ndarray:
        distances: np.ndarray = np.abs(adapters - clear[:, planted : planted + 1]).sum(axis=2)
        return distances.argmin(axis=1)

    monkeypatch.setattr(answers, "most_suited", suited)
    told: Any = SimpleNamespace(
        config=compose([f"generator.readings={READINGS}"]), layout=LAYOUT, plain=None, encoder=None
    )
    kept = added(told, [owner(FEWEST_ITEMS)], 0, both)
    np.testing.assert_array_equal(
        chosen(told, [owner(FEWEST_ITEMS)], 0, clear, None)[0], clear[0, planted]
    )
    np.testing.assert_allclose(kept[0], clear[0, planted], atol=1e-6)
    # Who has too few pictures keeps that for the nearest entry.
    np.testing.assert_array_equal(added(told, [owner(FEWEST_ITEMS - 1)], 0, both), clear[:, 0])


def test_a_client_of_shares_tries_no_more_than_it_asked_for() -> None:
    both, _ = asked()
    told: Any = SimpleNamespace(
        config=compose([f"generator.readings={READINGS - 1}"]), layout=LAYOUT, plain=None
    )
    with pytest.raises(MessageError, match="3 adapters to choose from; 2 were asked for"):
        added(told, [owner(FEWEST_ITEMS)], 0, both)
