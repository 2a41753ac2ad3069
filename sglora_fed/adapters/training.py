"""Training of LoRA vectors on one or many tasks at once."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sglora_fed.adapters.batched import adapted
from sglora_fed.adapters.candidates import label_scores
from sglora_fed.adapters.data import Prepared, batch_indices, fold_groups, together
from sglora_fed.adapters.layout import Layout
from sglora_fed.backbones.types import DualEncoder
from sglora_fed.config.schema import TrainConfig
from sglora_fed.errors import AdapterValueError
from sglora_fed.seeds import derive_seed

FOLD = 8
"""Adapters in one batch on a CPU: more saves no time there (the arithmetic is the same)."""

CHECK_EVERY = 5
"""Steps between two looks at the validation loss when early stopping is on."""


@dataclass(frozen=True)
class Trained:
    """Adapters after training, n of them.

    Attributes:
        final: [n, D] the last step's parameters; with early stopping, the best ones seen.
        mean: [n, D] mean over the last M steps, or ``final`` when the adapter stopped before them.
        variance: [n, D] element-wise variance over these steps (divided by their number).
    """

    final: np.ndarray
    mean: np.ndarray
    variance: np.ndarray


def task_losses(
    encoder: DualEncoder, parts: Sequence[Prepared], rows: Sequence[np.ndarray]
) -> Tensor:
    """Mean loss of each task on some of its rows; the model carries the tasks' adapters.

    Labelled: cross entropy of ``scale * cosine(item, candidate)``. Retrieval: the mean of both
    directions' cross entropy within the batch (Radford et al. 2021, figure 3).

    Args:
        encoder: dual encoder inside :func:`adapted`.
        parts: G tasks of one fold group.
        rows: for each task the indices of its rows, the same number B for all.

    Returns:
        [G] losses.
    """
    logits, targets = folded_logits(encoder, parts, rows)
    loss = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none").mean(dim=1)
    if parts[0].kind == "retrieval":
        back = F.cross_entropy(logits, targets, reduction="none").mean(dim=1)
        loss = (loss + back) / 2
    return loss


def folded_logits(
    encoder: DualEncoder, parts: Sequence[Prepared], rows: Sequence[np.ndarray]
) -> tuple[Tensor, Tensor]:
    """Scores of G tasks' rows for their own labels.

    Returns:
        logits [G, B, L] and targets [G, B]; for retrieval L = B and the texts are the rows' own.
    """
    groups = len(parts)
    chosen = [p.items[i] for p, r in zip(parts, rows, strict=True) for i in r]
    items = encoder.encode_items(chosen, groups)
    items = items.view(groups, -1, items.shape[-1])
    if parts[0].kind == "retrieval":
        chosen = [p.texts[i] for p, r in zip(parts, rows, strict=True) for i in r]
        targets = np.tile(np.arange(len(rows[0])), (groups, 1))
    else:
        chosen = [text for part in parts for text in part.texts]
        targets = np.stack([p.targets[r] for p, r in zip(parts, rows, strict=True)])
    texts = encoder.encode_texts(chosen, groups)
    texts = texts.view(groups, -1, texts.shape[-1])
    logits = encoder.scale * torch.bmm(items, texts.transpose(1, 2))
    if parts[0].kind == "labelled":
        logits = label_scores(logits, [part.owners for part in parts])
    return logits, torch.from_numpy(targets).to(logits.device)


def train_adapters(
    encoder: DualEncoder,
    layout: Layout,
    starts: np.ndarray,
    parts: Sequence[Prepared],
    config: TrainConfig,
    seeds: Sequence[int],
) -> Trained:
    """Train one adapter per task, several folded into each batch.

    The result for a task does not depend on which tasks share its batch (up to rounding).

    Args:
        encoder: frozen dual encoder.
        layout: of the vectors.
        starts: [n, D] or [1, D] to start all alike.
        parts: n tasks' training examples.
        config: steps, batch size, learning rate, M, patience.
        seeds: n seeds of the batches' order.

    Raises:
        AdapterValueError: when training diverges to NaN or infinity.
    """
    starts = np.broadcast_to(starts, (len(parts), layout.size))
    trained = Trained(*(np.empty((len(parts), layout.size), np.float32) for _ in range(3)))
    # What is held out for early stopping must not depend on who shares the batch: equal sizes.
    size = sys.maxsize if config.patience else config.batch_size
    most = together(encoder.device, parts, config.batch_size, FOLD)
    for group in fold_groups(parts, size, most):
        start = torch.from_numpy(np.array(starts[group], np.float32)).to(encoder.device)
        members = [parts[i] for i in group]
        result = _train_group(encoder, layout, start, members, config, [seeds[i] for i in group])
        trained.final[group], trained.mean[group], trained.variance[group] = result
    if not all(np.isfinite(a).all() for a in (trained.final, trained.mean, trained.variance)):
        raise AdapterValueError("training diverged: NaN or infinity; lower adapter.train.lr")
    return trained


def _train_group(
    encoder: DualEncoder,
    layout: Layout,
    start: Tensor,
    parts: list[Prepared],
    config: TrainConfig,
    seeds: Sequence[int],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    vectors = start.clone().requires_grad_(True)
    optimiser = torch.optim.AdamW([vectors], lr=config.lr, weight_decay=0.0)
    stopping = _EarlyStopping(parts, config, seeds)
    plans = [
        [rows[i] for i in batch_indices(part.lengths[rows], config.batch_size, config.steps, seed)]
        for part, rows, seed in zip(parts, stopping.training_rows, seeds, strict=True)
    ]
    moments = Moments(vectors)
    for step in range(config.steps):
        optimiser.zero_grad(set_to_none=True)
        with adapted(encoder.model, layout, vectors):
            losses = task_losses(encoder, parts, [plan[step] for plan in plans])
            torch.autograd.backward(losses.sum())
        _clip_rows(vectors, config.max_grad_norm)
        frozen = vectors.detach().clone()
        optimiser.step()
        stopping.restore_stopped(vectors, frozen)
        if step >= config.steps - config.checkpoints:
            moments.add(vectors.detach(), stopping.running)
        if stopping.check(step, encoder, layout, vectors):
            break
    final = stopping.best(vectors.detach())
    mean, variance = moments.result(final)
    return final.cpu().numpy(), mean.cpu().numpy(), variance.cpu().numpy()


def _clip_rows(vectors: Tensor, max_norm: float) -> None:
    """Scale each adapter's gradient down to the norm, independently of the other adapters."""
    gradient = vectors.grad
    if gradient is not None:
        norms = gradient.norm(dim=1, keepdim=True)
        gradient.mul_((max_norm / (norms + 1e-6)).clamp(max=1.0))


class Moments:
    """Running mean and variance of the checkpoints (Welford 1962), without keeping them."""

    def __init__(self, like: Tensor) -> None:
        self._count = torch.zeros_like(like[:, :1], requires_grad=False)
        self._mean = torch.zeros_like(like, requires_grad=False)
        self._squares = torch.zeros_like(self._mean)

    def add(self, values: Tensor, running: Tensor) -> None:
        """Count one checkpoint of the adapters that have not stopped (``running``, [n] bool)."""
        running = running.to(values.device).unsqueeze(1)
        # One that has stopped may have diverged since: a product with zero would keep its NaN.
        values = torch.where(running, values, self._mean)
        self._count += running
        before = values - self._mean
        self._mean += before / self._count.clamp(min=1)
        self._squares += before * (values - self._mean)

    def result(self, fallback: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance; ``fallback`` for adapters without a checkpoint."""
        mean = torch.where(self._count > 0, self._mean, fallback)
        return mean, self._squares / self._count.clamp(min=1)


class _EarlyStopping:
    """Off with patience 0; else each adapter keeps its best validation checkpoint.

    A fifth of each task's examples, seeded, is held out (with fewer than five examples, nothing:
    then there is no early stopping); an adapter stops after ``patience`` looks without a lower
    validation loss. All parts have the same number of examples when patience is not 0.
    """

    def __init__(self, parts: list[Prepared], config: TrainConfig, seeds: Sequence[int]) -> None:
        self._parts, self._patience = parts, config.patience
        self.training_rows, self._held_out = [], []
        held = len(parts[0]) // 5 if config.patience else 0
        for part, seed in zip(parts, seeds, strict=True):
            order = np.random.default_rng(derive_seed(seed, "hold_out")).permutation(len(part))
            self._held_out.append(order[:held])
            self.training_rows.append(np.sort(order[held:]))
        self._on = held > 0
        self._best_loss = torch.full((len(parts),), float("inf"))
        self._since = torch.zeros(len(parts), dtype=torch.int64)
        self._best: Tensor | None = None

    @property
    def running(self) -> Tensor:
        """[n] True for adapters that have not stopped."""
        return (self._since < self._patience) if self._on else torch.ones_like(self._since).bool()

    def restore_stopped(self, vectors: Tensor, before: Tensor) -> None:
        if not self.running.all():
            stopped = ~self.running.to(vectors.device)
            with torch.no_grad():
                vectors[stopped] = before[stopped]

    def check(self, step: int, encoder: DualEncoder, layout: Layout, vectors: Tensor) -> bool:
        """Look at the validation losses; True when every adapter has stopped."""
        if not self._on or (step + 1) % CHECK_EVERY:
            return False
        with torch.no_grad(), adapted(encoder.model, layout, vectors.detach()):
            loss = task_losses(encoder, self._parts, self._held_out).cpu()
        better = (loss < self._best_loss) & self.running
        current = vectors.detach()
        if self._best is None:
            self._best = current.clone()
        self._best[better.to(current.device)] = current[better.to(current.device)]
        self._best_loss = torch.where(better, loss, self._best_loss)
        self._since = torch.where(better, torch.zeros_like(self._since), self._since + 1)
        return not bool(self.running.any())

    def best(self, current: Tensor) -> Tensor:
        return current if self._best is None else self._best
