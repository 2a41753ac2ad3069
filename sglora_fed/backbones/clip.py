"""Any CLIP checkpoint as an image-text dual encoder (Radford et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

from sglora_fed.backbones.weights import WEIGHTS_FILE, weights_hash
from sglora_fed.errors import BackboneInputError, BackboneMissingError, LayoutError

CPU = torch.device("cpu")

PIXEL_LIMIT = 50_000_000
"""Pixels of the largest image read: beyond it a small file can fill the memory."""


class Clip:
    """A :class:`~sglora_fed.backbones.types.DualEncoder` in which items are image files.

    Adapters lie in the vision tower's attention, as in the SG-LoRA paper.

    Args:
        folder: of the checkpoint.
        targets: names of the adapted modules in each layer's attention.
        layers: adapted layers; empty for all.
        scale: factor on cosines; None for the checkpoint's own.
        device: where it runs.

    Raises:
        BackboneMissingError: when the files cannot be read as a CLIP checkpoint.
        LayoutError: for a layer or target that the model lacks.
    """

    def __init__(
        self,
        folder: Path,
        targets: Sequence[str] = ("q_proj", "k_proj", "v_proj"),
        layers: Sequence[int] = (),
        scale: float | None = None,
        device: torch.device = CPU,
    ) -> None:
        self._clip: Any
        self._clip, self._tokenizer, self._processor = _load(folder)
        self._clip.train(False)
        self._clip.requires_grad_(False).to(device)
        self.model: nn.Module = self._clip
        self.id = f"clip:{self._clip.config.name_or_path or folder.name}".split("/")[-1]
        self.weights_sha256 = weights_hash(folder / WEIGHTS_FILE)
        self.scale = float(self._clip.logit_scale.exp()) if scale is None else scale
        config: Any = self._clip.config
        self.dim, self.device = int(config.projection_dim), device
        self._longest = int(config.text_config.max_position_embeddings)
        count = int(config.vision_config.num_hidden_layers)
        self._targets, self._layers = tuple(targets), tuple(sorted(layers) or range(count))
        if self._layers[-1] >= count:
            raise LayoutError(f"layer {self._layers[-1]}: the vision tower has 0-{count - 1}")

    def adaptable(self) -> tuple[str, ...]:
        """``vision_model.encoder.layers.<i>.self_attn.<target>``."""
        return tuple(
            f"vision_model.encoder.layers.{layer}.self_attn.{target}"
            for layer in self._layers
            for target in self._targets
        )

    def prepare_items(self, items: Sequence[str]) -> list[Tensor]:
        """Pixels [3, height, width] of each image file.

        Raises:
            BackboneInputError: for a file that is no readable image.
        """
        return [self._pixels(item) for item in items]

    def prepare_texts(self, texts: Sequence[str]) -> list[Tensor]:
        """Token ids [tokens] of each text, cut at the model's length.

        Raises:
            BackboneInputError: for an empty text.
        """
        if any(not text.strip() for text in texts):
            raise BackboneInputError("a text is empty; it needs a character")
        ids = self._tokenizer(list(texts), truncation=True, max_length=self._longest)["input_ids"]
        return [torch.tensor(row, device=self.device) for row in ids]

    def encode_items(self, prepared: Sequence[Tensor]) -> Tensor:
        """[n, dim] unit rows through the vision tower and its projection."""
        pooled = self._clip.vision_model(torch.stack(list(prepared))).pooler_output
        return F.normalize(self._clip.visual_projection(pooled), dim=-1)

    def encode_texts(self, prepared: Sequence[Tensor]) -> Tensor:
        """[n, dim] unit rows through the text tower and its projection."""
        padding = int(self._tokenizer.pad_token_id or 0)
        ids = nn.utils.rnn.pad_sequence(list(prepared), batch_first=True, padding_value=padding)
        lengths = torch.tensor([len(row) for row in prepared], device=ids.device)
        mask = torch.arange(ids.shape[1], device=ids.device)[None] < lengths[:, None]
        pooled = self._clip.text_model(ids, attention_mask=mask.long()).pooler_output
        return F.normalize(self._clip.text_projection(pooled), dim=-1)

    def _pixels(self, path: str) -> Tensor:
        try:
            with Image.open(path) as image:
                if image.width * image.height > PIXEL_LIMIT:
                    raise BackboneInputError(f"{path}: more than {PIXEL_LIMIT} pixels")
                pixels = self._processor(image.convert("RGB"), return_tensors="np")["pixel_values"]
        except (OSError, UnidentifiedImageError) as error:
            raise BackboneInputError(f"{path} is no readable image") from error
        return torch.from_numpy(np.asarray(pixels[0], np.float32)).to(self.device)


def _load(folder: Path) -> tuple[CLIPModel, Any, Any]:
    try:
        model = CLIPModel.from_pretrained(folder, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        processor = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise BackboneMissingError(
            f"{folder} is no CLIP checkpoint: {type(error).__name__}"
        ) from error
    return model, tokenizer, processor
