"""Backbones: frozen dual encoders and the description encoder."""

from __future__ import annotations

from functools import lru_cache

import torch

from sglora_fed.backbones.clip import Clip
from sglora_fed.backbones.minilm import DescriptionEncoder, MiniLM
from sglora_fed.backbones.types import DualEncoder
from sglora_fed.backbones.weights import resolve_checkpoint, resolve_minilm
from sglora_fed.config.schema import AdapterConfig, BackboneConfig

__all__ = ["DescriptionEncoder", "DualEncoder", "load_backbone", "load_describer"]

MINILM_SCALE = 20.0


@lru_cache(maxsize=2)
def load_backbone(backbone: BackboneConfig, adapter: AdapterConfig) -> DualEncoder:
    """The configured backbone, loaded once per process.

    Raises:
        BackboneMissingError, BackboneHashError: when the right weights are not to be had.
        LayoutError: when the adapter's layers or targets are not in the model.
    """
    device = _device(backbone.device)
    if backbone.name == "clip":
        folder = resolve_checkpoint(str(backbone.path), backbone.revision, backbone.sha256)
        return Clip(folder, adapter.targets, adapter.layers, backbone.scale, device)
    folder = resolve_minilm(backbone.path, backbone.revision, backbone.sha256)
    scale = MINILM_SCALE if backbone.scale is None else backbone.scale
    return MiniLM(folder, adapter.targets, adapter.layers, scale, device)


@lru_cache(maxsize=2)
def load_describer(backbone: BackboneConfig) -> DescriptionEncoder:
    """The description encoder: MiniLM on the CPU, whatever the backbone is."""
    if backbone.name == "clip":
        return DescriptionEncoder(resolve_minilm(None, None, None))
    return DescriptionEncoder(resolve_minilm(backbone.path, backbone.revision, backbone.sha256))


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)
