"""What an adapter is worth to a node that has examples of its own. The numbers stay there."""

from __future__ import annotations

import numpy as np

from sglora_fed.adapters.candidates import compared
from sglora_fed.backbones.arithmetic import Adapter
from sglora_fed.backbones.metrics import task_metrics
from sglora_fed.backbones.types import PlainEncoder
from sglora_fed.federation.node import Node
from sglora_fed.tasks.types import Task

FEW = 300
"""Test examples up to which NumPy is done before torch has loaded the model, which takes 4 s."""

Scored = tuple[np.ndarray, np.ndarray, np.ndarray]
"""[items, labels] scores without and with the adapter, and [items] the right labels."""


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
    plain = node.plain if len(task.test) <= FEW else None
    if plain is None:
        bare, ours, targets = _by_torch(node, task, vector)
    else:
        adapter = Adapter(node.layout, np.asarray(vector, np.float32))
        bare, ours, targets = _by_numpy(plain, task, adapter, node.config.adapter.hints)
    keys = [(example.key, example.label) for example in task.test]
    return {
        "without": dict(task_metrics(task.kind, bare, targets, keys)),
        "with": dict(task_metrics(task.kind, ours, targets, keys)),
    }


def _by_torch(node: Node, task: Task, vector: np.ndarray) -> Scored:
    from sglora_fed.adapters.data import prepare
    from sglora_fed.adapters.evaluation import score_tasks

    part = prepare(node.encoder, task, task.test, node.config.adapter.hints)
    (bare,) = score_tasks(node.encoder, [part])
    (ours,) = score_tasks(node.encoder, [part], node.layout, vector[None])
    return bare.numpy(), ours.numpy(), part.targets


def _by_numpy(plain: PlainEncoder, task: Task, adapter: Adapter, hints: str) -> Scored:
    said = compared(plain, task, task.test, hints)
    items = plain.prepare_items([example.item for example in task.test])
    texts = plain.prepare_texts(said.texts)
    bare, ours = (
        _of_labels(
            encoder.scale * encoder.encode_items(items, 1) @ encoder.encode_texts(texts, 1).T,
            said.owners,
        )
        for encoder in (plain, plain.carrying(adapter))
    )
    return bare, ours, said.targets


def _of_labels(scores: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """As :func:`~sglora_fed.adapters.candidates.label_scores`, for one task: [items, labels]."""
    labels = [scores[:, owners == label] for label in range(int(owners.max()) + 1)]
    if all(of_one.shape[1] == 1 for of_one in labels):
        return scores
    most = [of_one.max(axis=1, keepdims=True) for of_one in labels]
    means = [
        np.exp(one - top).mean(axis=1, keepdims=True) for one, top in zip(labels, most, strict=True)
    ]
    return np.concatenate([top + np.log(mean) for top, mean in zip(most, means, strict=True)], 1)
