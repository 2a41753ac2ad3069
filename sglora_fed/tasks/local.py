"""A task family in a folder: ``tasks.jsonl`` and ``examples.jsonl``, each also as ``.gz``.

``tasks.jsonl``: ``{"id", "description", "labels": {key: text}, "role"?, "split"?,
"paraphrases"?: [...], "hints"?: {key: text}}``; ``examples.jsonl``: ``{"task", "text" or "image",
"label", "part": "train"|"test"}``, for retrieval ``{"task", "image", "caption", "part"}``. Image
paths are relative to the folder and stay inside it.
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from sglora_fed.errors import TaskError, TaskFileError
from sglora_fed.files import write_atomically
from sglora_fed.tasks.splits import UNSEEN_SPLIT, seeded_roles
from sglora_fed.tasks.types import EXPERT_SPLIT, Example, Task, TaskFamily

TASK_FIELDS = {"id", "description", "labels", "role", "split", "paraphrases", "hints"}
EXAMPLE_FIELDS = {"task", "text", "image", "label", "caption", "part"}
LONGEST_LINE = 1_000_000


@dataclass
class _Examples:
    """Examples of one task as they are read."""

    train: list[Example] = field(default_factory=list)
    test: list[Example] = field(default_factory=list)
    kinds: set[tuple[str, str]] = field(default_factory=set)


def local_family(folder: Path, seed: int) -> TaskFamily:
    """Read a task family.

    Args:
        folder: with the two files.
        seed: of the split, when no task has a role.

    Raises:
        TaskFileError: naming file, line, field and value, and what is allowed.
        TaskError: for a task that is unusable.
    """
    examples = _read_examples(folder)
    values = list(_read_tasks(folder))
    ids = [str(value["id"]) for _, value in values]
    if twice := sorted({name for name in ids if ids.count(name) > 1}):
        raise TaskError(f"{folder}: duplicate task ids {twice}; each task needs its own")
    if unknown := sorted(set(examples) - set(ids)):
        raise TaskFileError(
            f"{folder}: examples of unknown tasks {unknown[:5]}; tasks are {ids[:5]}"
        )
    with_role = [name for name, (_, value) in zip(ids, values, strict=True) if "role" in value]
    if with_role and len(with_role) < len(ids):
        raise TaskFileError(
            f"{folder}: {len(with_role)} of {len(ids)} tasks have a role; all or none"
        )
    roles = {} if with_role else seeded_roles(ids, seed)
    tasks = (_task(where, value, examples, roles) for where, value in values)
    return TaskFamily(folder.name, tuple(tasks))


def _read_tasks(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for where, value in _lines(folder, "tasks.jsonl"):
        _only(where, value, TASK_FIELDS)
        _texts(where, value, ("id", "description"))
        if value.get("role", "expert") not in ("expert", "client"):
            raise TaskFileError(f"{where}: role {value['role']!r}; expert or client")
        for name in ("labels", "hints"):
            _text_map(where, name, value.get(name, {}))
        paraphrases = value.get("paraphrases", [])
        if not isinstance(paraphrases, list) or not all(isinstance(p, str) for p in paraphrases):
            raise TaskFileError(f"{where}: paraphrases must be a list of texts")
        yield where, value


def _read_examples(folder: Path) -> dict[str, _Examples]:
    found: dict[str, _Examples] = defaultdict(_Examples)
    for where, value in _lines(folder, "examples.jsonl"):
        _only(where, value, EXAMPLE_FIELDS)
        _texts(where, value, ("task", "part"))
        if value["part"] not in ("train", "test"):
            raise TaskFileError(f"{where}: part {value['part']!r}; train or test")
        item, right = _one(where, value, "text", "image"), _one(where, value, "label", "caption")
        if right == "caption" and item == "text":
            raise TaskFileError(f"{where}: a caption belongs to an image, not to a text")
        content = value[item] if item == "text" else _inside(where, folder, value[item])
        entry = found[value["task"]]
        entry.kinds.add((item, right))
        getattr(entry, value["part"]).append(Example(content, value[right]))
    return found


def _task(
    where: str,
    value: Mapping[str, Any],
    examples: Mapping[str, _Examples],
    roles: Mapping[str, tuple[Any, str]],
) -> Task:
    entry = examples.get(value["id"], _Examples())
    if len(entry.kinds) != 1:
        kinds = sorted(entry.kinds) or "none"
        raise TaskFileError(
            f"{where}: task {value['id']!r} has examples of kinds {kinds}; need one"
        )
    item, right = next(iter(entry.kinds))
    default = value.get("role", "client")
    role, split = roles.get(
        value["id"],
        (default, value.get("split", EXPERT_SPLIT if default == "expert" else UNSEEN_SPLIT)),
    )
    return Task(
        id=value["id"],
        description=value["description"],
        labels=value.get("labels", {}),
        train=tuple(entry.train),
        test=tuple(entry.test),
        role=role,
        split=split,
        paraphrases=tuple(value.get("paraphrases", ())),
        hints=value.get("hints", {}),
        kind="retrieval" if right == "caption" else "labelled",
        modality="text" if item == "text" else "image",
    )


def _lines(folder: Path, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, value) for each JSON line of a file, plain or compressed."""
    plain, packed = folder / name, folder / f"{name}.gz"
    path = plain if plain.exists() else packed
    if not path.exists():
        raise TaskFileError(f"{folder} has neither {name} nor {name}.gz")
    try:
        with _opened(path) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield f"{path}:{number}", _json_object(f"{path}:{number}", line)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise TaskFileError(f"{path} cannot be read: {type(error).__name__}") from error


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _json_object(where: str, line: str) -> dict[str, Any]:
    if len(line) > LONGEST_LINE:
        raise TaskFileError(f"{where}: line of {len(line)} characters; at most {LONGEST_LINE}")
    try:
        value = json.loads(line)
    except ValueError as error:
        raise TaskFileError(f"{where}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise TaskFileError(f"{where}: need a JSON object, not {type(value).__name__}")
    return value


def _only(where: str, value: Mapping[str, Any], allowed: set[str]) -> None:
    if unknown := sorted(set(value) - allowed):
        raise TaskFileError(f"{where}: unknown fields {unknown}; allowed are {sorted(allowed)}")


def _texts(where: str, value: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if not isinstance(value.get(name), str) or not value[name].strip():
            raise TaskFileError(f"{where}: {name} is {value.get(name)!r}; need a text")


def _text_map(where: str, name: str, value: Any) -> None:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise TaskFileError(f"{where}: {name} must be an object of texts")


def _one(where: str, value: Mapping[str, Any], first: str, second: str) -> str:
    given = [name for name in (first, second) if name in value]
    if len(given) != 1:
        raise TaskFileError(f"{where}: has {given or 'neither'}; need one of {first}, {second}")
    _texts(where, value, (given[0],))
    return given[0]


def _inside(where: str, folder: Path, name: str) -> str:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise TaskFileError(f"{where}: image {name!r} lies outside of {folder}")
    return str(path)


def write_family(family: TaskFamily, folder: Path) -> None:
    """Write a family in the format that :func:`local_family` reads.

    Raises:
        ResultsError: when the files cannot be written.
    """
    tasks = [_task_line(task) for task in family.tasks]
    examples = [line for task in family.tasks for line in _example_lines(task, folder)]
    for name, lines in (("tasks.jsonl", tasks), ("examples.jsonl.gz", examples)):
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
        # mtime 0: the same family gives the same bytes.
        data = gzip.compress(text, mtime=0) if name.endswith(".gz") else text
        write_atomically(folder / name, data)


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


def _example_lines(task: Task, folder: Path) -> Iterator[dict[str, str]]:
    right = "caption" if task.kind == "retrieval" else "label"
    for part in ("train", "test"):
        for example in getattr(task, part):
            item = example.item
            if task.modality == "image":
                item = str(Path(item).resolve().relative_to(folder.resolve()))
            yield {"task": task.id, task.modality: item, right: example.label, "part": part}
