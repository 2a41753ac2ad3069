"""DP-SGD on LoRA vectors: many tasks at once, each example's gradient clipped by itself.

Opacus samples, clips, adds noise and steps. The gradients of single examples come from the batched
forward: each example is a group of rows with a copy of its task's adapter, and the gradient of the
copy is the example's. So any model will do, and nothing is hooked into it. A step in which nobody
is drawn is a step of noise alone and counts like the others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sglora_fed.adapters.batched import adapted
from sglora_fed.adapters.candidates import label_scores
from sglora_fed.adapters.data import Prepared, fold_groups
from sglora_fed.adapters.layout import Layout
from sglora_fed.adapters.training import FOLD, Moments, Trained
from sglora_fed.backbones.types import DualEncoder
from sglora_fed.config.schema import TrainConfig, TrainingPrivacyConfig
from sglora_fed.errors import AdapterValueError

MOMENTUM = 0.9

EXAMPLES = 256
"""In one backward pass: each has an adapter of its own in memory."""


@dataclass(frozen=True)
class PrivateTraining:
    """How some adapters are trained with noise.

    Attributes:
        encoder: frozen dual encoder.
        layout: of the vectors.
        train: steps, batch size and rate; the last steps that count as checkpoints.
        privacy: clipping norm, sharpness of the loss, and which factors are trained.
        fold: adapters in one batch.
        examples: in one backward pass.
    """

    encoder: DualEncoder
    layout: Layout
    train: TrainConfig
    privacy: TrainingPrivacyConfig
    fold: int = FOLD
    examples: int = EXAMPLES


def train_privately(
    training: PrivateTraining,
    starts: np.ndarray,
    parts: Sequence[Prepared],
    sigmas: Sequence[float],
) -> Trained:
    """Train one adapter per task by DP-SGD (Abadi et al. 2016, algorithm 1), with momentum.

    What noise and which examples a step takes comes from the operating system's generator: two
    calls differ, whatever the seed.

    Args:
        training: how.
        starts: [n, D] or [1, D] to start all alike.
        parts: n tasks' training examples, labelled, as :func:`prepare_separable` makes them.
        sigmas: n noise multipliers: the noise's standard deviation over the clipping norm.

    Raises:
        AdapterValueError: when training diverges, or an adapter is what it was before.
    """
    size = training.layout.size
    starts = np.broadcast_to(starts, (len(parts), size)).astype(np.float32)
    trained = Trained(*(np.empty((len(parts), size), np.float32) for _ in range(3)))
    for group in fold_groups(parts, training.train.batch_size, training.fold):
        some = [parts[i] for i in group], [sigmas[i] for i in group]
        result = _train_group(training, starts[group], *some)
        trained.final[group], trained.mean[group], trained.variance[group] = result
    if not all(np.isfinite(a).all() for a in (trained.final, trained.mean, trained.variance)):
        raise AdapterValueError("training diverged: NaN or infinity; lower privacy.training.lr")
    if (trained.final == starts).all(axis=1).any():
        raise AdapterValueError("training left an adapter as it was; its noise alone would not")
    return trained


def _train_group(
    training: PrivateTraining, starts: np.ndarray, parts: list[Prepared], sigmas: list[float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    device, train = training.encoder.device, training.train
    vectors, places = torch.from_numpy(starts).to(device), trained_places(training).to(device)
    own = [torch.nn.Parameter(row[places].clone()) for row in vectors]
    rates = [min(train.batch_size, len(part)) / len(part) for part in parts]
    optimisers = [
        _optimiser(training, one, sigma, rate * len(part))
        for one, sigma, rate, part in zip(own, sigmas, rates, parts, strict=True)
    ]
    draws = [_draws(len(part), rate, train.steps) for part, rate in zip(parts, rates, strict=True)]
    moments, running = Moments(vectors), torch.ones(len(parts), dtype=torch.bool)
    for step in range(train.steps):
        picks = [next(draw) for draw in draws]
        gradients = example_gradients(training, vectors, parts, picks)
        for one, gradient, optimiser in zip(own, gradients, optimisers, strict=True):
            one.grad_sample = gradient  # type: ignore[attr-defined]  # where Opacus looks for it
            optimiser.step()
            optimiser.zero_grad()
        vectors[:, places] = torch.stack([one.detach() for one in own])
        if step >= train.steps - train.checkpoints:
            moments.add(vectors, running)
    mean, variance = moments.result(vectors)
    return vectors.cpu().numpy(), mean.cpu().numpy(), variance.cpu().numpy()


def trained_places(training: PrivateTraining) -> Tensor:
    """[P] int64, which numbers of a vector are trained: all, or those of the factors B."""
    layout, places, start = training.layout, [], 0
    for module in layout.modules:
        middle = start + layout.rank * module.d_in
        end = middle + layout.rank * module.d_out
        places.append(torch.arange(middle if training.privacy.freeze_a else start, end))
        start = end
    return torch.cat(places)


def example_gradients(
    training: PrivateTraining, vectors: Tensor, parts: Sequence[Prepared], picks: Sequence[Tensor]
) -> list[Tensor]:
    """Each drawn example's own gradient.

    Args:
        training: how.
        vectors: [G, D].
        parts: G tasks, labelled, that could be folded.
        picks: for each task the rows that were drawn; there may be none.

    Returns:
        G tensors [drawn, P] on the trained numbers. What is not finite counts as zero: no example
        may say more than the clipping norm.
    """
    owners = torch.cat([torch.full((len(rows),), g) for g, rows in enumerate(picks)]).long()
    rows = torch.cat([torch.as_tensor(rows) for rows in picks]).long()
    places = trained_places(training).to(vectors.device)
    found = vectors.new_empty(len(rows), len(places))
    for start in range(0, len(rows), training.examples):
        some = slice(start, start + training.examples)
        base = vectors[owners[some].to(vectors.device)]
        copies = base[:, places].requires_grad_(True)
        each = base.index_copy(1, places, copies)
        with adapted(training.encoder.model, training.layout, each):
            losses = _losses(training, parts, owners[some].tolist(), rows[some].tolist())
        (found[some],) = torch.autograd.grad(losses.sum(), copies)
    found = found.nan_to_num(0.0, 0.0, 0.0)
    return list(torch.split(found, [len(rows) for rows in picks]))


def _losses(
    training: PrivateTraining, parts: Sequence[Prepared], owners: list[int], rows: list[int]
) -> Tensor:
    """[N] cross entropies of single examples; the model carries an adapter for each."""
    encoder, chosen = training.encoder, [parts[owner] for owner in owners]
    items = encoder.encode_items([p.items[i] for p, i in zip(chosen, rows, strict=True)], len(rows))
    texts = _texts(encoder, chosen)
    scores = torch.bmm(items.view(len(rows), 1, -1), texts.transpose(1, 2))
    logits = encoder.scale * training.privacy.sharpness * scores
    logits = label_scores(logits, [part.owners for part in chosen])[:, 0]
    targets = np.array([p.targets[i] for p, i in zip(chosen, rows, strict=True)])
    return F.cross_entropy(logits, torch.from_numpy(targets).to(logits.device), reduction="none")


def _texts(encoder: DualEncoder, chosen: Sequence[Prepared]) -> Tensor:
    """[N, L, dim] candidate texts of each example's task."""
    count = len(chosen[0].texts)
    if chosen[0].texts[0].ndim > 1:
        texts = [text for part in chosen for text in part.texts]
        return encoder.encode_texts(texts, len(chosen)).view(len(chosen), count, -1)
    # Embedded already: no adapter reaches them, and tasks may share one list of many.
    lists = {id(part.texts): part.texts for part in chosen}
    encoded = {key: encoder.encode_texts(texts, 1) for key, texts in lists.items()}
    return torch.stack([encoded[id(part.texts)] for part in chosen])


def _optimiser(
    training: PrivateTraining, one: torch.nn.Parameter, sigma: float, expected: float
) -> Any:
    from opacus.optimizers import DPOptimizer  # costs seconds of CPU

    return DPOptimizer(
        torch.optim.SGD([one], lr=training.train.lr, momentum=MOMENTUM),
        noise_multiplier=sigma,
        max_grad_norm=training.privacy.clip,
        expected_batch_size=expected,
        generator=system_generator(one.device),
    )


def _draws(count: int, rate: float, steps: int) -> Iterator[Tensor]:
    """Rows of each step: every example with the same chance, on its own."""
    from opacus.utils.uniform_sampler import UniformWithReplacementSampler

    sampler = UniformWithReplacementSampler(
        num_samples=count, sample_rate=rate, generator=system_generator(), steps=steps
    )
    return (torch.tensor(rows, dtype=torch.int64) for rows in sampler)


def system_generator(device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that nobody can foresee: its seed is the operating system's, never a run's."""
    return torch.Generator(device).manual_seed(int.from_bytes(os.urandom(8)))
