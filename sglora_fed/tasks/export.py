"""Writing a task family in the format that ``family=local`` reads."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sglora_fed.errors import ResultsError, TaskFileError
from sglora_fed.files import write_atomically
from sglora_fed.tasks.types import Item, Task, TaskFamily

PICTURES = "images"
"""Folder of the pictures that are written or copied."""


def write_family(family: TaskFamily, folder: Path) -> None:
    """Write a family in the format that :func:`~sglora_fed.tasks.local.local_family` reads.

    Pictures in memory are written as PNG files and files from elsewhere are copied, each named by a
    hash of its bytes; pictures that are in the folder already stay where they are. ``tasks.jsonl``
    is written last: a new folder is readable only once it is whole.

    Raises:
        TaskFileError: when a picture cannot be read.
        ResultsError: when the files cannot be written, or a file of the other form (with or
            without ``.gz``) is there already.
    """
    for name in ("examples.jsonl", "tasks.jsonl.gz"):
        if (folder / name).exists():
            raise ResultsError(f"{folder / name} is in the way; remove it or choose another folder")
    examples = [line for task in family.tasks for line in _example_lines(task, folder)]
    files = {
        # mtime 0: the same family gives the same bytes.
        "examples.jsonl.gz": gzip.compress(_encoded(examples), mtime=0),
        "tasks.jsonl": _encoded([_task_line(task) for task in family.tasks]),
    }
    for name, data in files.items():
        write_atomically(folder / name, data)


def _encoded(lines: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


def _task_line(task: Task) -> dict[str, Any]:
    return {
        "id": task.id,
        "description": task.description,
        "labels": dict(task.labels),
        "role": task.role,
        "split": task.split,
        "paraphrases": list(task.paraphrases),
        "hints": dict(task.hints),
    }


def _example_lines(task: Task, folder: Path) -> Iterator[dict[str, Any]]:
    right = "caption" if task.kind == "retrieval" else "label"
    for part, examples in (("train", task.train), ("test", task.test)):
        for example in examples:
            item = example.item if task.modality == "text" else _placed(example.item, folder)
            yield {"task": task.id, task.modality: item, right: example.label, "part": part}


def _placed(picture: Item, folder: Path) -> str:
    """Where a picture lies in the folder, after it was put there if need be."""
    if not isinstance(picture, str):
        return _written(_png(picture), ".png", folder)
    path, root = Path(picture).resolve(), folder.resolve()
    if path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    try:
        return _written(path.read_bytes(), path.suffix, folder)
    except OSError as error:
        raise TaskFileError(f"picture {picture!r} cannot be read: {error.strerror}") from error


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _written(data: bytes, suffix: str, folder: Path) -> str:
    """Tens of thousands of small files: none is forced to disk alone, and none is believed."""
    name = f"{PICTURES}/{hashlib.sha256(data).hexdigest()[:32]}{suffix}"
    try:
        (folder / PICTURES).mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    except OSError as error:
        raise ResultsError(
            f"{folder / name} cannot be written: {error.strerror};"
            " free some space or choose another folder"
        ) from error
    return name
