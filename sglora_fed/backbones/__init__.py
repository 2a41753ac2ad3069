"""Backbones: frozen dual encoders and the description encoder.

What only looks for weights or reads texts imports no model and no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from sglora_fed.backbones.reading import (
    MINILM_SCALE,
    MINILM_TOKENS,
    TOKENIZER_FILE,
    TextReader,
    text_length,
)
from sglora_fed.backbones.weights import (
    WEIGHTS_FILE,
    BaseModel,
    base_model,
    checkpoint_folder,
    weights_hash,
)
from sglora_fed.config.schema import BACKBONES, ITEMS, AdapterConfig, BackboneConfig
from sglora_fed.errors import ConfigError
from sglora_fed.tasks.types import Modality

if TYPE_CHECKING:
    from sglora_fed.backbones.types import Describer, DualEncoder, PlainEncoder


def register_backbone(
    name: str, load: Callable[[BackboneConfig, AdapterConfig], DualEncoder], items: Modality
) -> None:
    """Make a backbone of your own known by name: ``backbone.name=NAME``.

    Args:
        name: in configuration.
        load: the backbone for a configuration; called once per process.
        items: what it takes besides texts.

    Raises:
        ConfigError: when the name is taken.
    """
    BACKBONES.add(name, load)
    ITEMS[name] = items


@lru_cache(maxsize=2)
def load_backbone(backbone: BackboneConfig, adapter: AdapterConfig) -> DualEncoder:
    """The configured backbone, loaded once per process.

    Raises:
        ConfigError: for a mistake in the backbone's group, or a device that is not there.
        BackboneMissingError: when the weights are nowhere to be found.
        BackboneHashError: when the weights found are others.
        BackboneFileError: when the checkpoint cannot be read.
        LayoutError: when the adapter's layers or targets are not in the model.
    """
    if problems := backbone.problems():
        raise ConfigError(problems)
    encoder: DualEncoder = BACKBONES.get(backbone.name)(backbone, adapter)
    return encoder


def base_with(backbone: BackboneConfig, weights_sha256: str) -> BaseModel | None:
    """What stock transformers loads the configured checkpoint by, if it has these weights.

    Raises:
        BackboneMissingError: when the weights are nowhere to be found.
        BackboneHashError: when the weights found are others than configured.
    """
    found = weights_hash(checkpoint_folder(backbone) / WEIGHTS_FILE)
    return base_model(backbone.path, backbone.revision) if found == weights_sha256 else None


@lru_cache(maxsize=2)
def load_describer(backbone: BackboneConfig) -> Describer:
    """The description encoder, on the CPU: MiniLM, or the text tower of the backbone's CLIP.

    Raises:
        BackboneMissingError: when the weights are nowhere to be found.
        BackboneHashError: when the weights found are others.
        BackboneFileError: when the checkpoint cannot be read.
    """
    if backbone.describer == "clip":
        from sglora_fed.backbones.clip_text import ClipDescriptionEncoder

        return ClipDescriptionEncoder(checkpoint_folder(backbone))
    from sglora_fed.backbones.minilm import DescriptionEncoder

    return DescriptionEncoder(_minilm_folder(backbone))


def light_describer(backbone: BackboneConfig) -> Describer:
    """The description encoder of a process that embeds a sentence and ends: without torch.

    A text tower of CLIP, or a MiniLM with the files of older tokenisers, needs torch all the same.

    Raises:
        SgloraError: as :func:`load_describer`.
    """
    folder = None if backbone.describer == "clip" else _minilm_folder(backbone)
    if folder is None or not (folder / TOKENIZER_FILE).is_file():
        return load_describer(backbone)
    from sglora_fed.backbones.plain import PlainDescriber

    return PlainDescriber(folder)


def light_backbone(backbone: BackboneConfig) -> PlainEncoder | None:
    """The configured backbone in NumPy: for a process that measures some examples and ends.

    Returns:
        None where only torch reads it: a backbone of somebody's own, on a GPU, or with files that
        do not say all that the arithmetic needs.

    Raises:
        BackboneMissingError: when the weights are nowhere to be found.
        BackboneHashError: when the weights found are others.
        BackboneFileError: when the checkpoint cannot be read.
    """
    if backbone.name not in ("minilm", "clip") or backbone.device == "cuda":
        return None
    folder = checkpoint_folder(backbone)
    if backbone.name == "clip":
        from sglora_fed.backbones.plain_clip import plain_clip

        return plain_clip(folder, backbone.scale)
    if not (folder / TOKENIZER_FILE).is_file():
        return None
    from sglora_fed.backbones.plain import PlainMiniLM

    return PlainMiniLM(folder, MINILM_SCALE if backbone.scale is None else backbone.scale)


@lru_cache(maxsize=2)
def description_reader(backbone: BackboneConfig) -> TextReader:
    """What the description encoder makes of texts.

    Raises:
        BackboneMissingError: when the weights are nowhere to be found.
        BackboneHashError: when the weights found are others.
        BackboneFileError: when the tokeniser cannot be read.
    """
    if backbone.describer == "clip":
        return _clip_reader(backbone)
    return TextReader(_minilm_folder(backbone), MINILM_TOKENS)


@lru_cache(maxsize=2)
def candidate_reader(backbone: BackboneConfig) -> TextReader:
    """What the backbone makes of candidate texts and captions; raises as for descriptions."""
    return _clip_reader(backbone) if backbone.name == "clip" else description_reader(backbone)


def _clip_reader(backbone: BackboneConfig) -> TextReader:
    folder = checkpoint_folder(backbone)
    return TextReader(folder, text_length(folder))


def _minilm_folder(backbone: BackboneConfig) -> Path:
    return checkpoint_folder(backbone if backbone.name == "minilm" else BackboneConfig())
