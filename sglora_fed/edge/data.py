"""What a node's owner wants, as the task that the federation's parts know."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from sglora_fed.config.schema import FamilyConfig
from sglora_fed.edge.settings import OwnNode
from sglora_fed.errors import NodeFileError
from sglora_fed.tasks.local import local_family
from sglora_fed.tasks.types import Kind, Modality, Task

SPLIT = "own"


def own_task(node: OwnNode, items: str) -> Task:
    """The owner's task: its description and labels, and its examples where it has some.

    Args:
        node: the owner's file.
        items: what the run's backbone takes, ``text`` or ``image``.

    Raises:
        NodeFileError: when there are several tasks in its folder of data.
        TaskFileError, TaskError: when that cannot be read, or the labels are unusable.
    """
    if node.data is None:
        kind: Kind = "labelled" if node.labels else "retrieval"
        modality = cast(Modality, items)
        return Task(
            node.name, node.description, node.labels, (), (), "client", SPLIT,
            kind=kind, modality=modality,
        )  # fmt: skip
    tasks = local_family(node.data, FamilyConfig().seed).tasks
    if len(tasks) != 1:
        raise NodeFileError(f"{node.data} holds {len(tasks)} tasks; a node of one's own has one")
    # Its own words, whatever the folder says: they are what is paid for.
    return replace(
        tasks[0], id=node.name, description=node.description, paraphrases=(), role="client",
        split=SPLIT,
    )  # fmt: skip
