"""CLIP's text tower alone: it embeds candidate texts and, as in the SG-LoRA paper, descriptions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import CLIPModel

from sglora_fed.backbones.checkpoint import read_model, read_tokenizer
from sglora_fed.backbones.reading import MARKS, text_length
from sglora_fed.backbones.weights import WEIGHTS_FILE, weights_hash
from sglora_fed.errors import BackboneInputError

CHUNK = 128
"""Images or texts that run together through what carries no adapters."""


class ClipDescriptionEncoder:
    """A :class:`~sglora_fed.backbones.types.Describer` that reads each description as a whole.

    It runs on the CPU, beside a backbone of the same checkpoint.

    Args:
        folder: of the checkpoint.

    Raises:
        BackboneFileError: when the files cannot be read as a CLIP checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        # CLIPTextModelWithProjection takes the embedding's size from where checkpoints lack it.
        self._model = read_model(CLIPModel, folder, torch.device("cpu"))
        del self._model.vision_model
        self._tokenizer = read_tokenizer(folder)
        self._longest = text_length(folder)
        self.id = f"clip-text-{self._model.config.text_config.num_hidden_layers}-layers"
        self.weights_sha256 = weights_hash(folder / WEIGHTS_FILE)
        self.fingerprint = f"{self.id}:{self.weights_sha256}"
        self.dim = int(self._model.config.projection_dim)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """[n, dim] float32 unit rows, each text cut at the model's length.

        Raises:
            BackboneInputError: for a text without a word piece.
        """
        rows = tokenize(self._tokenizer, texts, self._longest)
        # Numbers only: what a client wrote must not travel in a message.
        if empty := [number for number, row in enumerate(rows) if len(row) <= MARKS]:
            raise BackboneInputError(
                f"texts number {empty} are empty; each needs a visible character"
            )
        made = np.empty((len(rows), self.dim), np.float32)
        for start in range(0, len(rows), CHUNK):
            chunk = slice(start, start + CHUNK)
            made[chunk] = embed(self._model, self._tokenizer, rows[chunk]).numpy()
        return made


def tokenize(tokenizer: Any, texts: Sequence[str], longest: int) -> list[list[int]]:
    """Token ids of each text with its two marks, at most ``longest`` of them."""
    if not texts:
        return []
    rows: list[list[int]] = tokenizer(list(texts), truncation=True, max_length=longest)["input_ids"]
    return rows


@torch.no_grad()
def embed(model: Any, tokenizer: Any, rows: Sequence[Sequence[int]]) -> Tensor:
    """[n, dim] unit rows by the text tower and projection of a CLIP model, on the model's device.

    Args:
        model: has ``text_model`` and ``text_projection``.
        tokenizer: whose mark fills up shorter rows.
        rows: at least one, from :func:`tokenize`.
    """
    padding = int(tokenizer.pad_token_id or 0)
    ids = nn.utils.rnn.pad_sequence(
        [torch.tensor(row) for row in rows], batch_first=True, padding_value=padding
    )
    # No mask: the tower is causal and reads a text at its end mark, before any padding.
    pooled = model.text_model(ids.to(model.device)).pooler_output
    return nn.functional.normalize(model.text_projection(pooled), dim=-1)
