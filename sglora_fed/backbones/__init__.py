"""Backbones: frozen dual encoders and the description encoder."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch

from sglora_fed.backbones.clip import Clip
from sglora_fed.backbones.minilm import MAX_TOKENS, DescriptionEncoder, MiniLM
from sglora_fed.backbones.reading import TextReader, text_length
from sglora_fed.backbones.types import DualEncoder
from sglora_fed.backbones.weights import (
    WEIGHTS_FILE,
    BaseModel,
    base_model,
    resolve_checkpoint,
    resolve_minilm,
    weights_hash,
)
from sglora_fed.config.schema import AdapterConfig, BackboneConfig
from sglora_fed.errors import ConfigError

__all__ = [
    "DescriptionEncoder",
    "DualEncoder",
    "available_device",
    "base_with",
    "candidate_reader",
    "description_reader",
    "load_backbone",
    "load_describer",
]

MINILM_SCALE = 20.0


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
    device, folder = available_device(backbone.device), _folder(backbone)
    if backbone.name == "clip":
        return Clip(folder, adapter.targets, adapter.layers, backbone.scale, device)
    scale = MINILM_SCALE if backbone.scale is None else backbone.scale
    return MiniLM(folder, adapter.targets, adapter.layers, scale, device)


def _folder(backbone: BackboneConfig) -> Path:
    if backbone.name == "clip":
        return resolve_checkpoint(str(backbone.path), backbone.revision, backbone.sha256)
    return resolve_minilm(backbone.path, backbone.revision, backbone.sha256)


def _describer_folder(backbone: BackboneConfig) -> Path:
    if backbone.name == "clip":
        return resolve_minilm(None, None, None)
    return _folder(backbone)


def base_with(backbone: BackboneConfig, weights_sha256: str) -> BaseModel | None:
    """What stock transformers loads the configured checkpoint by, if it has these weights.

    Raises:
        BackboneMissingError: when the weights are nowhere to be found.
        BackboneHashError: when the weights found are others than configured.
    """
    found = weights_hash(_folder(backbone) / WEIGHTS_FILE)
    return base_model(backbone.path, backbone.revision) if found == weights_sha256 else None


@lru_cache(maxsize=2)
def load_describer(backbone: BackboneConfig) -> DescriptionEncoder:
    """The description encoder: MiniLM on the CPU, whatever the backbone is.

    Raises:
        BackboneMissingError: when the weights are nowhere to be found.
        BackboneHashError: when the weights found are others.
        BackboneFileError: when the checkpoint cannot be read.
    """
    return DescriptionEncoder(_describer_folder(backbone))


@lru_cache(maxsize=2)
def description_reader(backbone: BackboneConfig) -> TextReader:
    """What the description encoder makes of texts.

    Raises:
        BackboneMissingError: when the weights are nowhere to be found.
        BackboneHashError: when the weights found are others.
        BackboneFileError: when the tokeniser cannot be read.
    """
    return TextReader(_describer_folder(backbone), MAX_TOKENS)


@lru_cache(maxsize=2)
def candidate_reader(backbone: BackboneConfig) -> TextReader:
    """What the backbone makes of candidate texts and captions; raises as for descriptions."""
    if backbone.name != "clip":
        return description_reader(backbone)
    folder = _folder(backbone)
    return TextReader(folder, text_length(folder))


def available_device(name: str) -> torch.device:
    """What `cpu`, `cuda` or `auto` means here.

    Raises:
        ConfigError: for `cuda` where there is none.
    """
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise ConfigError("backbone.device='cuda': no CUDA device here; use cpu or auto")
    return torch.device("cuda" if name != "cpu" and there else "cpu")
