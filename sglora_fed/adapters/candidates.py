"""What an item is compared with: candidate texts, one or several for each label."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sglora_fed.errors import TaskError
from sglora_fed.tasks.everyday import EVERYDAY_TOPICS, means_the_rest
from sglora_fed.tasks.phrases import said_of
from sglora_fed.tasks.types import Example, Modality, Task
from sglora_fed.tasks.wording import join_names

if TYPE_CHECKING:  # a node of one's own measures a few examples without torch
    from torch import Tensor


UNNAMED = len(EVERYDAY_TOPICS) // 2
"""Everyday topics that stand beside a phrase such as "everything else"."""


class Encoder(Hashable, Protocol):
    """What dual encoders in torch and in NumPy have in common for texts."""

    id: str
    modality: Modality

    def prepare_texts(self, texts: Sequence[str]) -> Any:
        """Tensors or arrays, one per text."""
        ...

    def encode_texts(self, prepared: Any, groups: int) -> Any:
        """[n, dim] unit rows, a tensor or an array."""
        ...


@dataclass(frozen=True)
class Compared:
    """What some examples' items are compared with.

    Attributes:
        texts: candidate texts (labelled) or captions (retrieval).
        owners: [texts] int64, the number of each text's label; captions are labels of their own.
        targets: [n] int64, the number of the label that is right for each item.
    """

    texts: list[str]
    owners: np.ndarray
    targets: np.ndarray


def compared(encoder: Encoder, task: Task, examples: Sequence[Example], hints: str) -> Compared:
    """The texts that some of a task's examples meet.

    Args:
        encoder: the bare dual encoder.
        task: whose labels are the candidates.
        examples: which of the task's examples.
        hints: as for :func:`candidate_texts`.

    Raises:
        TaskError: without examples, or when the backbone takes other items.
    """
    if task.modality != encoder.modality:
        raise TaskError(
            f"task {task.id!r} has {task.modality} items; {encoder.id} takes {encoder.modality}:"
            " choose another backbone"
        )
    if not examples:
        raise TaskError(f"task {task.id!r} has no examples to prepare; at least 1 is needed")
    if task.kind == "retrieval":
        numbers = np.arange(len(examples))
        return Compared([example.label for example in examples], numbers, numbers)
    keys = list(task.labels)
    texts, owners = candidate_texts(encoder, task, hints)
    return Compared(texts, owners, np.array([keys.index(example.label) for example in examples]))


def candidate_texts(encoder: Encoder, task: Task, hints: str) -> tuple[list[str], np.ndarray]:
    """A labelled task's candidate texts and, for each, the number of its label.

    With ``phrases`` the client's own words stand in for the label, which may be any private word,
    one text for each thing that they name. "Everything else" names nothing that an item could be
    similar to, so the everyday topics that are most different from all that the client does name
    stand beside it, where one label alone means the rest
    (``docs/decisions/0008-everything-else.md``).

    Args:
        encoder: the bare dual encoder, for the similarity of what is named.
        task: whose labels are the candidates.
        hints: how they carry the client's own words: ``none``, ``whole`` (label and words in one
            text) or ``phrases`` (a text for each phrase of the words, or for each of their list).
    """
    if hints == "phrases":
        said = _with_the_rest(encoder, [list(said_of(task, key)) for key in task.labels])
    else:
        said = [[_whole(task, key, hints)] for key in task.labels]
    owners = np.repeat(np.arange(len(said)), [len(texts) for texts in said])
    return [text for texts in said for text in texts], owners


def _whole(task: Task, key: str, hints: str) -> str:
    label, words = task.labels[key], task.hints.get(key, "")
    if hints == "none" or not words:
        return label
    things = (words,) if isinstance(words, str) else words
    said = join_names(things)
    named = any(thing == label or thing.startswith(f"{label}: ") for thing in things)
    return said if named else f"{label}: {said}"


def _with_the_rest(encoder: Encoder, said: list[list[str]]) -> list[list[str]]:
    """Topics for the one label that means the rest: two would get the same and be alike."""
    rests = [any(map(means_the_rest, texts)) for texts in said]
    named = [phrase for texts in said for phrase in texts if not means_the_rest(phrase)]
    if sum(rests) != 1 or not named:
        return said
    topics = unnamed_topics(encoder, tuple(named))
    return [[*texts, *topics] if rest else texts for texts, rest in zip(said, rests, strict=True)]


@lru_cache(maxsize=1024)
def unnamed_topics(encoder: Encoder, named: tuple[str, ...]) -> tuple[str, ...]:
    """The everyday topics that are least like any of the named things.

    Remembered, since a task is prepared anew for every method that trains on it.
    """
    return least_similar(encoder, EVERYDAY_TOPICS, named, UNNAMED)


def least_similar(
    encoder: Encoder, topics: tuple[str, ...], named: tuple[str, ...], count: int
) -> tuple[str, ...]:
    """So many topics, those whose greatest similarity to any of the named things is smallest."""
    rows = encoder.encode_texts(encoder.prepare_texts([*topics, *named]), 1)
    similar = rows[: len(topics)] @ rows[len(topics) :].T
    if not isinstance(similar, np.ndarray):
        similar = similar.cpu().numpy()
    order = similar.max(axis=1).argsort(kind="stable")
    return tuple(topics[i] for i in sorted(order[:count].tolist()))


def label_scores(scores: Tensor, owners: Sequence[np.ndarray]) -> Tensor:
    """Scores of labels from those of their texts: the log of the mean exponential.

    Whatever fits one of a label's texts fits the label, and labels with many texts have no
    advantage over others.

    Args:
        scores: [G, B, C] of G tasks' items against their candidate texts.
        owners: for each task [C], the number of each text's label, rising; labels are as many in
            all tasks.

    Returns:
        [G, B, L].
    """
    import torch

    numbers = np.stack(owners)
    groups, texts = numbers.shape
    labels = int(numbers.max()) + 1
    if texts == labels:
        return scores
    counts = (numbers[:, :, None] == np.arange(labels)).sum(axis=1)
    # A label's texts stand together: [G, L, P] their places, padded to the most that a label has.
    places = (counts.cumsum(axis=1) - counts)[:, :, None] + np.arange(counts.max())
    padding = torch.from_numpy(np.arange(counts.max()) >= counts[:, :, None]).to(scores.device)
    places = torch.from_numpy(np.minimum(places, texts - 1).reshape(groups, 1, -1)).to(
        scores.device
    )
    found = scores.gather(2, places.expand(-1, scores.shape[1], -1))
    found = found.view(groups, -1, labels, counts.max())
    found = found.masked_fill(padding.unsqueeze(1), -torch.inf)
    sizes = torch.from_numpy(counts).to(scores.device, scores.dtype)
    return torch.logsumexp(found, dim=3) - sizes.log().unsqueeze(1)
