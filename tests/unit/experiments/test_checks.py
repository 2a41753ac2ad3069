"""What does not fit is told before anything starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sglora_fed.config import compose
from sglora_fed.errors import ConfigError, TaskError
from sglora_fed.experiments.checks import check_runnable
from sglora_fed.tasks import write_family
from sglora_fed.tasks.types import Example, Role, Task, TaskFamily

LABELS = {"a": "now", "b": "later"}
TEXTS = (Example("call mum", "a"), Example("buy milk", "b"))


def task(name: str, role: Role, train: tuple[Example, ...] = TEXTS) -> Task:
    split = "expert" if role == "expert" else "mine"
    return Task(name, "calls are urgent", LABELS, train, TEXTS, role=role, split=split)


def checked(folder: Path, *tasks: Task, more: tuple[str, ...] = ()) -> None:
    write_family(TaskFamily("own", tasks), folder)
    check_runnable(compose(["family=local", f"family.path={folder}", *more]))


EXPERTS = (task("e1", "expert"), task("e2", "expert"))


def test_a_family_that_fits_passes(tmp_path: Path) -> None:
    checked(tmp_path, *EXPERTS, task("c", "client"))
    check_runnable(compose([]))


@pytest.mark.parametrize(
    ("tasks", "found"),
    [(EXPERTS, "0 clients"), ((EXPERTS[0], task("c", "client")), "1 experts")],
)
def test_too_few_tasks(tmp_path: Path, tasks: tuple[Task, ...], found: str) -> None:
    with pytest.raises(TaskError, match=found):
        checked(tmp_path, *tasks)


def test_a_client_that_cannot_train_is_named_with_the_methods(tmp_path: Path) -> None:
    bare = task("bare", "client", ())
    with pytest.raises(ConfigError, match=r"oracle.*'bare'"):
        checked(tmp_path, *EXPERTS, bare)
    checked(tmp_path, *EXPERTS, bare, more=("experiment.methods=[zero_shot,ridge]",))


def test_texts_are_nothing_for_an_image_backbone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="takes image items; 3 tasks, first 'e1'"):
        checked(
            tmp_path,
            *EXPERTS,
            task("c", "client"),
            more=("backbone=clip", "backbone.path=x", "adapter=clip"),
        )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="no CUDA device"):
        check_runnable(compose(["backbone.device=cuda"]))


@pytest.mark.parametrize("name", ["id", "split"])
@pytest.mark.parametrize("value", ["new user", "x" * 65, "a/b"])
def test_ids_and_splits_can_travel(name: str, value: str) -> None:
    with pytest.raises(TaskError, match=f"{name} '{value}'"):
        replace(EXPERTS[0], **{name: value})


def test_a_family_has_one_kind() -> None:
    caption = Task("r", "find it", {}, (), (), kind="retrieval", modality="image")
    with pytest.raises(TaskError, match="mixes"):
        TaskFamily("own", (EXPERTS[0], caption))
