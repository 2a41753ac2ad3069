"""Hugging Face data sets as task families (extra ``hub``): intents as rules and styles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sglora_fed.config.schema import PICTURE_SETS, FamilyConfig
from sglora_fed.errors import TaskFileError
from sglora_fed.tasks.family import build_family
from sglora_fed.tasks.hub_data import check_columns, class_names, open_parts
from sglora_fed.tasks.hub_pictures import picture_family
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
    """What ``family.name=hub`` means: pictures by class, or intents as rules and styles.

    Raises:
        TaskFileError: when ``datasets`` is not installed, or the data set cannot be had or lacks
            a part, a field, or the intents of its table.
        TaskError: when it allows fewer different tasks than asked for.
    """
    return picture_family(config) if config.dataset in PICTURE_SETS else intent_family(config)


def intent_family(config: FamilyConfig) -> TaskFamily:
    """A data set's intents, grouped into topics, as rules and styles.

    Args:
        config: with the data set's name; ``path`` names a folder written by ``save_to_disk``.

    Raises:
        TaskFileError, TaskError: as :func:`hub_family`.
    """
    source = DATASETS[config.dataset]
    revision = config.revision or source.revision
    parts, where = open_parts(source.id, source.config, revision, config.path)
    if set(PARTS) - set(parts):
        raise TaskFileError(f"{where} has {sorted(parts)}; need the parts {list(PARTS)}")
    topics = plain_topics(_rows(source, parts, where), shipped_table(config.dataset))
    if not topics:
        raise TaskFileError(f"{where} has none of the intents of {config.dataset}")
    return build_family(config.dataset, topics, config)


def _rows(source: HubDataset, parts: Mapping[str, Any], where: str) -> Iterator[Utterance]:
    for part in PARTS:
        features = parts[part].features
        check_columns(features, ("text", source.label), part, where)
        names = class_names(features, source.label, part, where)
        for text, label in zip(parts[part]["text"], parts[part][source.label], strict=True):
            yield Utterance(names[label], text, part)
