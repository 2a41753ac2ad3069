"""The adapters' layout that a configuration means."""

from __future__ import annotations

from sglora_fed.adapters.layout import Layout, layout_of
from sglora_fed.backbones import load_backbone
from sglora_fed.backbones.shapes import checkpoint_layout
from sglora_fed.config.schema import RunConfig


def run_layout(config: RunConfig) -> Layout:
    """The adapters' layout of a run; the model is loaded only where its checkpoint does not tell.

    Raises:
        SgloraError: as :func:`~sglora_fed.backbones.load_backbone`.
    """
    if (found := checkpoint_layout(config.backbone, config.adapter)) is not None:
        return found
    encoder = load_backbone(config.backbone, config.adapter)
    return layout_of(encoder.model, encoder.adaptable(), config.adapter.rank, config.adapter.alpha)
