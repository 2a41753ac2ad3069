"""Any CLIP checkpoint as an image-text dual encoder (Radford et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPImageProcessorPil, CLIPModel

from sglora_fed.backbones.checkpoint import (
    adapted_names,
    chosen_layers,
    read_model,
    read_part,
    read_tokenizer,
)
from sglora_fed.backbones.clip_text import CHUNK, embed, tokenize
from sglora_fed.backbones.device import available_device
from sglora_fed.backbones.pictures import pixels_of
from sglora_fed.backbones.pixels import looked_up, value_table
from sglora_fed.backbones.quick_gelu import with_fused_activations
from sglora_fed.backbones.vision import first_token, through
from sglora_fed.backbones.weights import WEIGHTS_FILE, checkpoint_folder, weights_hash
from sglora_fed.cache import ByteCache
from sglora_fed.config.schema import AdapterConfig, BackboneConfig
from sglora_fed.errors import BackboneInputError
from sglora_fed.tasks.types import Item, Modality

CPU = torch.device("cpu")

TEXT_BYTES = 64_000_000
"""Budget of the texts' embeddings that are kept."""


def configured(backbone: BackboneConfig, adapter: AdapterConfig) -> Clip:
    """What ``backbone.name=clip`` means.

    Raises:
        SgloraError: as :func:`~sglora_fed.backbones.load_backbone`.
    """
    return Clip(
        checkpoint_folder(backbone),
        adapter.targets,
        adapter.layers,
        backbone.scale,
        available_device(backbone.device),
    )


class Clip:
    """A :class:`~sglora_fed.backbones.types.DualEncoder` in which items are image files.

    Adapters lie in the vision tower, as in the SG-LoRA paper; the text tower stays as it is.

    Args:
        folder: of the checkpoint.
        targets: ends of the adapted modules' names, in each adapted layer.
        layers: adapted layers of the vision tower; empty for all.
        scale: factor on cosines; None for the checkpoint's own.
        device: where it runs.

    Raises:
        BackboneFileError: when the files cannot be read as a CLIP checkpoint.
        LayoutError: for a layer or target that the model lacks.
    """

    modality: Modality = "image"

    def __init__(
        self,
        folder: Path,
        targets: Sequence[str] = ("q_proj", "k_proj", "v_proj"),
        layers: Sequence[int] = (),
        scale: float | None = None,
        device: torch.device = CPU,
    ) -> None:
        self._clip = read_model(CLIPModel, folder, device)
        with_fused_activations(self._clip)
        self._tokenizer = read_tokenizer(folder)
        self._processor = read_part(CLIPImageProcessorPil, folder)
        self.model: nn.Module = self._clip
        self.weights_sha256 = weights_hash(folder / WEIGHTS_FILE)
        self.scale = float(self._clip.logit_scale.exp()) if scale is None else scale
        self.device = device
        vision: Any = self._clip.config.vision_config
        self._side = int(vision.image_size)
        # Not the folder's name: a checkpoint that was moved is still the same backbone.
        self.id = f"clip-vit-patch{vision.patch_size}-{self._side}"
        self.dim = int(self._clip.config.projection_dim)
        self._longest = int(self._clip.config.text_config.max_position_embeddings)
        chosen = chosen_layers(layers, int(vision.num_hidden_layers))
        parents = [f"vision_model.encoder.layers.{layer}" for layer in chosen]
        self._adapted = adapted_names(self.model, parents, targets)
        # As modules are put in place of layers' parts, not of layers, these stay what they are.
        self._layers = list(self._clip.vision_model.encoder.layers)
        self._first = chosen[0]
        self._texts: ByteCache[Tensor] = ByteCache(TEXT_BYTES, lambda row: [row])

    def adaptable(self) -> tuple[str, ...]:
        """Full names: ``vision_model.encoder.layers.<i>`` and what ends in a target."""
        return self._adapted

    def prepare_items(self, items: Sequence[Item]) -> list[Tensor]:
        """Activations [tokens, width] below the first adapted layer, one tensor per image.

        Args:
            items: files, or arrays [height, width, 3] uint8.

        Raises:
            BackboneInputError: for a file that is no readable image, or another array.
        """
        prepared: list[Tensor] = []
        for start in range(0, len(items), CHUNK):
            pixels = self._pixels(items[start : start + CHUNK])
            # Copies, so that one image does not keep the whole chunk in memory.
            prepared += [row.clone() for row in self._below(pixels)]
        return prepared

    @torch.no_grad()
    def _below(self, pixels: Tensor) -> Tensor:
        tower = self._clip.vision_model
        hidden: Tensor = tower.pre_layrnorm(tower.embeddings(pixels))
        for layer in self._layers[: self._first]:
            hidden = layer(hidden, attention_mask=None)
        return hidden

    def prepare_texts(self, texts: Sequence[str]) -> list[Tensor]:
        """Unit embeddings [dim] of each text, cut at the model's length; recent ones are kept.

        No adapter lies in the text tower, so all of it is below the first adapted layer.

        Raises:
            BackboneInputError: for an empty text.
        """
        if empty := [index for index, text in enumerate(texts) if not text.strip()]:
            raise BackboneInputError(f"texts number {empty} are empty; each needs a character")
        known = {text: row for text in texts if (row := self._texts.get(text)) is not None}
        new = [text for text in dict.fromkeys(texts) if text not in known]
        for start in range(0, len(new), CHUNK):
            chunk = new[start : start + CHUNK]
            rows = tokenize(self._tokenizer, chunk, self._longest)
            embeddings = embed(self._clip, self._tokenizer, rows)
            for text, row in zip(chunk, embeddings, strict=True):
                known[text] = row.clone()
                self._texts.add(text, known[text])
        return [known[text] for text in texts]

    def encode_items(self, prepared: Sequence[Tensor], groups: int) -> Tensor:
        """[n, dim] unit rows through the vision tower and its projection, an image a row."""
        if not prepared:
            return torch.empty(0, self.dim, device=self.device)
        hidden = torch.stack(list(prepared))
        for layer in self._layers[self._first : -1]:
            hidden = through(layer, hidden)
        pooled = self._clip.vision_model.post_layernorm(first_token(self._layers[-1], hidden))
        return nn.functional.normalize(self._clip.visual_projection(pooled), dim=-1)

    def encode_texts(self, prepared: Sequence[Tensor], groups: int) -> Tensor:
        """[n, dim] unit rows, a text a row."""
        if not prepared:
            return torch.empty(0, self.dim, device=self.device)
        return torch.stack(list(prepared))

    def _pixels(self, items: Sequence[Item]) -> Tensor:
        """[n, 3, side, side] by the checkpoint's own preprocessor."""
        pictures = [pixels_of(item) for item in items]
        pixels = np.empty((len(items), 3, self._side, self._side), np.float32)
        own = [n for n, one in enumerate(pictures) if one.shape == (self._side, self._side, 3)]
        if self._table is None:
            own = []
        elif own:
            pixels[own] = looked_up(self._table, np.stack([pictures[n] for n in own]))
        if others := sorted(set(range(len(items))) - set(own)):
            pixels[others] = self._processed([(items[n], pictures[n]) for n in others])
        return torch.from_numpy(pixels).to(self.device)

    @cached_property
    def _table(self) -> np.ndarray | None:
        """What the preprocessor does to pictures of the model's size, where that is all it does."""
        return value_table(self._processor, self._side)

    def _processed(self, pictures: Sequence[tuple[Item, np.ndarray]]) -> np.ndarray:
        """[n, 3, side, side] of items and their pixels, of any size."""
        pixels = self._processor([Image.fromarray(own) for _, own in pictures])["pixel_values"]
        for (item, _), one in zip(pictures, pixels, strict=True):
            if one.shape != (3, self._side, self._side):
                raise BackboneInputError(
                    f"{item if isinstance(item, str) else 'a picture in memory'} became {one.shape}"
                    f" pixels; the model takes {self._side} x {self._side}:"
                    " preprocessor_config.json does not fit the checkpoint"
                )
        return np.stack(pixels)
