"""Which linear modules of a checkpoint carry adapters, from its header alone: no model, no torch.

A node that only adopts checks an adapter against these shapes, and never loads the model.
"""

from __future__ import annotations

import re
from pathlib import Path

from safetensors import SafetensorError, safe_open

from sglora_fed.adapters.layout import Layout, ModuleShape
from sglora_fed.backbones.weights import WEIGHTS_FILE, checkpoint_folder
from sglora_fed.config.schema import AdapterConfig, BackboneConfig
from sglora_fed.errors import BackboneFileError, LayoutError

LAYERS = {"minilm": "encoder.layer", "clip": "vision_model.encoder.layers"}
"""Backbone -> what its adapted layers are called in front of their number."""


def checkpoint_layout(backbone: BackboneConfig, adapter: AdapterConfig) -> Layout | None:
    """The layout of a run's adapters, as :func:`~sglora_fed.adapters.layout.layout_of` finds it.

    Returns:
        None for a backbone of somebody's own: only its model knows.

    Raises:
        BackboneMissingError: when the weights are nowhere to be found.
        BackboneHashError: when the weights found are others.
        BackboneFileError: when the file cannot be read.
        LayoutError: when the adapter's layers or targets are not in the checkpoint.
    """
    if backbone.name not in LAYERS:
        return None
    path = checkpoint_folder(backbone) / WEIGHTS_FILE
    shapes = _linear_shapes(path, LAYERS[backbone.name])
    count = 1 + max((number for number, _ in shapes), default=-1)
    if unknown := [layer for layer in adapter.layers if layer >= count]:
        raise LayoutError(f"adapter.layers={unknown}: the model has layers 0 to {count - 1}")
    found: list[ModuleShape] = []
    for layer in sorted(adapter.layers) or range(count):
        for target in adapter.targets:
            new = [s for (number, _), s in shapes.items() if number == layer and _ends(s, target)]
            if not new:
                raise LayoutError(
                    f"layer {layer} of {path} has no linear module {target!r}; check"
                    " adapter.targets"
                )
            found += [shape for shape in new if shape not in found]
    return Layout(tuple(found), adapter.rank, adapter.alpha)


def _ends(shape: ModuleShape, target: str) -> bool:
    return shape.name.endswith(f".{target}")


def _linear_shapes(path: Path, layers: str) -> dict[tuple[int, str], ModuleShape]:
    """(Layer, name in it) -> shape, in the order of the names: all matrices of these layers."""
    pattern = re.compile(rf"(?:.*\.)?({re.escape(layers)}\.(\d+)\.(.+))\.weight")
    try:
        with safe_open(path, "np") as file:
            sizes = {name: file.get_slice(name).get_shape() for name in sorted(file.keys())}
    except (OSError, SafetensorError) as error:
        raise BackboneFileError(f"{path} cannot be read ({type(error).__name__})") from error
    matches = [(pattern.fullmatch(name), size) for name, size in sizes.items()]
    return {
        (int(match[2]), match[3]): ModuleShape(match[1], size[1], size[0])
        for match, size in matches
        if match and len(size) == 2
    }
