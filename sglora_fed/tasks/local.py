"""A task family in a folder: ``tasks.jsonl`` and ``examples.jsonl``, each also as ``.gz``.

``tasks.jsonl``: ``{"id", "description", "labels": {key: text}, "role"?, "split"?,
"paraphrases"?: [...], "hints"?: {key: text or [texts]}}``; ``examples.jsonl``: ``{"task", "text" or
"image", "label", "part": "train"|"test"}``, for retrieval ``{"task", "image", "caption", "part"}``.
Image paths are relative to the folder and stay inside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from sglora_fed.config.schema import FamilyConfig
from sglora_fed.errors import TaskError, TaskFileError
from sglora_fed.tasks.jsonl import check_fields, choice_of, read_lines, text_of, texts_of
from sglora_fed.tasks.splits import UNSEEN_SPLIT, seeded_roles
from sglora_fed.tasks.types import (
    EXPERT_SPLIT,
    IDENTIFIER,
    Example,
    Hint,
    Kind,
    Modality,
    Role,
    Task,
    TaskFamily,
)

TASK_FIELDS = {"id", "description", "labels", "role", "split", "paraphrases", "hints"}
TASK_TEXTS = ("id", "description")
EXAMPLE_FIELDS = {"task", "text", "image", "label", "caption", "part"}


@dataclass
class _Draft:
    """One task as it is read."""

    where: str
    fields: dict[str, Any]
    kind: Kind | None = None
    modality: Modality = "text"
    parts: dict[str, list[Example]] = field(default_factory=lambda: {"train": [], "test": []})


def configured_folder(config: FamilyConfig) -> Path:
    """The folder that ``family.path`` means."""
    return Path(str(config.path)).expanduser().absolute()


def configured_family(config: FamilyConfig) -> TaskFamily:
    """What ``family.name=local`` means.

    Raises:
        TaskFileError, TaskError: as :func:`local_family`.
    """
    return local_family(configured_folder(config), config.seed)


def local_family(folder: Path, seed: int) -> TaskFamily:
    """Read a task family.

    Args:
        folder: with the two files.
        seed: of the split, when no task has a role.

    Raises:
        TaskFileError: naming file, line, field and value, and what is allowed.
        TaskError: naming file and line of a task that is unusable: one class, empty or duplicate
            labels, an expert without training examples, a client without test examples.
    """
    drafts = _read_tasks(folder)
    _read_examples(folder, drafts)
    roles = _roles(folder, drafts, seed)
    return TaskFamily(folder.name, tuple(_task(d, *roles[name]) for name, d in drafts.items()))


def check_roles_told(folder: Path) -> None:
    """Refuse a folder whose tasks do not say what they are: a seed would make experts of some.

    What an expert sends is no secret, so nobody's task may become one by somebody else's seed.

    Raises:
        TaskFileError: naming file and line of the first such task, or as :func:`local_family`.
    """
    for draft in _read_tasks(folder).values():
        if "role" not in draft.fields:
            raise TaskFileError(f"{draft.where}: no role; on a node of its own each task needs one")


def _read_tasks(folder: Path) -> dict[str, _Draft]:
    drafts: dict[str, _Draft] = {}
    for where, raw in read_lines(folder, "tasks.jsonl"):
        check_fields(where, raw, TASK_FIELDS)
        fields = _task_fields(where, raw)
        if earlier := drafts.get(fields["id"]):
            raise TaskFileError(f"{where}: id {fields['id']!r} is already at {earlier.where}")
        drafts[fields["id"]] = _Draft(where, fields)
    if not drafts:
        raise TaskFileError(f"{folder}: tasks.jsonl holds no task")
    return drafts


def _task_fields(where: str, raw: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {name: text_of(where, name, raw.get(name)) for name in TASK_TEXTS}
    _check_identifier(where, "id", fields["id"])
    fields["labels"] = texts_of(where, "labels", raw.get("labels", {}))
    fields["hints"] = _hints(where, raw.get("hints", {}))
    paraphrases = raw.get("paraphrases", [])
    if not isinstance(paraphrases, list):
        raise TaskFileError(f"{where}: paraphrases is {paraphrases!r}; need a list of texts")
    fields["paraphrases"] = tuple(text_of(where, "a paraphrase", text) for text in paraphrases)
    return fields | _placement(where, raw)


def _hints(where: str, value: Any) -> dict[str, Hint]:
    """Texts, or lists of texts."""
    if not isinstance(value, dict):
        raise TaskFileError(f"{where}: hints is {value!r}; need texts or lists of texts")
    return {
        key: tuple(text_of(where, f"hints[{key!r}]", text) for text in words)
        if isinstance(words, list)
        else text_of(where, f"hints[{key!r}]", words)
        for key, words in value.items()
    }


def _check_identifier(where: str, name: str, value: str) -> None:
    if not IDENTIFIER.fullmatch(value):
        raise TaskFileError(f"{where}: {name} {value!r}; need 1 to 64 letters, digits and ._- only")


def _placement(where: str, raw: Mapping[str, Any]) -> dict[str, str]:
    """Role and split, if the line has them."""
    if "role" not in raw:
        if "split" in raw:
            raise TaskFileError(f"{where}: split {raw['split']!r} without a role; give both")
        return {}
    role = choice_of(where, "role", raw["role"], ("expert", "client"))
    default = EXPERT_SPLIT if role == "expert" else UNSEEN_SPLIT
    split = text_of(where, "split", raw.get("split", default))
    _check_identifier(where, "split", split)
    if (role == "expert") != (split == EXPERT_SPLIT):
        raise TaskFileError(
            f"{where}: a task of role {role!r} in split {split!r};"
            f" {EXPERT_SPLIT!r} is the split of experts and of nobody else"
        )
    return {"role": role, "split": split}


def _read_examples(folder: Path, drafts: Mapping[str, _Draft]) -> None:
    for where, raw in read_lines(folder, "examples.jsonl"):
        check_fields(where, raw, EXAMPLE_FIELDS)
        name = text_of(where, "task", raw.get("task"))
        if name not in drafts:
            raise TaskFileError(f"{where}: task {name!r} is not in tasks.jsonl")
        part = choice_of(where, "part", raw.get("part"), ("train", "test"))
        drafts[name].parts[part].append(_example(where, raw, drafts[name], folder))


def _example(where: str, raw: Mapping[str, Any], draft: _Draft, folder: Path) -> Example:
    modality = cast(Modality, _one(where, raw, "text", "image"))
    right = _one(where, raw, "label", "caption")
    if right == "caption" and modality == "text":
        raise TaskFileError(f"{where}: a caption belongs to an image, not to a text")
    _same_kind(where, draft, "retrieval" if right == "caption" else "labelled", modality)
    item, label = text_of(where, modality, raw[modality]), text_of(where, right, raw[right])
    labels = draft.fields["labels"]
    if right == "label" and label not in labels:
        raise TaskFileError(
            f"{where}: label {label!r}; the labels of {draft.fields['id']!r} are {list(labels)}"
        )
    return Example(item if modality == "text" else _image(where, folder, item), label)


def _one(where: str, raw: Mapping[str, Any], first: str, second: str) -> str:
    given = [name for name in (first, second) if name in raw]
    if len(given) != 1:
        has = "both" if given else "neither"
        raise TaskFileError(f"{where}: has {has} of {first} and {second}; need one of them")
    return given[0]


def _same_kind(where: str, draft: _Draft, kind: Kind, modality: Modality) -> None:
    if draft.kind is None:
        draft.kind, draft.modality = kind, modality
    elif (draft.kind, draft.modality) != (kind, modality):
        raise TaskFileError(
            f"{where}: a {kind} {modality} example, but task {draft.fields['id']!r} began with"
            f" {draft.kind} {draft.modality} examples; a task has one kind"
        )


def _image(where: str, folder: Path, name: str) -> str:
    if "\0" in name or Path(name).is_absolute():
        raise TaskFileError(f"{where}: image {name!r}; need a path relative to {folder}")
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise TaskFileError(f"{where}: image {name!r} lies outside of {folder}")
    if not path.is_file():
        raise TaskFileError(f"{where}: image {name!r} is not a file in {folder}")
    return str(path)


def _roles(folder: Path, drafts: Mapping[str, _Draft], seed: int) -> Mapping[str, tuple[Role, str]]:
    given = {n: d.fields for n, d in drafts.items() if "role" in d.fields}
    if not given:
        return seeded_roles(list(drafts), seed)
    if len(given) < len(drafts):
        without = next(d for name, d in drafts.items() if name not in given)
        raise TaskFileError(
            f"{without.where}: no role, but {len(given)} of {len(drafts)} tasks in {folder}"
            " have one; give all tasks a role or none"
        )
    return {name: (fields["role"], fields["split"]) for name, fields in given.items()}


def _task(draft: _Draft, role: Role, split: str) -> Task:
    needed = "train" if role == "expert" else "test"
    if not draft.parts[needed]:
        raise TaskError(
            f"{draft.where}: {role} {draft.fields['id']!r} has no {needed} examples;"
            " an expert needs some in train, a client in test"
        )
    if draft.kind == "retrieval" and draft.fields["labels"]:
        raise TaskError(f"{draft.where}: a task with captions has no labels; remove them")
    given = {n: v for n, v in draft.fields.items() if n not in ("role", "split")}
    try:
        return Task(
            **given,
            train=tuple(draft.parts["train"]),
            test=tuple(draft.parts["test"]),
            role=role,
            split=split,
            kind=draft.kind or "labelled",
            modality=draft.modality,
        )
    except TaskError as error:
        raise TaskError(f"{draft.where}: {error.args[0]}") from error
