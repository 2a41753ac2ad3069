"""Hugging Face intent data sets as rules and styles (extra ``hub``)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from sglora_fed.config.schema import FamilyConfig
from sglora_fed.errors import TaskFileError
from sglora_fed.tasks.family import build_family
from sglora_fed.tasks.topics import PlainIntent, PlainTopic
from sglora_fed.tasks.types import TaskFamily


@dataclass(frozen=True)
class HubDataset:
    """How a data set on the hub is read.

    Attributes:
        id: on the hub.
        config: of the data set, or None.
        label: field of the intent.
        topic_of: intent name -> topic, or None to leave the intent out.
    """

    id: str
    config: str | None
    label: str
    topic_of: Callable[[str], str | None]


@cache
def _clinc_topics() -> Mapping[str, str]:
    text = resources.files("sglora_fed.tasks").joinpath("clinc_topics.yaml").read_text("utf-8")
    return {intent: topic for topic, intents in yaml.safe_load(text).items() for intent in intents}


BANKING_TOPICS = (
    ("top-ups", ("top_up", "topping_up", "verify_top_up", "verify_source")),
    ("transfers", ("transfer", "beneficiary", "direct_debit", "receiving_money")),
    ("cash machines", ("cash", "atm")),
    ("currencies", ("exchange", "currency", "fiat")),
    ("refunds and fees", ("refund", "charge", "extra_charge", "reverted", "Refund")),
    ("codes and phones", ("pin", "passcode", "phone", "apple_pay")),
    ("my identity", ("identity", "verify_my", "personal_details", "age_limit", "terminate")),
    ("cards", ("card", "visa")),
)
"""Topic -> parts of intent names; the first topic that matches takes the intent."""


def _banking_topic(intent: str) -> str | None:
    return next((t for t, words in BANKING_TOPICS if any(w in intent for w in words)), None)


DATASETS: Mapping[str, HubDataset] = {
    "clinc_oos": HubDataset("clinc/clinc_oos", "plus", "intent", lambda i: _clinc_topics().get(i)),
    "banking77": HubDataset("PolyAI/banking77", None, "label", _banking_topic),
}


def hub_family(config: FamilyConfig) -> TaskFamily:
    """A data set's intents, grouped into topics, as rules and styles.

    Args:
        config: with the data set's name; ``path`` names a folder written by ``save_to_disk``.

    Raises:
        TaskFileError: when ``datasets`` is not installed, or the data set cannot be had or lacks
            a field.
        TaskError: when its topics allow fewer different tasks than asked for.
    """
    source = DATASETS[config.dataset]
    parts = _load(source, config.path)
    return build_family(config.dataset, _topics(source, parts), config)


def _load(source: HubDataset, path: str | None) -> Mapping[str, Any]:
    try:
        import datasets
    except ImportError as error:
        raise TaskFileError("family=hub needs pip install 'sglora-fed[hub]'") from error
    try:
        found = (
            datasets.load_from_disk(path)
            if path
            else datasets.load_dataset(source.id, source.config)
        )
    except (OSError, ValueError, ConnectionError) as error:
        where = path or f"{source.id} on the hub"
        raise TaskFileError(
            f"{where} cannot be loaded ({type(error).__name__}); family.path takes a folder"
            " written by save_to_disk"
        ) from error
    if missing := {"train", "test"} - set(found):
        raise TaskFileError(f"{path or source.id} lacks the parts {sorted(missing)}")
    return dict(found)


def _topics(source: HubDataset, parts: Mapping[str, Any]) -> Sequence[PlainTopic]:
    texts = {name: _by_intent(source, parts[name]) for name in ("train", "test")}
    groups: dict[str, list[PlainIntent]] = defaultdict(list)
    for intent in sorted(texts["train"]):
        topic = source.topic_of(intent)
        if topic is not None and texts["test"].get(intent):
            name = intent.replace("_", " ").lower()
            train, test = texts["train"][intent], texts["test"][intent]
            groups[topic].append(PlainIntent(name, name, train, test))
    return [
        PlainTopic(topic, (topic.replace("_", " "),), tuple(intents))
        for topic, intents in sorted(groups.items())
        if len(intents) > 1
    ]


def _by_intent(source: HubDataset, part: Any) -> dict[str, tuple[str, ...]]:
    if missing := {"text", source.label} - set(part.features):
        raise TaskFileError(f"{source.id} lacks the fields {sorted(missing)}")
    names = part.features[source.label].names
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for text, label in zip(part["text"], part[source.label], strict=True):
        found[names[label]][text.strip()] = None
    return {intent: tuple(t for t in texts if t) for intent, texts in found.items()}
