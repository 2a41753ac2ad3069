"""A node trains its experts as the configuration's promise wants it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2

from sglora_fed.adapters.start import norm_bound
from sglora_fed.adapters.training import Trained
from sglora_fed.config import compose
from sglora_fed.errors import AdapterValueError, BudgetError
from sglora_fed.federation import private
from sglora_fed.federation.enrol import ENROL
from sglora_fed.federation.node import Node
from sglora_fed.federation.private import Lesson, clipped_update, trained_as_promised
from sglora_fed.federation.rounds import ROUND
from sglora_fed.promises import promise_for
from sglora_fed.tasks.digest import tasks_sha256

TINY = (
    "experiment=private", "privacy.training.unit=expert", "privacy.training.clip=0.1",
    "family.experts=16", "family.clients_per_split=4", "family.train_per_client=4",
    "family.test_per_client=4", "federation.generator_rounds=2",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGLORA_FED_HOME", str(tmp_path))


@pytest.fixture(scope="module")
def node() -> Node:
    return Node(compose(TINY), 0, 2)


def lesson(node: Node, number: int = 1) -> Lesson:
    return Lesson(ROUND if number else ENROL, number, 0, node.config.adapter.train)


def test_a_whole_expert_is_clipped_and_gets_the_promised_noise(node: Node) -> None:
    tasks, size = list(node.experts.values())[:2], node.layout.size
    start, moved = np.zeros((1, size), np.float32), np.zeros((2, size), np.float32)
    moved[:, 0] = (100.0, 0.25)
    made = trained_as_promised(
        node, tasks, start, lesson(node), lambda rows: Trained(moved, moved, moved)
    ).final
    promise = promise_for(node.config, 4)
    assert promise is not None
    deviation = promise.sigma * promise.clip
    squares = float((made[:, 1:].astype(np.float64) ** 2).sum()) / deviation**2
    assert 1e-6 < chi2.cdf(squares, 2 * (size - 1)) < 1 - 1e-6
    # Without clipping the first would be at 100.
    assert (abs(made[:, 0]) < 8 * deviation).all()
    assert promise.steps == 1 + 1 + 2


def test_noise_never_takes_an_adapter_beyond_what_the_server_takes() -> None:
    node = Node(compose([*TINY, "privacy.training.clip=1"]), 0, 2)
    tasks, start = list(node.experts.values())[:2], np.zeros((1, node.layout.size), np.float32)
    same = np.zeros((2, node.layout.size), np.float32)
    made = trained_as_promised(node, tasks, start, lesson(node), lambda _: Trained(*[same] * 3))
    norms = np.linalg.norm(made.final, axis=1)
    np.testing.assert_allclose(norms, norm_bound(node.layout), rtol=0.01)
    assert (norms <= norm_bound(node.layout)).all()
    np.testing.assert_array_equal(made.mean, made.final)


def test_so_does_noise_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(compose([*TINY, "privacy.training.unit=example"]), 0, 2)
    tasks, start = list(node.experts.values())[:2], np.zeros((1, node.layout.size), np.float32)
    drawn = np.random.default_rng(0).normal(size=(3, 2, node.layout.size)).astype(np.float32)
    drawn[:, 0] /= 100  # well within
    found = Trained(drawn[0], drawn[1], drawn[2] ** 2)
    monkeypatch.setattr(private, "train_with_noise", lambda *_: found)
    made = trained_as_promised(node, tasks, start, lesson(node), lambda _: found)
    bound = norm_bound(node.layout)
    for before, after in (
        (found.final, made.final),
        (found.mean, made.mean),
        (np.sqrt(found.variance), np.sqrt(made.variance)),
    ):
        np.testing.assert_allclose(after[0], before[0], rtol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(after[1]), bound, rtol=0.01)
        assert before[1] @ after[1] == pytest.approx(np.linalg.norm(before[1]) * bound, rel=0.01)
        assert np.linalg.norm(after[1]) <= bound


def test_updates_are_scaled_to_the_norm_and_broken_ones_say_nothing() -> None:
    update = np.array([3.0, 4.0])
    np.testing.assert_allclose(clipped_update(update, 1.0), [0.6, 0.8])
    np.testing.assert_array_equal(clipped_update(update, 6.0), update)
    np.testing.assert_array_equal(clipped_update(np.array([np.nan, 1.0]), 1.0), [0, 0])
    np.testing.assert_array_equal(clipped_update(np.zeros(2), 1.0), [0, 0])


def test_an_expert_whose_training_diverges_is_told_from_nobody(node: Node) -> None:
    """A refusal would say something about its examples that no noise covers."""
    tasks, size = list(node.experts.values())[:3], node.layout.size
    moved = np.zeros((3, size), np.float32)
    moved[:, 0] = 100.0

    def diverging(rows: Sequence[int]) -> Trained:
        if 1 in rows:
            raise AdapterValueError("training diverged")
        return Trained(*[moved[list(rows)]] * 3)

    start = np.full((1, size), 0.05, np.float32)
    made = trained_as_promised(node, tasks, start, lesson(node), diverging).final
    promise = promise_for(node.config, 4)
    assert promise is not None
    noise = (made[:, 1:].astype(np.float64) - 0.05) / (promise.sigma * promise.clip)
    for row in noise:
        assert 1e-6 < chi2.cdf(float((row**2).sum()), size - 1) < 1 - 1e-6


def test_a_round_beyond_the_promise_is_refused_before_anything_is_trained(node: Node) -> None:
    def never(rows: object) -> Trained:
        raise AssertionError

    start = np.zeros((1, node.layout.size), np.float32)
    with pytest.raises(BudgetError):
        trained_as_promised(node, list(node.experts.values()), start, lesson(node, 3), never)


def test_examples_are_not_in_the_hash_that_leaves_the_node(node: Node) -> None:
    bare = Node(compose([*TINY, "family.train_per_client=5"]), 0, 2)
    assert node.task_digests == bare.task_digests
    open_one = Node(compose(["experiment=cameras", *TINY[3:]]), 0, 2)
    task = next(iter(open_one.experts.values()))
    assert open_one.task_digests[task.id] == tasks_sha256([task])
    assert node.task_digests[task.id] == tasks_sha256([replace(task, train=())])


def test_exchanges_are_called_as_their_messages(node: Node) -> None:
    from sglora_fed.federation import rounds, shared

    assert (rounds.ROUND, shared.SHARED) == (private.ROUND, private.SHARED)
