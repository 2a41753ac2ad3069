"""Picture data sets of the hub, one class a task: those of the SG-LoRA paper."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from sglora_fed.config import home
from sglora_fed.config.schema import PICTURE_SETS, FamilyConfig
from sglora_fed.errors import TaskError, TaskFileError
from sglora_fed.files import write_atomically
from sglora_fed.seeds import derive_seed
from sglora_fed.tasks.hub_data import check_columns, class_names, open_parts
from sglora_fed.tasks.types import EXPERT_SPLIT, Example, Role, Task, TaskFamily

THINGS = {"oxford_pets": "pet", "flowers102": "flower"}
"""Data set -> what its classes are. The others have captions and no classes."""

KEYS = {"coco": "cocoid"}
"""Data set with a row for each caption -> the field that says which rows are of one picture."""

FEWEST = 16
"""Pictures of a class that becomes a task."""

SPLIT = "new_class"
OWN, OTHER = "own", "other"

CATEGORIES = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"),
    *("traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat"),
    *("dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack"),
    *("umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball"),
    *("kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket"),
    *("bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple"),
    *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair"),
    *("couch", "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse"),
    *("remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink"),
    *("refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier"),
    "toothbrush",
)
"""Of MS-COCO (Lin et al. 2014), by the names of its annotations."""

# Longer names first, so that a hot dog is no dog.
NAMED = re.compile(
    rf"\b({'|'.join(sorted(CATEGORIES, key=len, reverse=True))})(?:s|es)?\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture in a data set, not yet read.

    Attributes:
        part: of the data set.
        row: in the part.
        caption: None where the data set has none.
    """

    part: str
    row: int
    caption: str | None


Classes = Mapping[str, Sequence[Picture]]


def picture_family(config: FamilyConfig) -> TaskFamily:
    """A data set's classes as tasks; whole classes are held out, so all parts are read together.

    ``coco`` and ``flickr30k``: a task is one of COCO's categories, its examples are pictures with
    the first caption that names it. ``oxford_pets`` and ``flowers102``: where the data set has a
    field ``caption``, a task is retrieval within a class; else it is to tell pictures of the class
    from those of others of its role. A class of few pictures keeps the proportion of training and
    test. Pictures are written below the home folder, as the data set holds them.

    Args:
        config: with the data set's name and its revision or path.

    Raises:
        TaskFileError: when the data set cannot be had or lacks what is read.
        TaskError: when too few classes have enough pictures.
    """
    revision = config.revision or ""
    parts, where = open_parts(PICTURE_SETS[config.dataset], None, revision, config.path)
    pictures = {name: _undecoded(part, name, where) for name, part in parts.items()}
    if config.dataset in THINGS:
        classes = _by_label(pictures, where)
    else:
        classes = by_category(_captioned(pictures, KEYS.get(config.dataset), where))
    rng = np.random.default_rng(derive_seed(config.seed, "family", config.dataset))
    usable = {name: _shuffled(some, rng) for name, some in sorted(classes.items())}
    return TaskFamily(config.dataset, tuple(_tasks(usable, pictures, config, rng)))


def _undecoded(part: Any, name: str, where: str) -> Any:
    """The part with pictures as the bytes of their files.

    Raises:
        TaskFileError: when it has no pictures.
    """
    import datasets

    check_columns(part.features, ("image",), name, where)
    if not isinstance(part.features["image"], datasets.Image):
        raise TaskFileError(
            f"{where}: field 'image' of {name} is {part.features['image']}; need an Image"
        )
    return part.cast_column("image", datasets.Image(decode=False))


def _by_label(parts: Mapping[str, Any], where: str) -> Classes:
    classes: dict[str, list[Picture]] = {}
    for part, table in parts.items():
        check_columns(table.features, ("label",), part, where)
        names = class_names(table.features, "label", part, where)
        captions = table["caption"] if "caption" in table.features else [None] * len(table)
        for row, (label, caption) in enumerate(zip(table["label"], captions, strict=True)):
            if label is not None and label >= 0:  # -1 stands for a class that is kept secret
                name = names[label].replace("_", " ")
                classes.setdefault(name, []).append(Picture(part, row, caption))
    return classes


def _captioned(parts: Mapping[str, Any], key: str | None, where: str) -> Iterable[list[Picture]]:
    """Each picture, once for each of its captions."""
    found: dict[Any, list[Picture]] = {}
    for part, table in parts.items():
        check_columns(table.features, {"caption", key or "caption"}, part, where)
        keys = table[key] if key else [(part, row) for row in range(len(table))]
        for row, (name, said) in enumerate(zip(keys, table["caption"], strict=True)):
            captions = [said] if isinstance(said, str) else said or []
            found.setdefault(name, []).extend(Picture(part, row, text) for text in captions)
    return found.values()


def by_category(pictures: Iterable[Sequence[Picture]]) -> Classes:
    """Pictures by the categories that their captions name; of several, the rarest has it.

    So no picture belongs to two tasks, one of an expert and one of a client.

    Args:
        pictures: each once for each of its captions.

    Returns:
        Category -> pictures, each with the first caption that names it.
    """
    named = [_named(captions) for captions in pictures]
    counts = Counter(chain.from_iterable(named))
    classes: dict[str, list[Picture]] = {}
    for found in filter(None, named):
        rarest = min(found, key=lambda name: (counts[name], name))
        classes.setdefault(rarest, []).append(found[rarest])
    return classes


def _named(captions: Sequence[Picture]) -> dict[str, Picture]:
    """Category -> the first caption that names it."""
    found: dict[str, Picture] = {}
    for picture in captions:
        for name in NAMED.findall(picture.caption or ""):
            found.setdefault(name.lower(), picture)
    return found


def _shuffled(pictures: Sequence[Picture], rng: np.random.Generator) -> list[Picture]:
    return [pictures[i] for i in rng.permutation(len(pictures))]


def _tasks(
    classes: Classes, parts: Mapping[str, Any], config: FamilyConfig, rng: np.random.Generator
) -> Iterator[Task]:
    usable = [name for name, pictures in classes.items() if len(pictures) >= FEWEST]
    order = [usable[i] for i in rng.permutation(len(usable))]
    clients, experts = order[: config.clients_per_split], order[config.clients_per_split :]
    if len(experts) < 2:
        raise TaskError(
            f"family.dataset={config.dataset}: {len(usable)} classes have {FEWEST} pictures or"
            f" more, of which family.clients_per_split={config.clients_per_split} are clients';"
            " need two for experts"
        )
    roles: tuple[tuple[Role, list[str]], ...] = (("expert", experts), ("client", clients))
    for role, names in roles:
        for name in names:
            others = [classes[other] for other in names if other != name]
            yield _task(name, role, classes[name], others, parts, config)


def _task(
    name: str,
    role: Role,
    own: Sequence[Picture],
    others: Sequence[Sequence[Picture]],
    parts: Mapping[str, Any],
    config: FamilyConfig,
) -> Task:
    description = f"a photo of a {name}"
    if retrieval := all(picture.caption is not None for picture in own):
        pairs, labels = [[(p, str(p.caption)) for p in own]], {}
    else:
        pairs = [[(p, OWN) for p in own], [(p, OTHER) for p in _in_turns(others)]]
        labels = {OWN: description, OTHER: f"a photo of another {THINGS[config.dataset]}"}
    train, test = _shares(min(map(len, pairs)), len(pairs), role, config)
    if not train:
        raise TaskError(f"{role} {name!r} has no pictures of other classes; need two of its role")
    return Task(
        id=re.sub(r"[^A-Za-z0-9._-]+", "-", name),
        description=description,
        labels=labels,
        train=_examples([pair for some in pairs for pair in some[test : test + train]], parts),
        test=_examples([pair for some in pairs for pair in some[:test]], parts),
        role=role,
        split=EXPERT_SPLIT if role == "expert" else SPLIT,
        kind="retrieval" if retrieval else "labelled",
        modality="image",
    )


def _in_turns(classes: Sequence[Sequence[Picture]]) -> list[Picture]:
    """One picture of each class, then the next of each."""
    return [p for turn in zip_longest(*classes) for p in turn if p is not None]


def _shares(count: int, labels: int, role: Role, config: FamilyConfig) -> tuple[int, int]:
    """Training and test examples of a label that has some pictures; an expert is never tested."""
    train = max(1, config.train_per_client // labels)
    test = max(1, config.test_per_client // labels) if role == "client" else 0
    test = min(test, math.ceil(count * test / (train + test)))
    return min(train, count - test), test


def _examples(
    pairs: Sequence[tuple[Picture, str]], parts: Mapping[str, Any]
) -> tuple[Example, ...]:
    return tuple(Example(_file(picture, parts[picture.part]), label) for picture, label in pairs)


def _file(picture: Picture, table: Any) -> str:
    """Where the picture's file lies, after it was put there if need be.

    It is called after its content: written once, by whichever process comes first.

    Raises:
        TaskFileError: when the row has no picture.
    """
    image = table[picture.row]["image"] or {}
    data, given = image.get("bytes"), image.get("path")
    if data is None:
        if given is None:
            raise TaskFileError(f"row {picture.row} of {picture.part} has no picture; remove it")
        return str(Path(given).absolute())
    path = home() / "pictures" / sha256(data).hexdigest()[:32]
    if not path.is_file():
        write_atomically(path, data)
    return str(path)
