"""What an item is compared with: candidate texts, one or several for each label."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from sglora_fed.backbones.types import DualEncoder
from sglora_fed.tasks.everyday import EVERYDAY_TOPICS, means_the_rest
from sglora_fed.tasks.phrases import said_of
from sglora_fed.tasks.types import Task
from sglora_fed.tasks.wording import join_names

UNNAMED = len(EVERYDAY_TOPICS) // 2
"""Everyday topics that stand beside a phrase such as "everything else"."""


def candidate_texts(encoder: DualEncoder, task: Task, hints: str) -> tuple[list[str], np.ndarray]:
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


def _with_the_rest(encoder: DualEncoder, said: list[list[str]]) -> list[list[str]]:
    """Topics for the one label that means the rest: two would get the same and be alike."""
    rests = [any(map(means_the_rest, texts)) for texts in said]
    named = [phrase for texts in said for phrase in texts if not means_the_rest(phrase)]
    if sum(rests) != 1 or not named:
        return said
    topics = unnamed_topics(encoder, tuple(named))
    return [[*texts, *topics] if rest else texts for texts, rest in zip(said, rests, strict=True)]


@lru_cache(maxsize=1024)
def unnamed_topics(encoder: DualEncoder, named: tuple[str, ...]) -> tuple[str, ...]:
    """The everyday topics that are least like any of the named things.

    Remembered, since a task is prepared anew for every method that trains on it.
    """
    return least_similar(encoder, EVERYDAY_TOPICS, named, UNNAMED)


def least_similar(
    encoder: DualEncoder, topics: tuple[str, ...], named: tuple[str, ...], count: int
) -> tuple[str, ...]:
    """So many topics, those whose greatest similarity to any of the named things is smallest."""
    rows = encoder.encode_texts(encoder.prepare_texts([*topics, *named]), 1)
    nearest = (rows[: len(topics)] @ rows[len(topics) :].T).amax(dim=1)
    return tuple(topics[i] for i in sorted(nearest.argsort()[:count].tolist()))


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
