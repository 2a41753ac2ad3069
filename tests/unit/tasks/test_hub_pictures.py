"""The paper's picture data sets, without a network: small ones in their formats on disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sglora_fed.adapters.data import prepare
from sglora_fed.backbones import load_backbone
from sglora_fed.config import compose
from sglora_fed.config.schema import PICTURE_SETS, FamilyConfig
from sglora_fed.errors import TaskError, TaskFileError
from sglora_fed.tasks.hub import hub_family
from sglora_fed.tasks.hub_pictures import CATEGORIES, Picture, by_category
from sglora_fed.tasks.types import Example, Task, TaskFamily

datasets = pytest.importorskip("datasets")

CLASSES = ["Abyssinian", "american_bulldog", "colt's foot", "beagle", "Persian", "pug"]
FEATURES: dict[str, Any] = {
    "image": datasets.Image(),
    "label": datasets.ClassLabel(names=CLASSES),
    "caption": datasets.Value("string"),
    "captions": datasets.Sequence(datasets.Value("string")),
    "cocoid": datasets.Value("int64"),
}
SIZES = {"clients_per_split": 2, "train_per_client": 12, "test_per_client": 8}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SGLORA_FED_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def drawn(number: int, group: int = 0) -> Image.Image:
    """A picture that says its number and its group; PNG keeps pixels."""
    return Image.new("RGB", (8, 8), (number % 256, number // 256, group))


def read(example: Example) -> tuple[int, int]:
    """Number and group."""
    low, high, group = (int(v) for v in np.asarray(Image.open(str(example.item)))[0, 0])
    return low + 256 * high, group


def save(folder: Path, **parts: dict[str, list[Any]]) -> str:
    def table(columns: dict[str, list[Any]]) -> Any:
        features = {
            name: FEATURES["captions" if name == "caption" and isinstance(rows[0], list) else name]
            for name, rows in columns.items()
        }
        return datasets.Dataset.from_dict(columns, features=datasets.Features(features))

    datasets.DatasetDict({n: table(c) for n, c in parts.items()}).save_to_disk(str(folder))
    return str(folder)


def labelled(numbers: Sequence[int]) -> dict[str, list[Any]]:
    """Pictures whose group is their class."""
    labels = [number % len(CLASSES) for number in numbers]
    return {"image": [drawn(n, c) for n, c in zip(numbers, labels, strict=True)], "label": labels}


def by_class(path: str, dataset: str = "oxford_pets", **changes: Any) -> TaskFamily:
    config = FamilyConfig(name="hub", dataset=dataset, path=path, **{**SIZES, **changes})
    return hub_family(config)


@pytest.fixture
def pets(tmp_path: Path) -> str:
    """20 pictures a class in training, 4 in test."""
    count = len(CLASSES)
    train, test = labelled(range(20 * count)), labelled(range(20 * count, 24 * count))
    return save(tmp_path / "pets", train=train, test=test)


def class_of(task: Task) -> int:
    return [f"a photo of a {name.replace('_', ' ')}" for name in CLASSES].index(task.description)


# Classes without captions


@pytest.mark.parametrize(("dataset", "thing"), [("oxford_pets", "pet"), ("flowers102", "flower")])
def test_a_class_is_told_from_those_of_its_role(pets: str, dataset: str, thing: str) -> None:
    family = by_class(pets, dataset)
    owners = {role: {class_of(t) for t in family.of_role(role)} for role in ("expert", "client")}
    assert {len(owners["expert"]), len(owners["client"])} == {4, 2}
    assert not owners["expert"] & owners["client"]
    for task in family.tasks:
        own, role = class_of(task), owners[task.role]
        assert task.labels == {"own": task.description, "other": f"a photo of another {thing}"}
        assert Counter(e.label for e in task.train) == {"own": 6, "other": 6}
        wanted = {"own": 4, "other": 4} if task.role == "client" else {}
        assert Counter(e.label for e in task.test) == wanted
        for example in (*task.train, *task.test):
            group = read(example)[1]
            assert (group == own) == (example.label == "own")
            assert group in role, "no picture of an unseen class trains an expert"
        others = Counter(read(e)[1] for e in task.train if e.label == "other")
        assert max(others.values()) - min(others.values()) <= 1, "as evenly as they come"
        pictures = [read(e)[0] for e in (*task.train, *task.test)]
        assert len(set(pictures)) == len(pictures), "no test picture is known from training"
    assert {t.split for t in family.of_role("client")} == {"new_class"}
    names = {t.id for t in family.tasks}
    assert names == {
        "Abyssinian", "american-bulldog", "colt-s-foot", "beagle", "Persian", "pug"
    }  # fmt: skip


def test_few_pictures_keep_the_proportion_of_training_and_test(pets: str) -> None:
    family = by_class(pets, train_per_client=120, test_per_client=40)
    for task in family.of_role("client"):  # 24 pictures of each label, in the proportion 3 : 1
        assert (len(task.train), len(task.test)) == (2 * 18, 2 * 6)
    assert {len(task.train) for task in family.of_role("expert")} == {2 * 24}


def test_the_seed_chooses_who_is_unseen(pets: str) -> None:
    def clients(seed: int) -> set[str]:
        return {t.id for t in by_class(pets, seed=seed).of_role("client")}

    assert by_class(pets) == by_class(pets)
    assert len({frozenset(clients(seed)) for seed in range(5)}) > 1


def test_pictures_without_a_class_and_small_classes_are_left_out(tmp_path: Path) -> None:
    rows = labelled(range(20 * len(CLASSES)))
    rows["label"] = [
        -1 if label == 1 or (label == 2 and n > 80) else label
        for n, label in enumerate(rows["label"])
    ]
    family = by_class(save(tmp_path / "d", train=rows))
    assert {class_of(t) for t in family.tasks} == {0, 3, 4, 5}, "14 pictures of class 2 are left"


# Captions


def test_classes_with_captions_are_retrieval_as_in_the_paper(tmp_path: Path) -> None:
    rows = labelled(range(20 * len(CLASSES)))
    rows["caption"] = [f"number {n} of {label}" for n, label in enumerate(rows["label"])]
    family = by_class(save(tmp_path / "d", train=rows))
    for task in family.tasks:
        assert (task.kind, task.labels) == ("retrieval", {})
        assert len(task.train) == 12
        assert len(task.test) == (8 if task.role == "client" else 0)
        for example in (*task.train, *task.test):
            number, group = read(example)
            assert example.label == f"number {number} of {group}"
            assert group == class_of(task)


NAMED = ("dog", "hot dog", "traffic light", "bus", "person")


def captions_of(number: int) -> list[str]:
    """The second names a category in the plural; every seventh picture shows a rarer one too."""
    name = NAMED[number % 4]
    plural = f"{name}es" if name == "bus" else f"{name}s"
    said = [f"something {number}", f"Two {plural.capitalize()}, number {number}", f"a {name}"]
    return [*said, "a person"] if number % 7 == 0 else said


def coco(folder: Path, numbers: Sequence[int]) -> str:
    """A row for each caption, all first captions before all second ones."""
    found = sorted(((place, n, text) for n in numbers for place, text in enumerate(captions_of(n))))
    rows = {
        "image": [drawn(n) for _, n, _ in found],
        "cocoid": [1000 + n for _, n, _ in found],
        "caption": [text for _, _, text in found],
    }
    half = len(found) // 2
    first, second = ({k: v[s] for k, v in rows.items()} for s in (slice(half), slice(half, None)))
    return save(folder, train=first, validation=second)


def flickr30k(folder: Path, numbers: Sequence[int]) -> str:
    """A row for each picture, everything in the part `test`."""
    rows = {"image": [drawn(n) for n in numbers], "caption": [captions_of(n) for n in numbers]}
    return save(folder, test=rows)


@pytest.mark.parametrize("dataset", ["coco", "flickr30k"])
def test_a_category_is_a_task_with_the_captions_that_name_it(tmp_path: Path, dataset: str) -> None:
    make = coco if dataset == "coco" else flickr30k
    family = by_class(make(tmp_path / "d", range(140)), dataset)
    assert {t.description for t in family.tasks} == {f"a photo of a {name}" for name in NAMED}
    seen: list[int] = []
    for task in family.tasks:
        assert (task.kind, task.modality) == ("retrieval", "image")
        name = task.description.removeprefix("a photo of a ")
        for example in (*task.train, *task.test):
            number = read(example)[0]
            seen.append(number)
            if number % 7 == 0:
                assert (name, example.label) == ("person", "a person"), "the rarest has it"
            else:
                assert name == NAMED[number % 4]
                assert example.label == captions_of(number)[1], "the first that names it"
    assert len(set(seen)) == len(seen), "no picture in two tasks, however many rows it has"


def test_words_within_words_name_nothing() -> None:
    said = ["A carpet, a catalogue", "three CATS", "teddy bears", "a bear", "bus", "busy"]
    found = by_category([[Picture("train", n, text)] for n, text in enumerate(said)])
    assert {name: [p.row for p in pictures] for name, pictures in found.items()} == {
        "cat": [1], "teddy bear": [2], "bear": [3], "bus": [4],
    }  # fmt: skip


def test_categories_are_those_of_coco() -> None:
    assert len(set(CATEGORIES)) == 80, "Lin et al. 2014"


# Files


def test_a_picture_is_the_file_that_the_data_set_holds(pets: str, home: Path) -> None:
    family = by_class(pets)
    items = [str(e.item) for t in family.tasks for e in (*t.train, *t.test)]
    undecoded = datasets.Image(decode=False)
    tables = datasets.load_from_disk(pets).cast_column("image", undecoded).values()
    held = {row["image"]["bytes"] for table in tables for row in table}
    assert {Path(item).read_bytes() for item in items} <= held
    assert all(Path(item).parent == home / "pictures" for item in items)
    before = {path: path.stat().st_mtime_ns for path in (home / "pictures").iterdir()}
    by_class(pets)
    assert {p: p.stat().st_mtime_ns for p in (home / "pictures").iterdir()} == before


def test_clip_takes_the_pictures(pets: str) -> None:
    config = compose(["backbone=cameras", "adapter=cameras"])
    encoder = load_backbone(config.backbone, config.adapter)
    task = by_class(pets).of_role("client")[0]
    prepared = prepare(encoder, task, task.test)
    assert (len(prepared), prepared.kind, len(prepared.texts)) == (8, "labelled", 2)


# Where it comes from


@pytest.mark.parametrize("dataset", PICTURE_SETS)
def test_the_hub_is_asked_for_the_given_commit(
    dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def load_dataset(*args: Any, **kwargs: Any) -> Any:
        asked.append((args, kwargs))
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    config = FamilyConfig(name="hub", dataset=dataset, revision="5f" * 20)
    with pytest.raises(TaskFileError, match=rf"{PICTURE_SETS[dataset]} at revision 5f5f5f5.*path"):
        hub_family(config)
    assert asked == [((PICTURE_SETS[dataset], None), {"revision": "5f" * 20})]


def test_wrong_data_is_named(tmp_path: Path) -> None:
    numbers = range(20 * len(CLASSES))
    rows = labelled(numbers)
    bare = {"label": rows["label"]}
    with pytest.raises(TaskFileError, match=r"train lacks the fields \['image'\]"):
        by_class(save(tmp_path / "a", train=bare))
    with pytest.raises(TaskFileError, match=r"train lacks the fields \['label'\]"):
        by_class(save(tmp_path / "b", train={"image": rows["image"]}))
    with pytest.raises(TaskFileError, match=r"train lacks the fields \['caption', 'cocoid'\]"):
        by_class(save(tmp_path / "c", train=rows), "coco")
    with pytest.raises(
        TaskError, match=r"6 classes have 16 pictures or more.*clients_per_split=5 are"
    ):
        by_class(save(tmp_path / "d", train=rows), clients_per_split=5)
    with pytest.raises(TaskError, match=r"client '.*' has no pictures of other classes"):
        by_class(save(tmp_path / "e", train=rows), clients_per_split=1)
    plain = datasets.Dataset.from_dict({"image": ["x"], "label": [0]})
    datasets.DatasetDict({"train": plain}).save_to_disk(str(tmp_path / "f"))
    with pytest.raises(TaskFileError, match=r"field 'image' of train .* need an Image"):
        by_class(str(tmp_path / "f"))
    rows["image"] = [None] * len(numbers)
    with pytest.raises(TaskFileError, match=r"row \d+ of train has no picture"):
        by_class(save(tmp_path / "g", train=rows))
