"""What a task is: plain, frozen types that every other part may import."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from operator import eq
from typing import Literal, Protocol, get_args, overload

import numpy as np

from sglora_fed.errors import TaskError
from sglora_fed.tasks.visible import is_visible

Role = Literal["expert", "client"]
Kind = Literal["labelled", "retrieval"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Modality = Literal["text", "image"]

EXPERT_SPLIT = "expert"

IDENTIFIER = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""What names a task or a split: it travels in messages and stands in file names."""


Hint = str | tuple[str, ...]

Item = str | np.ndarray
"""A text, the absolute path of an image, or an image itself: [height, width, 3] uint8."""


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One example: an item and what belongs to it. Equal items in memory are equal examples.

    Attributes:
        item: the text itself, or an image: its absolute path or its pixels (see
            ``Task.modality``).
        label: a key of ``Task.labels`` for a labelled task, the caption for a retrieval task.
    """

    item: Item
    label: str

    @property
    def key(self) -> str:
        """What tells items apart: the text or the path itself, a hash of shape and pixels."""
        if isinstance(self.item, str):
            return self.item
        return sha256(repr(self.item.shape).encode() + self.item.tobytes()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Example) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[str, str]:
        return self.key, self.label


@dataclass(frozen=True, slots=True)
class Task:
    """One task: a description, labels and examples, owned by one (virtual) client.

    Attributes:
        id: unique within its family; letters, digits, ``._-``.
        description: the sentence that says what the user wants.
        labels: label key -> candidate text shown to the backbone; empty for retrieval.
        train: examples for training; empty for a client that has none. A tuple, or drawn when they
            are looked at (:mod:`~sglora_fed.tasks.drawn`).
        test: examples for evaluation.
        role: ``expert`` trains a LoRA for the zoo; ``client`` receives one.
        split: ``"expert"`` for experts, else the kind of unseen task (``new_rule``, ...).
        paraphrases: the same description as other people would type it.
        hints: label key -> the client's own words about it, a text that names one or several things
            (:func:`~sglora_fed.tasks.phrases.phrases`) or the things one by one; they stay with the
            client.
        kind: ``labelled`` (accuracy) or ``retrieval`` (R@k).
        modality: what ``Example.item`` is.

    Raises:
        TaskError: on an id or split that is no identifier, words of which nothing is visible
            (description, paraphrase, label or hint), duplicate label texts, fewer than two labels
            of a labelled task, or an example whose label is unknown.
    """

    id: str
    description: str
    labels: Mapping[str, str]
    train: Sequence[Example]
    test: Sequence[Example]
    role: Role = "client"
    split: str = EXPERT_SPLIT
    paraphrases: tuple[str, ...] = ()
    hints: Mapping[str, Hint] = field(default_factory=dict)
    kind: Kind = "labelled"
    modality: Modality = "text"

    def __post_init__(self) -> None:
        for name, value in (("id", self.id), ("split", self.split)):
            if not IDENTIFIER.fullmatch(value):
                raise TaskError(
                    f"task {self.id!r}: {name} {value!r}; need 1 to 64 letters, digits and ._- only"
                )
        if not is_visible(self.description):
            raise TaskError(f"task {self.id!r}: the description is empty")
        if hidden := [text for text in self.paraphrases if not is_visible(text)]:
            raise TaskError(f"task {self.id!r}: a paraphrase is empty: {hidden[0]!a}")
        if self.kind == "labelled":
            self._check_labels()

    def _check_labels(self) -> None:
        texts = [text.strip().lower() for text in self.labels.values()]
        if len(texts) < 2:
            raise TaskError(f"task {self.id!r} has {len(texts)} label(s); at least 2 are needed")
        if not all(map(is_visible, texts)):
            raise TaskError(f"task {self.id!r} has an empty label text: {dict(self.labels)!r}")
        if len(set(texts)) < len(texts):
            raise TaskError(f"task {self.id!r} has duplicate label texts: {dict(self.labels)!r}")
        if unknown := set(self.hints) - set(self.labels):
            raise TaskError(f"task {self.id!r} has hints for unknown labels {sorted(unknown)}")
        if empty := [key for key, words in self.hints.items() if words == ()]:
            raise TaskError(f"task {self.id!r} has an empty list of hints for {empty}")
        for key, words in self.hints.items():
            if not all(map(is_visible, (words,) if isinstance(words, str) else words)):
                raise TaskError(f"task {self.id!r} has an empty hint for {key!r}: {words!a}")
        for part, examples in (("train", self.train), ("test", self.test)):
            found = {example.label for example in examples}
            if unknown := found - set(self.labels):
                raise TaskError(f"task {self.id!r}: unknown labels {sorted(unknown)} in {part}")
            if len(found) == 1:
                raise TaskError(f"task {self.id!r}: all {part} examples have the label {found}")


class Plan(Protocol):
    """What is known of a task before it is made."""

    @property
    def id(self) -> str:
        """Of the task."""
        ...

    @property
    def role(self) -> Role:
        """Of the task."""
        ...

    @property
    def trains_on(self) -> int:
        """How many examples."""
        ...

    def task(self) -> Task:
        """The same task each time."""
        ...


@dataclass(frozen=True, eq=False, slots=True)
class Planned(Sequence[Task]):
    """Tasks that are made when they are looked at: of a hundred thousand only plans are held.

    Attributes:
        plans: of tasks of one kind and modality; their examples are drawn, and in no file.
    """

    plans: Sequence[Plan]

    def __len__(self) -> int:
        return len(self.plans)

    @overload
    def __getitem__(self, key: int) -> Task: ...

    @overload
    def __getitem__(self, key: slice) -> Planned: ...

    def __getitem__(self, key: int | slice) -> Task | Planned:
        if isinstance(key, slice):
            return Planned(self.plans[key])
        return self.plans[key].task()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Planned):
            return NotImplemented
        return len(self) == len(other) and all(map(eq, self, other))

    def __hash__(self) -> int:
        return hash(tuple(plan.id for plan in self.plans))


class ById(Mapping[str, Task]):
    """Tasks by their ids; planned ones are made each time when they are looked at.

    Args:
        tasks: their ids are unique.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = tasks
        self._places = {name: place for place, name in enumerate(_ids(tasks))}

    def __getitem__(self, name: str) -> Task:
        return self._tasks[self._places[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places


def untrained(tasks: Sequence[Task]) -> list[str]:
    """The ids of those without an example for training; planned ones are not made for that."""
    if isinstance(tasks, Planned):
        return [plan.id for plan in tasks.plans if not plan.trains_on]
    return [task.id for task in tasks if not task.train]


def _ids(tasks: Sequence[Task]) -> list[str]:
    return [one.id for one in (tasks.plans if isinstance(tasks, Planned) else tasks)]


@dataclass(frozen=True, slots=True)
class TaskFamily:
    """A set of tasks with a fixed split.

    Attributes:
        name: what the results call it.
        tasks: in a fixed order; ids are unique.

    Raises:
        TaskError: on duplicate ids, or tasks of several kinds.
    """

    name: str
    tasks: Sequence[Task]

    def __post_init__(self) -> None:
        ids = _ids(self.tasks)
        if len(set(ids)) < len(ids):
            twice = sorted({i for i in ids if ids.count(i) > 1})
            raise TaskError(f"family {self.name!r} has duplicate task ids: {twice}")
        if isinstance(self.tasks, Planned):
            return
        if len(kinds := {(task.kind, task.modality) for task in self.tasks}) > 1:
            raise TaskError(f"family {self.name!r} mixes {sorted(kinds)}; a family has one kind")

    def of_role(self, role: Role) -> Sequence[Task]:
        """The tasks of one role, in family order."""
        if isinstance(self.tasks, Planned):
            return Planned([plan for plan in self.tasks.plans if plan.role == role])
        return tuple(task for task in self.tasks if task.role == role)
