"""Any CLIP checkpoint as an image-text dual encoder (Radford et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence
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
from sglora_fed.backbones.device import available_device
from sglora_fed.backbones.pictures import read_picture
from sglora_fed.backbones.weights import WEIGHTS_FILE, checkpoint_folder, weights_hash
from sglora_fed.config.schema import AdapterConfig, BackboneConfig
from sglora_fed.errors import BackboneInputError
from sglora_fed.tasks.types import Item, Modality

CPU = torch.device("cpu")


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

    def adaptable(self) -> tuple[str, ...]:
        """Full names: ``vision_model.encoder.layers.<i>`` and what ends in a target."""
        return self._adapted

    def prepare_items(self, items: Sequence[Item]) -> list[Tensor]:
        """Pixels [3, height, width] of each image: a file, or an array [height, width, 3] uint8.

        Raises:
            BackboneInputError: for a file that is no readable image, or another array.
        """
        return [self._pixels(item) for item in items]

    def prepare_texts(self, texts: Sequence[str]) -> list[Tensor]:
        """Token ids [tokens] of each text, cut at the model's length.

        Raises:
            BackboneInputError: for an empty text.
        """
        if empty := [index for index, text in enumerate(texts) if not text.strip()]:
            raise BackboneInputError(f"texts number {empty} are empty; each needs a character")
        if not texts:
            return []
        ids = self._tokenizer(list(texts), truncation=True, max_length=self._longest)["input_ids"]
        return [torch.tensor(row, device=self.device) for row in ids]

    def encode_items(self, prepared: Sequence[Tensor], groups: int) -> Tensor:
        """[n, dim] unit rows through the vision tower and its projection, an image a row."""
        if not prepared:
            return torch.empty(0, self.dim, device=self.device)
        pooled = self._clip.vision_model(torch.stack(list(prepared))).pooler_output
        return nn.functional.normalize(self._clip.visual_projection(pooled), dim=-1)

    def encode_texts(self, prepared: Sequence[Tensor], groups: int) -> Tensor:
        """[n, dim] unit rows through the text tower and its projection, a text a row."""
        if not prepared:
            return torch.empty(0, self.dim, device=self.device)
        padding = int(self._tokenizer.pad_token_id or 0)
        ids = nn.utils.rnn.pad_sequence(list(prepared), batch_first=True, padding_value=padding)
        # No mask: the tower is causal and reads a text at its end mark, before any padding.
        pooled = self._clip.text_model(ids).pooler_output
        return nn.functional.normalize(self._clip.text_projection(pooled), dim=-1)

    def _pixels(self, item: Item) -> Tensor:
        picture = read_picture(item) if isinstance(item, str) else _in_memory(item)
        pixels = self._processor(picture, return_tensors="np")["pixel_values"][0]
        if pixels.shape != (3, self._side, self._side):
            raise BackboneInputError(
                f"{item if isinstance(item, str) else 'a picture in memory'} became {pixels.shape}"
                f" pixels; the model takes {self._side} x {self._side}:"
                " preprocessor_config.json does not fit the checkpoint"
            )
        return torch.from_numpy(np.asarray(pixels, np.float32)).to(self.device)


def _in_memory(pixels: np.ndarray) -> Image.Image:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size or pixels.dtype != np.uint8:
        raise BackboneInputError(
            f"a picture in memory is {pixels.dtype} {list(pixels.shape)};"
            " need [height, width, 3] uint8"
        )
    return Image.fromarray(pixels)
