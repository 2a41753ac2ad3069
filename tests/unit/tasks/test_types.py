"""A task that cannot be trained or measured is refused when it is made."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest

from sglora_fed.errors import TaskError
from sglora_fed.tasks.types import Example, Task, TaskFamily

BOTH = (Example("one", "y"), Example("two", "n"))
TASK = Task("mine", "Sort my mail.", {"y": "yes", "n": "no"}, BOTH, BOTH)
PICTURES = (Example("/a.png", "a cat"), Example("/b.png", "a cat"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"description": ""}, "description is empty"),
        ({"description": " \n\t"}, "description is empty"),
        ({"labels": {}, "train": (), "test": ()}, r"0 label\(s\); at least 2"),
        ({"labels": {"y": "yes"}, "train": (), "test": ()}, r"1 label\(s\); at least 2"),
        ({"labels": {"y": "yes", "n": ""}}, "empty label text: .*'n': ''"),
        ({"labels": {"y": "yes", "n": "  "}}, "empty label text"),
        ({"labels": {"y": "yes", "n": "yes"}}, "duplicate label texts"),
        ({"labels": {"y": "yes", "n": " YES "}}, "duplicate label texts: .*' YES '"),
        ({"description": "\u200b\u2800"}, "description is empty"),
        ({"paraphrases": ("fine", "\u0301")}, r"a paraphrase is empty: '.u0301'"),
        ({"labels": {"y": "yes", "n": "\u2063"}}, "empty label text"),
        ({"hints": {"y": "\u3164"}}, r"empty hint for 'y'"),
        ({"hints": {"y": ("good", "\u00ad")}}, r"empty hint for 'y'"),
        ({"hints": {"y": "good", "x": "bad"}}, r"hints for unknown labels \['x'\]"),
        ({"train": (*BOTH, Example("three", "x"))}, r"unknown labels \['x'\] in train"),
        ({"test": (*BOTH, Example("three", "yes"))}, r"unknown labels \['yes'\] in test"),
        ({"train": BOTH[:1]}, "all train examples have the label {'y'}"),
        ({"test": (BOTH[1], BOTH[1])}, "all test examples have the label {'n'}"),
    ],
)
def test_an_unusable_task_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=rf"SGL-200.*'mine'.*{message}"):
        replace(TASK, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"train": ()},
        {"test": ()},
        {"train": (), "test": ()},
        {"labels": {"y": "yes", "n": "no", "m": "perhaps"}},
        {"hints": {"y": "good"}},
        {"labels": {}, "train": (), "test": PICTURES, "kind": "retrieval", "modality": "image"},
    ],
    ids=["no train", "no test", "describes only", "label without examples", "one hint", "captions"],
)
def test_what_is_allowed(change: dict[str, Any]) -> None:
    assert replace(TASK, **change).id == "mine"


def test_a_task_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        TASK.description = "other"  # type: ignore[misc]


def test_pictures_in_memory_are_compared_by_their_pixels() -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    one, same = Example(pixels, "a cat"), Example(pixels.copy(), "a cat")
    other, reshaped = Example(pixels + 1, "a cat"), Example(pixels.reshape(2, 8, 3), "a cat")
    assert one == same
    assert len({one, same, other, reshaped, Example(pixels, "a dog")}) == 4
    assert len({example.key for example in (one, same, other, reshaped)}) == 3
    assert Example("a text", "y").key == "a text"
    assert one != "a cat"


def test_ids_are_unique_in_a_family() -> None:
    tasks = [replace(TASK, id=name) for name in "abcab"]
    with pytest.raises(TaskError, match=r"SGL-200.*'mail'.*\['a', 'b'\]"):
        TaskFamily("mail", tuple(tasks))


def test_roles_are_told_apart_in_order() -> None:
    tasks = tuple(
        replace(TASK, id=name, role="expert" if name in "db" else "client") for name in "dcba"
    )
    family = TaskFamily("mail", tasks)
    assert [task.id for task in family.of_role("expert")] == ["d", "b"]
    assert [task.id for task in family.of_role("client")] == ["c", "a"]
    assert TaskFamily("none", ()).of_role("expert") == ()
