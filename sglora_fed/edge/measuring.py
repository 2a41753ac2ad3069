"""What an adapter is worth to a node that has examples of its own. The numbers stay there."""

from __future__ import annotations

import numpy as np

from sglora_fed.adapters.data import prepare
from sglora_fed.adapters.evaluation import score_tasks
from sglora_fed.backbones.metrics import task_metrics
from sglora_fed.federation.node import Node
from sglora_fed.tasks.types import Task


def measured(node: Node, task: Task, vector: np.ndarray) -> dict[str, dict[str, float]]:
    """Metrics on a task's test examples.

    Args:
        node: with the backbone.
        task: with test examples.
        vector: [D] the adapter.

    Returns:
        ``with`` and ``without`` the adapter -> metric -> value.

    Raises:
        SgloraError: when the examples or the backbone cannot be read.
    """
    part = prepare(node.encoder, task, task.test, node.config.adapter.hints)
    (bare,) = score_tasks(node.encoder, [part])
    (ours,) = score_tasks(node.encoder, [part], node.layout, vector[None])
    keys = [(example.key, example.label) for example in task.test]
    return {
        "without": dict(task_metrics(part.kind, bare, part.targets, keys)),
        "with": dict(task_metrics(part.kind, ours, part.targets, keys)),
    }
