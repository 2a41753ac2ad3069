"""DP-SGD on LoRA vectors: against plain autograd over PEFT, closed forms, and planted bugs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from opacus.optimizers import DPOptimizer
from scipy.stats import chi2
from torch.nn.functional import cross_entropy

import sglora_fed.adapters.private as private
from sglora_fed.adapters.data import Prepared, prepare, prepare_separable
from sglora_fed.adapters.layout import Layout, initial_vector
from sglora_fed.adapters.private import (
    PrivateTraining,
    example_gradients,
    train_privately,
    trained_places,
)
from sglora_fed.backbones.minilm import MiniLM
from sglora_fed.config.schema import TrainConfig, TrainingPrivacyConfig
from sglora_fed.errors import AdapterValueError, TaskError
from sglora_fed.tasks.types import Task

STEP = TrainConfig(steps=1, batch_size=12, lr=0.5, checkpoints=1)
PRIVACY = TrainingPrivacyConfig(epsilon=1.0, clip=1.5, sharpness=0.5, freeze_a=False)

MakeTask = Callable[..., Task]


@pytest.fixture
def training(encoder: MiniLM, layout: Layout) -> PrivateTraining:
    return PrivateTraining(encoder, layout, STEP, PRIVACY, examples=5)


@pytest.fixture
def parts(encoder: MiniLM, make_task: MakeTask) -> list[Prepared]:
    tasks = [make_task(seed) for seed in (0, 1)]
    return [prepare(encoder, task, task.train) for task in tasks]


def one_by_one(reference: Any, task: Task, vector: np.ndarray) -> np.ndarray:
    """[n, D] gradients of single examples, by PEFT alone."""
    rows = []
    for example in task.train:
        reference.load(vector)
        reference.model.zero_grad()
        scores = reference.scores([example.item], list(task.labels.values()))
        target = torch.tensor([list(task.labels).index(example.label)])
        cross_entropy(PRIVACY.sharpness * scores, target).backward()
        rows.append(reference.flat(gradients=True))
    return np.stack(rows)


class TestGradients:
    def test_each_example_has_the_gradient_that_it_has_alone(
        self, training: PrivateTraining, make_task: MakeTask, vectors: np.ndarray, reference: Any
    ) -> None:
        parts = [prepare(training.encoder, t, t.train) for t in map(make_task, (0, 1))]
        picks = [torch.arange(12), torch.tensor([3, 7])]
        found = example_gradients(training, torch.from_numpy(vectors[:2]), parts, picks)
        for place, (gradient, rows) in enumerate(zip(found, picks, strict=True)):
            alone = one_by_one(reference, make_task(place), vectors[place])[rows]
            np.testing.assert_allclose(gradient, alone, atol=2e-6 * np.abs(alone).max() + 1e-7)

    def test_nobody_drawn_gives_no_rows(
        self, training: PrivateTraining, parts: list[Prepared], vectors: np.ndarray
    ) -> None:
        none = torch.empty(0, dtype=torch.int64)
        found = example_gradients(training, torch.from_numpy(vectors[:2]), parts, [none, none])
        assert [tuple(rows.shape) for rows in found] == [(0, training.layout.size)] * 2

    def test_what_is_not_finite_says_nothing(
        self, training: PrivateTraining, parts: list[Prepared], vectors: np.ndarray
    ) -> None:
        broken = replace(parts[0], items=[item * torch.nan for item in parts[0].items])
        (found,) = example_gradients(
            training, torch.from_numpy(vectors[:1]), [broken], [torch.tensor([0, 1])]
        )
        assert not found.any()

    def test_with_a_frozen_only_factors_b_are_trained(
        self, training: PrivateTraining, parts: list[Prepared], layout: Layout
    ) -> None:
        frozen = replace(training, privacy=replace(PRIVACY, freeze_a=True))
        start = initial_vector(layout, 0).numpy()[None]
        after = train_privately(frozen, start, parts, [1.0, 1.0]).final
        before, changed = (layout.unpack(torch.from_numpy(v)) for v in (start, after))
        for name, (a, b) in changed.items():
            assert torch.equal(a, before[name][0].expand_as(a))
            assert b.all()
        assert len(trained_places(frozen)) == sum(m.d_out * 2 for m in layout.modules)


class TestClipping:
    def check(self, training: PrivateTraining, vectors: np.ndarray, gradients: np.ndarray) -> None:
        """One step of all examples without noise is the sum of clipped gradients."""
        part = self.part(training)
        after = train_privately(training, vectors[:1], [part], [0.0]).final[0]
        norms = np.linalg.norm(gradients, axis=1)
        assert (norms > PRIVACY.clip).any()
        assert (norms < PRIVACY.clip).any()
        clipped = gradients * np.minimum(1, PRIVACY.clip / norms)[:, None]
        expected = vectors[0] - STEP.lr * clipped.sum(axis=0) / len(gradients)
        np.testing.assert_allclose(after, expected, atol=2e-6)

    def part(self, training: PrivateTraining) -> Prepared:
        return prepare(training.encoder, self.task, self.task.train)

    @pytest.fixture(autouse=True)
    def _task(self, make_task: MakeTask) -> None:
        self.task = make_task(0)

    def test_a_step_is_the_mean_of_clipped_gradients(
        self, training: PrivateTraining, vectors: np.ndarray, reference: Any
    ) -> None:
        self.check(training, vectors, one_by_one(reference, self.task, vectors[0]))

    def test_a_forgotten_clipping_would_be_seen(
        self,
        training: PrivateTraining,
        vectors: np.ndarray,
        reference: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def unclipped(self: Any) -> None:
            for p in self.params:
                p.summed_grad = p.grad_sample.sum(dim=0)

        monkeypatch.setattr(DPOptimizer, "clip_and_accumulate", unclipped)
        with pytest.raises(AssertionError):
            self.check(training, vectors, one_by_one(reference, self.task, vectors[0]))


class TestNoise:
    SIGMA = 1000.0

    def surprise(self, training: PrivateTraining, part: Prepared, steps: int = 1) -> float:
        """Probability of noise as far from its claimed deviation as that of one training."""
        start = np.ones((1, training.layout.size), np.float32)
        train = replace(STEP, steps=steps)
        after = train_privately(replace(training, train=train), start, [part], [self.SIGMA]).final
        # Momentum .9: the first of n noises has moved the vector by 1 + .9 + ... of its length.
        weights = np.array([sum(0.9**k for k in range(n)) for n in range(1, steps + 1)])
        single = STEP.lr * self.SIGMA * PRIVACY.clip / len(part)
        squares = float((((after - start) / single) ** 2).sum() / (weights**2).sum())
        return 2 * min(chi2.cdf(squares, after.size), chi2.sf(squares, after.size))

    def test_its_deviation_is_sigma_times_the_clipping_norm(
        self, training: PrivateTraining, parts: list[Prepared]
    ) -> None:
        assert self.surprise(training, parts[0]) > 1e-6

    def test_half_of_it_would_be_seen(
        self,
        training: PrivateTraining,
        parts: list[Prepared],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        build = private._optimiser

        def halved(training: PrivateTraining, one: Any, sigma: float, expected: float) -> Any:
            return build(training, one, sigma / 2, expected)

        monkeypatch.setattr(private, "_optimiser", halved)
        assert self.surprise(training, parts[0]) < 1e-6

    def test_a_step_without_examples_is_a_step_of_noise(
        self,
        training: PrivateTraining,
        parts: list[Prepared],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        nobody = torch.empty(0, dtype=torch.int64)
        monkeypatch.setattr(private, "_draws", lambda *_: itertools.repeat(nobody))
        assert self.surprise(training, parts[0], steps=3) > 1e-6

    def test_a_step_that_is_skipped_without_examples_would_be_seen(
        self,
        training: PrivateTraining,
        parts: list[Prepared],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        nobody, step = torch.empty(0, dtype=torch.int64), DPOptimizer.step
        draws = [nobody, torch.tensor([0]), nobody]
        monkeypatch.setattr(private, "_draws", lambda *_: iter(draws))

        def skipping(self: Any) -> Any:
            return step(self) if len(self.params[0].grad_sample) else None

        monkeypatch.setattr(DPOptimizer, "step", skipping)
        assert self.surprise(training, parts[0], steps=3) < 1e-6

    def test_two_trainings_of_one_seed_differ(
        self, training: PrivateTraining, parts: list[Prepared], vectors: np.ndarray
    ) -> None:
        torch.manual_seed(0)
        one = train_privately(training, vectors[:2], parts, [1.0, 1.0]).final
        torch.manual_seed(0)
        other = train_privately(training, vectors[:2], parts, [1.0, 1.0]).final
        assert (one != other).mean() > 0.99


class TestSampling:
    def test_every_example_comes_with_its_own_chance(self) -> None:
        draws = list(private._draws(50, 0.2, 400))
        counts = np.bincount(torch.cat(draws).numpy(), minlength=50)
        sizes = np.array([len(rows) for rows in draws])
        squares = ((counts - 80) ** 2).sum() / (400 * 0.2 * 0.8)
        assert 1e-6 < chi2.cdf(squares, 50) < 1 - 1e-6
        # The size of a batch is random too, with the variance of a binomial number.
        assert 5 < sizes.var() < 11.5

    def test_a_rate_of_one_takes_everybody(self) -> None:
        assert [rows.tolist() for rows in private._draws(3, 1.0, 2)] == [[0, 1, 2]] * 2


def test_an_adapter_that_did_not_move_is_refused(
    training: PrivateTraining,
    parts: list[Prepared],
    vectors: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(DPOptimizer, "step", lambda self: None)
    with pytest.raises(AdapterValueError, match="as it was"):
        train_privately(training, vectors[:2], parts, [1.0, 1.0])


class TestPublicCaptions:
    def captions(self, task: Task) -> list[str]:
        return [example.label for example in task.train]

    def test_a_pair_is_compared_with_the_list_and_not_with_others(
        self, encoder: MiniLM, make_task: MakeTask
    ) -> None:
        task = make_task(0, 4, kind="retrieval")
        captions = ["w1 w2", *self.captions(task)]
        found = prepare_separable(encoder, task, task.train, "none", captions)
        alone = prepare_separable(encoder, task, task.train[:1], "none", captions)
        assert found.kind == "labelled"
        assert found.targets.tolist() == [1, 2, 3, 4]
        assert alone.targets.tolist() == [1]
        assert len(alone.texts) == len(found.texts) == 5

    def test_a_caption_that_is_not_public_is_refused_without_being_named(
        self, encoder: MiniLM, make_task: MakeTask
    ) -> None:
        task = make_task(0, 4, kind="retrieval")
        with pytest.raises(TaskError, match="1 of 4 captions") as error:
            prepare_separable(encoder, task, task.train, "none", self.captions(task)[1:])
        assert self.captions(task)[0] not in str(error.value)
