"""A task's examples in the form the backbone takes, grouped so that adapters can be folded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from sglora_fed.adapters.candidates import compared
from sglora_fed.backbones.types import DualEncoder
from sglora_fed.errors import TaskError
from sglora_fed.seeds import derive_seed
from sglora_fed.tasks.types import Example, Kind, Task

LENGTH_RATIO = 1.2
"""How much longer one task's items may be than another's in one batch: all get as much room."""

MOST = 64
"""Adapters in one batch on a GPU, which a small model's few do not fill."""

NUMBERS = 2**22
"""Of the items that a GPU has in one batch: training keeps some hundred times as many."""


@dataclass(frozen=True)
class Prepared:
    """Examples after everything below the first adapted layer.

    Attributes:
        items: one tensor per example.
        texts: candidate texts (labelled) or captions (retrieval), one tensor each.
        owners: [texts] int64, the number of each text's label; captions are labels of their own.
        targets: [n] int64, the number of the label that is right for each item.
        kind: ``labelled`` or ``retrieval``.
    """

    items: list[Tensor]
    texts: list[Tensor]
    owners: np.ndarray
    targets: np.ndarray
    kind: Kind

    def __len__(self) -> int:
        return len(self.items)

    @property
    def lengths(self) -> np.ndarray:
        """[n] int64, length of each item along its first axis (tokens of a text)."""
        return np.array([item.shape[0] for item in self.items])


def prepare(
    encoder: DualEncoder, task: Task, examples: Sequence[Example], hints: str = "none"
) -> Prepared:
    """Run the frozen part of the backbone once per example and candidate text.

    Args:
        encoder: the frozen dual encoder.
        task: whose labels are the candidates.
        examples: which of the task's examples.
        hints: how the candidate texts carry the client's own words about a label, as in
            :func:`~sglora_fed.adapters.candidates.candidate_texts`.

    Raises:
        TaskError: without examples, or when the backbone takes other items.
    """
    said = compared(encoder, task, examples, hints)
    items = encoder.prepare_items([example.item for example in examples])
    texts = encoder.prepare_texts(said.texts)
    return Prepared(items, texts, said.owners, said.targets, task.kind)


def prepare_separable(
    encoder: DualEncoder,
    task: Task,
    examples: Sequence[Example],
    hints: str,
    captions: Sequence[str],
) -> Prepared:
    """As :func:`prepare`, and no example's loss depends on another example.

    A pair of a retrieval task is not compared with the pairs that share its batch, but with a
    public list of captions; a labelled task's examples meet their labels alone anyway.

    Args:
        encoder: the frozen dual encoder.
        task: whose labels are the candidates.
        examples: which of the task's examples.
        hints: how the candidate texts carry the client's own words about a label.
        captions: the list, for retrieval.

    Raises:
        TaskError: as for :func:`prepare`, and for captions that are not in the list.
    """
    if task.kind == "labelled" or not examples:
        return prepare(encoder, task, examples, hints)
    places = {caption: place for place, caption in enumerate(captions)}
    if foreign := sum(example.label not in places for example in examples):
        raise TaskError(
            f"task {task.id!r}: {foreign} of {len(examples)} captions are not among the"
            f" {len(captions)} public ones, with which private training compares them"
        )
    own = prepare(encoder, task, examples, hints)
    targets = np.array([places[example.label] for example in examples])
    texts = _public_texts(encoder, tuple(captions))
    return Prepared(own.items, texts, np.arange(len(captions)), targets, "labelled")


@lru_cache(maxsize=2)
def _public_texts(encoder: DualEncoder, captions: tuple[str, ...]) -> list[Tensor]:
    """One list for all tasks, so that it is known to be one."""
    return list(encoder.prepare_texts(captions))


def few_shot(task: Task, shots: int, seed: int) -> tuple[Example, ...]:
    """The first ``shots`` training examples of each label in a seeded order.

    Args:
        task: a labelled task, or a retrieval task (then ``shots`` examples in all).
        shots: examples per label.
        seed: of the order.
    """
    order = np.random.default_rng(derive_seed(seed, "few_shot", task.id))
    shuffled = [task.train[i] for i in order.permutation(len(task.train))]
    if task.kind == "retrieval":
        return tuple(shuffled[:shots])
    taken: dict[str, list[Example]] = defaultdict(list)
    for example in shuffled:
        if len(taken[example.label]) < shots:
            taken[example.label].append(example)
    return tuple(example for examples in taken.values() for example in examples)


def together(device: torch.device, parts: Sequence[Prepared], batch_size: int, least: int) -> int:
    """Adapters that are trained in one batch.

    Args:
        device: where.
        parts: one per adapter.
        batch_size: rows per adapter and step.
        least: on any device, however large the items.
    """
    if device.type == "cpu":
        return least
    sizes = (min(batch_size, len(part)) * part.items[0].numel() for part in parts)
    largest = max(sizes, default=1)
    return max(least, min(MOST, NUMBERS // largest))


def fold_groups(parts: Sequence[Prepared], batch_size: int, most: int) -> list[list[int]]:
    """Indices of tasks that can share one folded batch: same kind, batch, labels and texts.

    Those of similar length stand together, so that little is padded.

    Args:
        parts: one per adapter.
        batch_size: rows per adapter and step; a smaller task takes all its rows.
        most: adapters per group at most.
    """
    alike: dict[tuple[Kind, int, int, int], list[int]] = defaultdict(list)
    for index, part in enumerate(parts):
        labelled = part.kind == "labelled"
        texts, labels = (len(part.texts), int(part.owners.max())) if labelled else (0, 0)
        alike[part.kind, min(batch_size, len(part)), texts, labels].append(index)
    means = [float(part.lengths.mean()) for part in parts]
    return [group for indices in alike.values() for group in _of_like_length(indices, means, most)]


def _of_like_length(indices: list[int], means: list[float], most: int) -> list[list[int]]:
    groups: list[list[int]] = []
    for index in sorted(indices, key=means.__getitem__):
        if (
            not groups
            or len(groups[-1]) == most
            or means[index] > LENGTH_RATIO * means[groups[-1][0]]
        ):
            groups.append([])
        groups[-1].append(index)
    return groups


def batch_indices(lengths: np.ndarray, batch_size: int, steps: int, seed: int) -> list[np.ndarray]:
    """Length-bucketed batches: rows of similar length go together, so little is padded.

    Each epoch cuts a seeded permutation into batches after sorting windows of four batches by
    length; every row comes once, except the last ``n % batch_size`` of the permutation, which wait
    for the next epoch. The order of the batches within an epoch depends on their number alone, so
    that folded tasks of one size are short and long in the same steps.

    Args:
        lengths: [n] length of each example.
        batch_size: rows per batch, at most n.
        steps: batches to return.
        seed: of the permutation.

    Returns:
        ``steps`` index arrays of ``min(batch_size, n)`` rows each.
    """
    rng = np.random.default_rng(seed)
    size = min(batch_size, len(lengths))
    batches: list[np.ndarray] = []
    epoch = 0
    while len(batches) < steps:
        batches += _one_epoch(lengths, size, rng, epoch)
        epoch += 1
    return batches[:steps]


def _one_epoch(
    lengths: np.ndarray, size: int, rng: np.random.Generator, epoch: int
) -> list[np.ndarray]:
    order = rng.permutation(len(lengths))
    cut = len(order) // size * size
    windows = [order[i : min(i + 4 * size, cut)] for i in range(0, cut, 4 * size)]
    batches = []
    for window in windows:
        by_length = window[np.argsort(lengths[window], kind="stable")]
        batches += [by_length[i : i + size] for i in range(0, len(by_length), size)]
    shared = np.random.default_rng([epoch, len(batches)])
    return [batches[i] for i in shared.permutation(len(batches))]
