"""Folded training, against a plain loop of torch's AdamW over PEFT, one adapter at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from sglora_fed.adapters.batched import adapted
from sglora_fed.adapters.data import batch_indices, prepare
from sglora_fed.adapters.layout import Layout
from sglora_fed.adapters.training import (
    CHECK_EVERY,
    FOLD,
    Moments,
    Trained,
    task_losses,
    train_adapters,
)
from sglora_fed.backbones.minilm import MiniLM
from sglora_fed.config.schema import TrainConfig
from sglora_fed.errors import AdapterValueError
from sglora_fed.seeds import derive_seed
from sglora_fed.tasks.types import Task

SEEDS = (11, 12, 13, 14, 15)
# Some gradients are above the norm and some below, so that clipping matters under AdamW.
CONFIG = TrainConfig(steps=7, batch_size=6, lr=0.02, max_grad_norm=0.7, checkpoints=3)
Train = Callable[..., Trained]


@pytest.fixture
def tasks(make_task: Callable[..., Task]) -> list[Task]:
    """Two that share a group; one of more labels, one smaller than a batch, one of pairs."""
    sizes = [(13, 2), (16, 3), (5, 2), (12, 2)]
    labelled = [make_task(seed, *size) for seed, size in enumerate(sizes)]
    return [*labelled, make_task(4, 8, kind="retrieval")]


@pytest.fixture
def train(encoder: MiniLM, layout: Layout) -> Train:
    """A function of (tasks, starts, config, seeds), for their training examples."""

    def run(tasks: list[Task], starts: np.ndarray, *options: Any) -> Trained:
        parts = [prepare(encoder, task, task.train) for task in tasks]
        return train_adapters(encoder, layout, starts, parts, *options)

    return run


def plain_loss(reference: Any, task: Task, rows: np.ndarray) -> torch.Tensor:
    examples = [task.train[i] for i in rows]
    items = [example.item for example in examples]
    if task.kind == "retrieval":
        scores = reference.scores(items, [example.label for example in examples])
        right = torch.arange(len(rows))
        return (cross_entropy(scores, right) + cross_entropy(scores.T, right)) / 2
    keys = list(task.labels)
    right = torch.tensor([keys.index(example.label) for example in examples])
    return cross_entropy(reference.scores(items, list(task.labels.values())), right)


def plain_steps(
    reference: Any, task: Task, start: np.ndarray, config: TrainConfig, seed: int, rows: np.ndarray
) -> Iterator[np.ndarray]:
    """The adapter after each step; the model holds it while the caller looks."""
    reference.load(start)
    parameters = reference.parameters()
    optimiser = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=0.0)
    words = np.array([len(task.train[i].item.split()) for i in rows])
    for batch in batch_indices(words, config.batch_size, config.steps, seed):
        optimiser.zero_grad()
        plain_loss(reference, task, rows[batch]).backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
        optimiser.step()
        yield reference.flat()


def assert_near(ours: np.ndarray, plain: np.ndarray, atol: float = 1e-4) -> None:
    np.testing.assert_allclose(ours, plain, atol=atol, rtol=0)


def assert_alike(ours: Trained, plain: Trained, rows: Sequence[int]) -> None:
    """Rows of ours are all that the other has, up to rounding."""
    assert_near(ours.final[rows], plain.final)
    assert_near(ours.mean[rows], plain.mean)
    assert_near(ours.variance[rows], plain.variance, atol=5e-6)


def test_training_equals_adamw_over_peft(
    train: Train, reference: Any, tasks: list[Task], vectors: np.ndarray
) -> None:
    trained = train(tasks, vectors, CONFIG, SEEDS)
    for index, task in enumerate(tasks):
        options = (CONFIG, SEEDS[index], np.arange(len(task.train)))
        path = np.stack(list(plain_steps(reference, task, vectors[index], *options)))
        last = path[-CONFIG.checkpoints :].astype(np.float64)
        assert_near(trained.final[index], path[-1])
        assert_near(trained.mean[index], last.mean(axis=0))
        assert_near(trained.variance[index], last.var(axis=0), atol=1e-7)
        # The comparison would be empty if the adapters hardly moved, in all or in the last steps.
        assert np.abs(path[-1] - vectors[index]).mean() > 0.02
        assert last.var(axis=0).mean() > 2e-5


@pytest.mark.parametrize("kind", ["labelled", "retrieval"])
def test_losses_equal_peft(
    encoder: MiniLM, layout: Layout, reference: Any, make_task: Any, vectors: np.ndarray, kind: str
) -> None:
    rows = [np.array([7, 0, 3, 4]), np.array([1, 2, 9, 5])]
    pair = [make_task(seed, 10, kind=kind) for seed in (0, 1)]
    parts = [prepare(encoder, task, task.train) for task in pair]
    with torch.no_grad(), adapted(encoder.model, layout, torch.from_numpy(vectors[:2])):
        losses = task_losses(encoder, parts, rows)
    for number, task in enumerate(pair):
        reference.load(vectors[number])
        expected = plain_loss(reference, task, rows[number]).item()
        assert losses[number].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("patience", [0, 1])
def test_neighbours_in_the_batch_do_not_matter(
    train: Train, make_task: Callable[..., Task], vectors: np.ndarray, patience: int
) -> None:
    tasks = [make_task(20, 15), *(make_task(seed, 10) for seed in range(FOLD + 2))]
    config = replace(CONFIG, steps=20, patience=patience, checkpoints=8)
    starts, seeds = np.resize(vectors, (len(tasks), vectors.shape[1])), range(len(tasks))
    together = train(tasks, starts, config, seeds)
    for i, task in enumerate(tasks):
        assert_alike(together, train([task], starts[[i]], config, [seeds[i]]), [i])


def test_the_seed_alone_decides_the_order(
    train: Train, tasks: list[Task], vectors: np.ndarray
) -> None:
    first, again = (train(tasks, vectors, CONFIG, SEEDS) for _ in range(2))
    for name in ("final", "mean", "variance"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    other = train(tasks, vectors, CONFIG, (99, *SEEDS[1:]))
    assert np.abs(other.final[0] - first.final[0]).max() > 1e-3
    assert_near(other.final[1:], first.final[1:])


def test_one_start_serves_all(train: Train, tasks: list[Task], vectors: np.ndarray) -> None:
    one = train(tasks, vectors[:1], CONFIG, SEEDS)
    assert_alike(one, train(tasks, vectors[[0] * 5], CONFIG, SEEDS), range(5))


def plain_early_stopping(
    reference: Any, task: Task, start: np.ndarray, config: TrainConfig, seed: int
) -> tuple[np.ndarray, list[float]]:
    """The path up to the stop and the validation loss of each look; a fifth is held out."""
    count = len(task.train)
    order = np.random.default_rng(derive_seed(seed, "hold_out")).permutation(count)
    held, rows = order[: count // 5], np.sort(order[count // 5 :])
    path, looks = [], []
    for vector in plain_steps(reference, task, start, config, seed, rows):
        path.append(vector)
        if len(path) % CHECK_EVERY == 0:
            looks.append(plain_loss(reference, task, held).item())
            if len(looks) - 1 - int(np.argmin(looks)) == config.patience:
                break
    return np.stack(path), looks


def test_early_stopping_keeps_the_best_look_of_a_plain_loop(
    train: Train, reference: Any, make_task: Callable[..., Task], vectors: np.ndarray
) -> None:
    tasks = [make_task(seed, 10) for seed in range(4)] + [make_task(4, 10, kind="retrieval")]
    config = replace(CONFIG, steps=30, lr=0.05, checkpoints=14, patience=2)
    trained, stops = train(tasks, vectors, config, SEEDS), set()
    for index, task in enumerate(tasks):
        path, looks = plain_early_stopping(reference, task, vectors[index], config, SEEDS[index])
        best = path[(int(np.argmin(looks)) + 1) * CHECK_EVERY - 1]
        last = path[config.steps - config.checkpoints :]
        # Without a step among the last M, the best vector stands for them.
        last = last if len(last) else best[None]
        expected = (numbers[None] for numbers in (best, last.mean(axis=0), last.var(axis=0)))
        assert_alike(trained, Trained(*expected), [index])
        stops.add(len(path))
    # One stops before the last 14 steps, another among them, another not at all.
    assert stops > {15, 30}


def test_with_too_few_examples_nothing_is_held_out(
    train: Train, make_task: Callable[..., Task], vectors: np.ndarray
) -> None:
    task, config = make_task(0, 4), replace(CONFIG, steps=25)
    patient = train([task], vectors[:1], replace(config, patience=1), [0])
    assert_alike(patient, train([task], vectors[:1], config, [0]), [0])


def test_divergence_is_an_error(train: Train, tasks: list[Task], vectors: np.ndarray) -> None:
    with pytest.raises(AdapterValueError, match=r"diverged.*adapter\.train\.lr"):
        train(tasks, vectors, replace(CONFIG, lr=1e30), SEEDS)
    broken = vectors.copy()
    broken[3, 5] = np.nan
    with pytest.raises(AdapterValueError, match="diverged"):
        train(tasks, broken, CONFIG, SEEDS)


def test_what_a_stopped_adapter_becomes_is_not_counted() -> None:
    """Beside one that runs on, an adapter that diverged after it stopped must stay countable."""
    moments = Moments(torch.zeros(2, 2))
    moments.add(torch.ones(2, 2), torch.tensor([True, True]))
    moments.add(torch.tensor([[torch.nan] * 2, [3.0, 3.0]]), torch.tensor([False, True]))
    mean, variance = moments.result(torch.zeros(2, 2))
    torch.testing.assert_close(mean, torch.tensor([[1.0, 1.0], [2.0, 2.0]]))
    torch.testing.assert_close(variance, torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
