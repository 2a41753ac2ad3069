"""Hugging Face intent data sets as rules and styles (extra ``hub``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sglora_fed.config.schema import FamilyConfig
from sglora_fed.errors import TaskFileError
from sglora_fed.tasks.family import build_family
from sglora_fed.tasks.topics import Part, Utterance, plain_topics, shipped_table
from sglora_fed.tasks.types import TaskFamily

PARTS: tuple[Part, Part] = ("train", "test")


@dataclass(frozen=True)
class HubDataset:
    """How a data set on the hub is read.

    Attributes:
        id: on the hub.
        revision: the commit that the topic table was written for.
        config: of the data set, or None.
        label: field of the intent.
    """

    id: str
    revision: str
    config: str | None
    label: str


DATASETS: Mapping[str, HubDataset] = {
    "clinc_oos": HubDataset(
        "clinc/clinc_oos", "155b9c710419136e17307b80d0a13e68cd46b4ec", "plus", "intent"
    ),
    # The original PolyAI/banking77 is a loading script, which datasets 4 and later refuse to run.
    "banking77": HubDataset(
        "legacy-datasets/banking77", "f54121560de48f2852f90be299010d1d6dc612ec", None, "label"
    ),
}
"""Name in ``family.dataset`` -> how it is read; ``tables/<name>.yaml`` groups its intents."""


def hub_family(config: FamilyConfig) -> TaskFamily:
    """A data set's intents, grouped into topics, as rules and styles.

    Args:
        config: with the data set's name; ``path`` names a folder written by ``save_to_disk``.

    Raises:
        TaskFileError: when ``datasets`` is not installed, or the data set cannot be had or lacks
            a part, a field, or the intents of its table.
        TaskError: when its topics allow fewer different tasks than asked for.
    """
    source = DATASETS[config.dataset]
    where = config.path or f"{source.id} at revision {source.revision[:7]}"
    rows = _rows(source, _load(source, config.path, where), where)
    topics = plain_topics(rows, shipped_table(config.dataset))
    if not topics:
        raise TaskFileError(f"{where} has none of the intents of {config.dataset}")
    return build_family(config.dataset, topics, config)


def _load(source: HubDataset, path: str | None, where: str) -> Mapping[str, Any]:
    try:
        import datasets
    except ImportError as error:
        raise TaskFileError("family=hub needs pip install 'sglora-fed[hub]'") from error
    try:
        if path:
            found = datasets.load_from_disk(path)
        else:
            found = datasets.load_dataset(source.id, source.config, revision=source.revision)
    # RuntimeError: how `datasets` refuses loading scripts.
    except (OSError, ValueError, RuntimeError) as error:
        raise TaskFileError(
            f"{where} cannot be loaded ({type(error).__name__}); without a network give"
            " family.path, a folder written by save_to_disk"
        ) from error
    if not isinstance(found, Mapping) or set(PARTS) - set(found):
        has = sorted(found) if isinstance(found, Mapping) else "one table"
        raise TaskFileError(f"{where} has {has}; need the parts {list(PARTS)}")
    return found


def _rows(source: HubDataset, parts: Mapping[str, Any], where: str) -> Iterator[Utterance]:
    for part in PARTS:
        features = parts[part].features
        if missing := sorted({"text", source.label} - set(features)):
            raise TaskFileError(f"{where}: {part} lacks the fields {missing}; has {list(features)}")
        names = getattr(features[source.label], "names", None)
        if names is None:
            raise TaskFileError(
                f"{where}: field {source.label!r} of {part} is {features[source.label]};"
                " need a ClassLabel"
            )
        for text, label in zip(parts[part]["text"], parts[part][source.label], strict=True):
            yield Utterance(names[label], text, part)
