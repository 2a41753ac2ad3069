"""Whether the frozen models can tell the words of some tasks apart, and know most of them."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from sglora_fed.backbones import candidate_reader, description_reader
from sglora_fed.backbones.reading import Reading, TextReader
from sglora_fed.config.schema import BackboneConfig, FamilyConfig
from sglora_fed.errors import TextsAlikeError, VocabularyError
from sglora_fed.tasks import load_family
from sglora_fed.tasks.phrases import said_of
from sglora_fed.tasks.types import Task

MADE_FOR = {("assistant", None, "minilm"), ("cameras", "package:cameras", "minilm")}
"""Embedded families, the checkpoints that ship with them, and what reads their descriptions."""

MOST_UNKNOWN = 0.5
"""Share of word pieces that a model may not know; beyond it, it reads less than half of a text."""


@lru_cache(maxsize=4)
def check_words(family: FamilyConfig, backbone: BackboneConfig) -> None:
    """Refuse tasks whose words the configured models do not know or cannot tell apart.

    The embedded families are made for the models that ship with them and not looked at.

    Raises:
        VocabularyError: when most of the descriptions, candidate texts or captions are unknown.
        TextsAlikeError: when two labels of a task, or descriptions of two tasks, are read as one.
    """
    if (family.name, backbone.path, backbone.describer) in MADE_FOR:
        return
    tasks = load_family(family).tasks
    check_descriptions(description_reader(backbone), tasks)
    check_candidates(candidate_reader(backbone), tasks)


def check_descriptions(reader: TextReader, tasks: Sequence[Task]) -> None:
    """Refuse descriptions and paraphrases that are mostly unknown, or alike across tasks.

    The same wish in the same words is no fault, however often it comes, nor is one that differs in
    case, spacing or accents alone: people leave them out. Other words that are read as one are
    refused: the generator would learn one adapter for two wishes, and two clients with different
    wishes would get the same.

    Raises:
        VocabularyError, TextsAlikeError: as in :func:`check_words`.
    """
    said = [(task.id, text) for task in tasks for text in (task.description, *task.paraphrases)]
    readings = reader.read([text for _, text in said])
    check_known("descriptions", readings)
    alike: dict[tuple[int, ...], list[tuple[str, str]]] = defaultdict(list)
    for one, reading in zip(said, readings, strict=True):
        alike[reading.pieces].append(one)
    for (first, text), *others in alike.values():
        for other, words in others:
            if other != first and _plain(words) != _plain(text):
                raise TextsAlikeError(
                    f"the description {text!r} of task {first!r} and {words!r} of {other!r} are"
                    " one text to the model; say them in words that it knows, or alike if they"
                    " mean the same"
                )


def check_candidates(reader: TextReader, tasks: Sequence[Task]) -> None:
    """Refuse labels, hints and captions that are mostly unknown, and labels that are alike.

    Captions that are alike are measured as the ties they are. All tasks are of one kind.

    Raises:
        VocabularyError, TextsAlikeError: as in :func:`check_words`.
    """
    if tasks[0].kind == "retrieval":
        captions = {example.label for task in tasks for example in (*task.train, *task.test)}
        check_known("captions", reader.read(sorted(captions)))
        return
    known = _readings(reader, tasks)
    check_known("labels and hints", list(known.values()))
    for task in tasks:
        _check_apart(task, "label", {key: (text,) for key, text in task.labels.items()}, known)
        _check_apart(task, "hint", {key: said_of(task, key) for key in task.labels}, known)


def check_known(what: str, readings: Sequence[Reading]) -> None:
    """Refuse texts most of whose word pieces are unknown.

    Raises:
        VocabularyError: with the share.
    """
    pieces = sum(len(one.pieces) for one in readings)
    unknown = sum(one.unknown for one in readings)
    if unknown > MOST_UNKNOWN * pieces:
        raise VocabularyError(
            f"{what}: the model's tokeniser does not know {unknown} of {pieces} word pieces; at"
            f" most {MOST_UNKNOWN:.0%} may be unknown"
        )


def _readings(reader: TextReader, tasks: Iterable[Task]) -> dict[str, Reading]:
    """Each label, and each thing that is said of one, once."""
    texts = {text for task in tasks for key in task.labels for text in said_of(task, key)}
    texts |= {text for task in tasks for text in task.labels.values()}
    ordered = sorted(texts)
    return dict(zip(ordered, reader.read(ordered), strict=True))


def _check_apart(
    task: Task, what: str, said: Mapping[str, Sequence[str]], known: Mapping[str, Reading]
) -> None:
    keys: dict[frozenset[tuple[int, ...]], str] = {}
    for key, texts in said.items():
        first = keys.setdefault(frozenset(known[text].pieces for text in texts), key)
        if first != key:
            raise TextsAlikeError(
                f"task {task.id!r}: the {what}s of {first!r} and {key!r}, {list(said[first])} and"
                f" {list(texts)}, are one text to the model; say them in other words"
            )


def _plain(text: str) -> str:
    """Without case, accents, spacing and what is invisible."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    seen = "".join(c for c in letters if c.isspace() or unicodedata.category(c)[0] not in "CM")
    return " ".join(seen.split())
