"""What a task holds, as one hash: what was learnt from other examples cannot stand in for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from sglora_fed.files import sha256_of
from sglora_fed.tasks.types import Example, Task


def examples_sha256(task: Task, examples: Sequence[Example]) -> str:
    """Of what an adapter learns from: candidate texts and examples, images by their content.

    Raises:
        OSError: when an image cannot be read.
    """
    rows = [(_content(task, example), example.label) for example in examples]
    return _sha256([task.kind, task.modality, list(task.labels.items()), rows])


def _content(task: Task, example: Example) -> str:
    if task.modality == "image" and isinstance(example.item, str):
        return sha256_of(Path(example.item))
    return example.key


def tasks_sha256(tasks: Iterable[Task]) -> str:
    """Of everything that experts make of some tasks: their words too."""
    words = [
        (t.id, t.description, t.paraphrases, list(t.hints.items()), examples_sha256(t, t.train))
        for t in tasks
    ]
    return _sha256(words)


def wordless_sha256(task: Task, secret: bool) -> str:
    """Of a task without its words; where its examples are secret its id alone is left."""
    return _sha256([task.id, "" if secret else examples_sha256(task, task.train)])


def _sha256(values: object) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
