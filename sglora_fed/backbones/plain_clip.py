"""CLIP in NumPy (Radford et al. 2021): what an edge node measures a few pictures with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Self

import numpy as np

from sglora_fed.backbones.arithmetic import (
    ACTIVATIONS,
    Adapter,
    Linear,
    Weights,
    attended,
    opened,
)
from sglora_fed.backbones.pictures import pixels_of
from sglora_fed.backbones.plain_pictures import Preprocessing, preprocessing
from sglora_fed.backbones.reading import TOKENIZER_FILE, tokenizer_of
from sglora_fed.backbones.sentences import unit
from sglora_fed.backbones.weights import WEIGHTS_FILE
from sglora_fed.errors import BackboneInputError
from sglora_fed.tasks.types import Item, Modality

CHUNK = 32
"""Pictures that go through the vision tower together."""

TOWER = ("hidden_act", "hidden_size", "layer_norm_eps", "num_attention_heads", "num_hidden_layers")
TEXT = (*TOWER, "max_position_embeddings", "eos_token_id")
VISION = (*TOWER, "image_size", "patch_size")
"""What is read from each part of config.json."""

OLD_END = 2
"""``eos_token_id`` of older checkpoints, which is not their end mark: that has the largest id."""


class PlainClip:
    """A :class:`~sglora_fed.backbones.types.PlainEncoder` in which items are image files.

    Args:
        folder: of the checkpoint.
        config: its config.json.
        prepared: its preprocessing.
        scale: factor on cosines; None for the checkpoint's own.

    Raises:
        BackboneFileError: when tokeniser or weights cannot be read.
    """

    modality: Modality = "image"

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        prepared: Preprocessing,
        scale: float | None = None,
    ) -> None:
        self._file, self._preprocessing = folder / WEIGHTS_FILE, prepared
        self._text, self._vision = config["text_config"], config["vision_config"]
        self._tokenizer = tokenizer_of(folder)
        self._tokenizer.enable_truncation(int(self._text["max_position_embeddings"]))
        self._tokenizer.no_padding()
        self.id = f"clip-vit-patch{self._vision['patch_size']}-{self._vision['image_size']}"
        if scale is None:
            with opened(self._file) as file:
                scale = float(np.exp(Weights(file).array("logit_scale")))
        self.scale = scale
        self._adapter: Adapter | None = None

    def carrying(self, adapter: Adapter) -> Self:
        """The same model with an adapter."""
        made = copy(self)
        made._adapter = adapter
        return made

    def prepare_items(self, items: Sequence[Item]) -> list[np.ndarray]:
        """[side, side, 3] uint8 of each picture, the part of it that the model sees.

        Raises:
            BackboneInputError: for a file that is no readable image, or another array.
        """
        return [self._preprocessing.middle(pixels_of(item)) for item in items]

    def prepare_texts(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Unit embeddings [dim] of each text, cut at the model's length; no adapter reaches them.

        Raises:
            BackboneInputError: for an empty text.
        """
        if empty := [index for index, text in enumerate(texts) if not text.strip()]:
            raise BackboneInputError(f"texts number {empty} are empty; each needs a character")
        every = list(dict.fromkeys(texts))
        ids = [row.ids for row in self._tokenizer.encode_batch(every)]
        rows = dict(zip(every, self._read(ids), strict=True))
        return [rows[text] for text in texts]

    def _read(self, ids: Sequence[Sequence[int]]) -> np.ndarray:
        with opened(self._file) as file:
            weights = Weights(file)
            places = weights.array("text_model.embeddings.position_embedding.weight")
            words = "text_model.embeddings.token_embedding.weight"
            hidden = [weights.rows(words, row) + places[: len(row)] for row in ids]
            for layer in _layers(weights, "text_model", self._text, causal=True):
                hidden = [layer(rows) for rows in hidden]
            norm = weights.norm("text_model.final_layer_norm", self._text["layer_norm_eps"])
            ends = [rows[self._end(row)] for rows, row in zip(hidden, ids, strict=True)]
            return unit(norm(np.stack(ends)) @ weights.array("text_projection.weight").T)

    def _end(self, ids: Sequence[int]) -> int:
        """Where a text is read: at its first end mark."""
        end = int(self._text["eos_token_id"])
        if end == OLD_END:
            return ids.index(max(ids))
        return ids.index(end) if end in ids else 0

    def encode_items(self, prepared: Sequence[np.ndarray], groups: int) -> np.ndarray:
        """[n, dim] unit rows through the vision tower and its projection, an image a row."""
        chunks = [prepared[start : start + CHUNK] for start in range(0, len(prepared), CHUNK)]
        rows = [self._seen(self._preprocessing.values(np.stack(chunk))) for chunk in chunks]
        return np.concatenate(rows)

    def _seen(self, pixels: np.ndarray) -> np.ndarray:
        name, tiny = "vision_model", self._vision["layer_norm_eps"]
        with opened(self._file) as file:
            weights = Weights(file, self._adapter)
            hidden = self._patches(weights, pixels)
            hidden = weights.norm(f"{name}.pre_layrnorm", tiny)(hidden)
            for layer in _layers(weights, name, self._vision):
                hidden = layer(hidden)
            pooled = weights.norm(f"{name}.post_layernorm", tiny)(hidden[:, 0])
            return unit(pooled @ weights.array("visual_projection.weight").T)

    def _patches(self, weights: Weights, pixels: np.ndarray) -> np.ndarray:
        """[n, 1 + patches, width] the class token and each patch, at their places."""
        name, size = "vision_model.embeddings", int(self._vision["patch_size"])
        count, side, _, colours = pixels.shape
        steps = side // size
        # [n, row, column, colour, y, x]: the convolution has a stride as large as its kernel.
        cut = pixels.reshape(count, steps, size, steps, size, colours).transpose(0, 1, 3, 5, 2, 4)
        kernel = weights.array(f"{name}.patch_embedding.weight")
        patches = cut.reshape(count, steps * steps, -1) @ kernel.reshape(len(kernel), -1).T
        first = weights.array(f"{name}.class_embedding")
        tokens = np.concatenate([np.tile(first, (count, 1, 1)), patches], axis=1)
        made: np.ndarray = tokens + weights.array(f"{name}.position_embedding.weight")
        return made

    def encode_texts(self, prepared: Sequence[np.ndarray], groups: int) -> np.ndarray:
        """[n, dim] unit rows, a text a row."""
        return np.stack(list(prepared))


def plain_clip(folder: Path, scale: float | None) -> PlainClip | None:
    """A checkpoint in NumPy, where its files say all that is needed; else torch must read it.

    Args:
        folder: of the checkpoint.
        scale: factor on cosines; None for the checkpoint's own.

    Raises:
        BackboneFileError: when tokeniser or weights cannot be read.
    """
    try:
        config = json.loads((folder / "config.json").read_bytes())
        text, vision = config["text_config"], config["vision_config"]
        told = all(key in text for key in TEXT) and all(key in vision for key in VISION)
        acts = {text.get("hidden_act"), vision.get("hidden_act")}
        prepared = preprocessing(folder, vision.get("image_size"))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    if not told or not acts <= set(ACTIVATIONS) or prepared is None:
        return None
    if not (folder / TOKENIZER_FILE).is_file():
        return None
    return PlainClip(folder, config, prepared, scale)


class _Layer:
    """One layer of a tower."""

    def __init__(
        self, weights: Weights, name: str, config: Mapping[str, Any], causal: bool
    ) -> None:
        self._heads, self._causal = int(config["num_attention_heads"]), causal
        looks = ("q_proj", "k_proj", "v_proj")
        self._looks = [weights.linear(f"{name}.self_attn.{look}") for look in looks]
        self._looked = weights.linear(f"{name}.self_attn.out_proj")
        self._wide, self._narrow = (weights.linear(f"{name}.mlp.fc{n}") for n in (1, 2))
        tiny = config["layer_norm_eps"]
        self._first, self._second = (weights.norm(f"{name}.layer_norm{n}", tiny) for n in (1, 2))
        self._act: Linear = ACTIVATIONS[config["hidden_act"]]

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """[..., tokens, width]."""
        normed = self._first(rows)
        query, key, value = (look(normed) for look in self._looks)
        rows = rows + self._looked(attended(query, key, value, self._heads, self._causal))
        made: np.ndarray = rows + self._narrow(self._act(self._wide(self._second(rows))))
        return made


def _layers(
    weights: Weights, name: str, config: Mapping[str, Any], causal: bool = False
) -> Iterator[_Layer]:
    """A tower's layers, each read when it is its turn."""
    for number in range(int(config["num_hidden_layers"])):
        yield _Layer(weights, f"{name}.encoder.layers.{number}", config, causal)
