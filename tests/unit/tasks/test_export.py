"""A family on disk is the family: pictures as PNG, copies under hashes, equal numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sglora_fed.adapters.data import prepare
from sglora_fed.backbones import load_backbone
from sglora_fed.config import compose
from sglora_fed.config.schema import FamilyConfig
from sglora_fed.errors import ResultsError, TaskFileError
from sglora_fed.tasks import Example, Task, TaskFamily, load_family
from sglora_fed.tasks.export import write_family
from sglora_fed.tasks.local import local_family
from sglora_fed.tasks.types import Item

SMALL = FamilyConfig(
    name="cameras", experts=6, clients_per_split=2, train_per_client=5, test_per_client=8
)


def pixels(item: Item) -> np.ndarray:
    return np.asarray(Image.open(item)) if isinstance(item, str) else item


def captioned(items: list[str]) -> Task:
    pairs = tuple(Example(item, f"caption {number}") for number, item in enumerate(items))
    return Task(
        "pics", "Find them.", {}, pairs, pairs, split="u", kind="retrieval", modality="image"
    )


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[TaskFamily, TaskFamily]:
    """The cameras, and what is read of their export."""
    family = load_family(SMALL)
    folder = tmp_path_factory.mktemp("export")
    write_family(family, folder)
    return family, local_family(folder, seed=0)


def test_all_but_the_pictures_place_is_equal(exported: tuple[TaskFamily, TaskFamily]) -> None:
    for mine, read in zip(*(family.tasks for family in exported), strict=True):
        bare = {"train": (), "test": ()}
        assert replace(mine, **bare) == replace(read, **bare)
        for part in ("train", "test"):
            pairs = zip(getattr(mine, part), getattr(read, part), strict=True)
            for one, other in pairs:
                assert one.label == other.label
                assert isinstance(other.item, str)
                assert np.array_equal(pixels(one.item), pixels(other.item))


def test_models_get_the_same_numbers(exported: tuple[TaskFamily, TaskFamily]) -> None:
    config = compose(["backbone=cameras", "adapter=cameras"])
    encoder = load_backbone(config.backbone, config.adapter)
    for mine, read in zip(*(family.tasks for family in exported), strict=True):
        one, other = prepare(encoder, mine, mine.train), prepare(encoder, read, read.train)
        assert torch.equal(torch.stack(one.items), torch.stack(other.items))
        assert all(map(torch.equal, one.texts, other.texts))


def test_names_are_of_the_content(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_family(load_family(SMALL), tmp_path / name)
    one, two = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in files(tmp_path / name)}
        for name in ("one", "two")
    )
    assert one == two


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_files_from_elsewhere_are_copied_once(tmp_path: Path) -> None:
    far = tmp_path / "far"
    far.mkdir()
    for name in ("a.JPG", "b.JPG"):
        (far / name).write_bytes(b"the same")
    task = captioned([str(far / "a.JPG"), str(far / "b.JPG")])
    write_family(TaskFamily("f", (task,)), tmp_path / "family")
    (read,) = local_family(tmp_path / "family", seed=0).tasks
    (copy,) = {example.item for example in read.test}
    assert isinstance(copy, str)
    assert Path(copy).parent == tmp_path / "family" / "images"
    assert (Path(copy).suffix, Path(copy).read_bytes()) == (".JPG", b"the same")


def test_a_picture_that_is_gone_is_named(tmp_path: Path) -> None:
    task = captioned([str(tmp_path / "gone.png")] * 2)
    with pytest.raises(TaskFileError, match=r"gone\.png"):
        write_family(TaskFamily("f", (task,)), tmp_path / "family")
    assert not (tmp_path / "family" / "tasks.jsonl").exists()


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "family").write_text("in the way")
    with pytest.raises(ResultsError, match="family"):
        write_family(load_family(SMALL), tmp_path / "family")
