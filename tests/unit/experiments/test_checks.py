"""What does not fit is told before anything starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from sglora_fed.backbones.weights import resolve_minilm
from sglora_fed.config import compose
from sglora_fed.errors import (
    BackboneInputError,
    CatalogueError,
    ConfigError,
    PrivacyError,
    TaskError,
    TextsAlikeError,
)
from sglora_fed.experiments.checks import check_runnable
from sglora_fed.privacy.catalogue import Catalogue, write_catalogue
from sglora_fed.tasks.cameras.family import _Camera
from sglora_fed.tasks.export import write_family
from sglora_fed.tasks.types import Example, Role, Task, TaskFamily

LABELS = {"a": "now", "b": "later"}
TEXTS = (Example("call mum", "a"), Example("buy milk", "b"))


def task(name: str, role: Role, train: tuple[Example, ...] = TEXTS) -> Task:
    split = "expert" if role == "expert" else "mine"
    return Task(name, "calls are urgent", LABELS, train, TEXTS, role=role, split=split)


def checked(folder: Path, *tasks: Task, more: tuple[str, ...] = ()) -> None:
    write_family(TaskFamily("own", tasks), folder)
    check_runnable(
        compose(["experiment=assistant", "family=local", f"family.path={folder}", *more])
    )


EXPERTS = (task("e1", "expert"), task("e2", "expert"))


def test_a_family_that_fits_passes(tmp_path: Path) -> None:
    checked(tmp_path, *EXPERTS, task("c", "client"))
    check_runnable(compose([]))


def test_readings_are_of_a_list_that_is_long_enough(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = (*EXPERTS, task("c", "client"))
    with pytest.raises(CatalogueError, match="'local' has no catalogue"):
        checked(tmp_path, *tasks, more=("privacy=krr", "privacy.epsilon=4"))
    write_catalogue(Catalogue("own", 1, ("calls first", "milk first")), tmp_path / "list.json")
    told = f"privacy.catalogue={tmp_path / 'list.json'}"
    with pytest.raises(CatalogueError, match="2 entries give 2 to 3"):
        checked(tmp_path, *tasks, more=("generator.readings=4", told))
    checked(tmp_path, *tasks, more=("generator.readings=3", told))
    assert not caplog.records
    # The main job has eight, whatever family takes the cameras' place in it.
    checked(tmp_path, *tasks, more=("generator.readings=8",))
    assert "'local' has no catalogue: each description has one reading" in caplog.text


def test_as_many_places_as_there_are_hide_nothing_and_are_told_before_anybody_trains() -> None:
    told = ("privacy=subset", "privacy.epsilon=4")
    check_runnable(compose([*told, "privacy.replies=143"]))
    with pytest.raises(PrivacyError, match="replies=144; need 1 to 143"):
        check_runnable(compose([*told, "privacy.replies=144"]))


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


def test_of_planned_tasks_hardly_any_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes a fraction of a millisecond, and there may be a hundred thousand."""
    made, task_of = list[str](), _Camera.task

    def counted(camera: _Camera) -> Task:
        made.append(camera.id)
        return task_of(camera)

    monkeypatch.setattr(_Camera, "task", counted)
    config = compose([])
    check_runnable(config)
    every = config.family.experts + 3 * config.family.clients_per_split
    with pytest.raises(ConfigError, match=f"text items; {every} tasks, first 'camera-expert-000'"):
        check_runnable(compose(["backbone=minilm", "adapter=default"]))
    assert len(made) < 10


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


def test_labels_that_the_model_cannot_tell_apart(tmp_path: Path) -> None:
    emoji = replace(task("c", "client"), labels={"a": "\U0001f600", "b": "\U0001f389"})
    with pytest.raises(TextsAlikeError, match="'c': the labels of 'a' and 'b'"):
        checked(tmp_path, *EXPERTS, emoji)


def pictured(folder: Path, name: str, role: Role) -> Task:
    shades = [Image.new("RGB", (8, 8), (n, n, n)) for n in range(2)]
    pairs = []
    for n, shade in enumerate(shades):
        path = folder / f"{name}-{n}.png"
        shade.save(path)
        pairs.append(Example(str(path), f"shade {n}"))
    split = "expert" if role == "expert" else "mine"
    both = tuple(pairs)
    return Task(
        name, f"find {name}", {}, both, both, role, split, kind="retrieval", modality="image"
    )


def test_pictures_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """The backbone's tokeniser alone is looked at, so MiniLM's folder stands in for a CLIP."""
    model = resolve_minilm(None, None, None)
    more = ("backbone=clip", f"backbone.path={model}", "adapter=clip")
    tasks = [pictured(tmp_path, name, "expert") for name in ("e1", "e2")]
    tasks.append(pictured(tmp_path, "c", "client"))
    checked(tmp_path, *tasks, more=more)
    bare = replace(tasks[-1], train=())
    policy = (*more, "experiment.methods=[zero_shot,policy]")
    with pytest.raises(ConfigError, match=r"policy.*'c', have no training examples"):
        checked(tmp_path / "bare", *tasks[:2], bare, more=policy)
    for name in ("e2-1.png", "c-0.png"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:45])
    with pytest.raises(BackboneInputError, match=r"2 of 6 pictures.*c-0\.png.*e2-1\.png"):
        checked(tmp_path, *tasks, more=more)
