"""What the adapted model says of a text or a picture, with the node's own candidates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from sglora_fed.adapters.batched import adapted
from sglora_fed.adapters.peft_io import read_peft
from sglora_fed.backbones import load_backbone
from sglora_fed.backbones.types import DualEncoder
from sglora_fed.config.schema import ITEMS, AdapterConfig, BackboneConfig
from sglora_fed.edge.settings import OwnNode
from sglora_fed.edge.shelf import adopted
from sglora_fed.errors import NoAdapterError, NodeFileError


@dataclass(frozen=True)
class Prediction:
    """How well each candidate text fits an item.

    Attributes:
        texts: the candidates, the best one first.
        chances: of each, a softmax over the model's scores.
    """

    texts: tuple[str, ...]
    chances: tuple[float, ...]


def predict(node: OwnNode, item: str | Path, *, bare: bool = False) -> Prediction:
    """Compare an item with the node's labels or captions.

    Args:
        node: that has adopted an adapter.
        item: a text, or the file of a picture, as its backbone takes them.
        bare: without the adapter.

    Raises:
        NoAdapterError: before the first adoption.
        NodeFileError: when the node names neither labels nor captions, or the item is of the wrong
            kind or not there.
        SgloraError: when adapter, backbone or item cannot be read.
    """
    if (told := adopted(node)) is None:
        raise NoAdapterError(f"{node.adapter} is not there: no adapter was adopted yet")
    if not node.texts:
        raise NodeFileError(f"{node.file} has neither labels nor captions to choose from")
    config = _backbone(told)
    _check_item(config, item)
    vector, layout = read_peft(node.adapter)
    names = tuple(module.name for module in layout.modules)
    encoder = load_backbone(config, AdapterConfig(targets=_ends(names), layers=()))
    if bare:
        return _scored(encoder, node, str(item))
    with adapted(encoder.model, layout, torch.from_numpy(vector[None])):
        return _scored(encoder, node, str(item))


def _check_item(config: BackboneConfig, item: str | Path) -> None:
    """Before a model is loaded for it, which takes seconds."""
    given = "image" if isinstance(item, Path) else "text"
    if (takes := ITEMS[config.name]) != given:
        raise NodeFileError(f"the adapter's model reads {takes}s, not {given}s: give --{takes}")
    if isinstance(item, Path) and not item.is_file():
        raise NodeFileError(f"{item} is not there")


def _backbone(told: dict[str, object]) -> BackboneConfig:
    """What the adapter was made for."""
    values = told.get("backbone")
    try:
        config = BackboneConfig(**values)  # type: ignore[arg-type]
    except TypeError as error:
        raise NoAdapterError("adopted.json names no backbone; adopt again") from error
    if problems := config.problems():
        raise NoAdapterError(f"adopted.json: {'; '.join(problems)}")
    return config


def _ends(names: tuple[str, ...]) -> tuple[str, ...]:
    """The modules' ends, as targets: which layers they lie in is the layout's own matter."""
    return tuple(dict.fromkeys(name.rpartition(".")[2] for name in names))


@torch.no_grad()
def _scored(encoder: DualEncoder, node: OwnNode, item: str) -> Prediction:
    items = encoder.encode_items(encoder.prepare_items([item]), 1)
    texts = encoder.encode_texts(encoder.prepare_texts(list(node.texts)), 1)
    chances = torch.softmax(encoder.scale * items[0] @ texts.T, dim=0)
    order = chances.argsort(descending=True).tolist()
    return Prediction(tuple(node.texts[i] for i in order), tuple(float(chances[i]) for i in order))
