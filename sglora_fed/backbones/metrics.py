"""What is measured: accuracy for labelled tasks, recall at k in both directions for retrieval."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

RECALL_AT = (1, 5, 10)


def task_metrics(
    kind: Literal["labelled", "retrieval"], scores: Tensor, targets: np.ndarray
) -> dict[str, float]:
    """All metrics of one task.

    Args:
        kind: of the task.
        scores: [items, texts].
        targets: [items], the index of the right text.

    Returns:
        Metric name -> fraction. Retrieval: ``i2t_r1``, ... (item to text), ``t2i_r1``, ...
    """
    right = torch.from_numpy(np.asarray(targets))
    if kind == "labelled":
        return {"accuracy": accuracy(scores, right)}
    to_text = {f"i2t_r{k}": recall_at(scores, right, k) for k in RECALL_AT}
    back = torch.empty(scores.shape[1], dtype=torch.int64)
    back[right] = torch.arange(len(right))
    return to_text | {f"t2i_r{k}": recall_at(scores.T, back, k) for k in RECALL_AT}


def accuracy(scores: Tensor, targets: Tensor) -> float:
    """Share of rows whose target has the strictly highest score; a tie counts as wrong."""
    return recall_at(scores, targets, 1)


def recall_at(scores: Tensor, targets: Tensor, k: int) -> float:
    """Share of rows with the target among the k best; equal scores rank before the target.

    Counting ties against the model keeps a collapsed encoder, which scores all alike, at zero.

    Args:
        scores: [rows, columns].
        targets: [rows] column that is right.
        k: places counted.
    """
    own = scores.gather(1, targets.unsqueeze(1))
    better_or_equal = (scores >= own).sum(dim=1) - 1
    return float((better_or_equal < k).double().mean())
