"""What an item is compared with: candidate texts, one or several for each label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sglora_fed.tasks.phrases import phrases
from sglora_fed.tasks.types import Task
from sglora_fed.tasks.wording import join_names


def candidate_texts(task: Task, hints: str) -> tuple[list[str], np.ndarray]:
    """A labelled task's candidate texts and, for each, the number of its label.

    Args:
        task: whose labels are the candidates.
        hints: how they carry the client's own words: ``none``, ``whole`` (label and words in one
            text) or ``phrases`` (a text for each phrase of the words, or for each of their list).
    """
    said = [_texts_of(task, key, hints) for key in task.labels]
    owners = np.repeat(np.arange(len(said)), [len(texts) for texts in said])
    return [text for texts in said for text in texts], owners


def _texts_of(task: Task, key: str, hints: str) -> list[str]:
    label, words = task.labels[key], task.hints.get(key, "")
    if hints == "none" or not words:
        return [label]
    things = phrases(words) if isinstance(words, str) else words
    whole = words if isinstance(words, str) else join_names(words)
    return [f"{label}: {part}" for part in (things if hints == "phrases" else [whole])]


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
