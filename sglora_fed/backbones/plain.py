"""MiniLM as NumPy arithmetic: what an edge node describes its task with.

Flower starts a process for every message. To import torch and transformers, and to load the model
with them, takes seconds of CPU and hundreds of megabytes; the arithmetic of one sentence takes
hundredths of a second. So a node reads the weights a layer at a time and multiplies them itself
(BERT: Devlin et al. 2019; mean pooling: Reimers & Gurevych 2019).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer

from sglora_fed.backbones.reading import MARKS, MINILM_TOKENS, TOKENIZER_FILE
from sglora_fed.backbones.sentences import ENCODING, bag, described, unit
from sglora_fed.backbones.weights import WEIGHTS_FILE, weights_hash
from sglora_fed.errors import BackboneFileError, BackboneInputError

ID = f"all-MiniLM-L6-v2+{ENCODING}"
"""What :class:`~sglora_fed.backbones.minilm.DescriptionEncoder` calls itself: both make the same
numbers up to rounding."""

MANY = 32
"""Texts from which on torch is worth its import: a catalogue is embedded once and then kept."""

Made = TypeVar("Made")

_LOOKS = ("query", "key", "value")
_ERF = np.frompyfunc(math.erf, 1, 1)


class PlainDescriber:
    """MiniLM as a :class:`~sglora_fed.backbones.types.Describer`, in NumPy.

    Args:
        folder: of the checkpoint, with a ``tokenizer.json``.

    Raises:
        BackboneFileError: when the files cannot be read as a BERT checkpoint.
    """

    id = ID

    def __init__(self, folder: Path) -> None:
        self.weights_sha256 = weights_hash(folder / WEIGHTS_FILE)
        self.fingerprint = f"{self.id}:{self.weights_sha256}"
        self._weights = folder / WEIGHTS_FILE
        self._tokenizer, config = _read(folder)
        self.dim = int(config["hidden_size"])
        self._heads = int(config["num_attention_heads"])
        self._layers = int(config["num_hidden_layers"])
        self._tiny = float(config["layer_norm_eps"])

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """[n, dim] float32 unit rows (:func:`~sglora_fed.backbones.sentences.described`).

        Raises:
            BackboneInputError: for a text without a word piece.
        """
        if len(texts) > MANY:
            from sglora_fed.backbones.minilm import DescriptionEncoder

            return DescriptionEncoder(self._weights.parent).encode(texts)
        return described(texts, self._sentences, self._words)

    def _sentences(self, texts: Sequence[str]) -> np.ndarray:
        """[n, dim] float32 unit rows: the mean over each text's tokens."""
        if not texts:
            return np.empty((0, self.dim), np.float32)
        ids = self._ids(texts)
        return self._from_file(lambda file: self._forward(file, ids))

    def _words(self, texts: Sequence[str]) -> np.ndarray:
        """[n, dim] float32 unit rows: the words without their context."""
        pieces = [sorted(set(row[1:-1])) for row in self._ids(texts)]
        return bag(self._from_file(lambda file: [_rows(file, row) for row in pieces]), self.dim)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        ids = [row.ids for row in self._tokenizer.encode_batch(list(texts))]
        # Numbers only: what a client wrote must not travel in a message.
        if empty := [place for place, row in enumerate(ids) if len(row) <= MARKS]:
            raise BackboneInputError(f"texts number {empty} are empty; each needs a character")
        return ids

    def _from_file(self, made: Callable[[Any], Made]) -> Made:
        try:
            with safe_open(self._weights, "np") as file:
                return made(file)
        except (OSError, SafetensorError) as error:
            raise BackboneFileError(
                f"{self._weights} is no BERT checkpoint ({type(error).__name__}); fetch it again"
            ) from error

    def _forward(self, file: Any, ids: Sequence[Sequence[int]]) -> np.ndarray:
        hidden = [self._embedded(file, row) for row in ids]
        # Layer by layer for all texts: a layer's weights are in memory once, and one at a time.
        for number in range(self._layers):
            layer = _Layer(file, f"encoder.layer.{number}", self._heads, self._tiny)
            hidden = [layer(rows) for rows in hidden]
        return unit(np.stack([rows.mean(axis=0) for rows in hidden]))

    def _embedded(self, file: Any, ids: Sequence[int]) -> np.ndarray:
        """[tokens, dim] of one text."""
        rows = _rows(file, ids)
        rows = rows + file.get_tensor("embeddings.position_embeddings.weight")[: len(ids)]
        rows = rows + file.get_tensor("embeddings.token_type_embeddings.weight")[0]
        return _normed(rows, file, "embeddings.LayerNorm", self._tiny)


def _rows(file: Any, ids: Sequence[int]) -> np.ndarray:
    """[n, dim] of the table of word embeddings; no other row is read."""
    table = file.get_slice("embeddings.word_embeddings.weight")
    return np.concatenate([table[word : word + 1] for word in ids])


class _Layer:
    """One layer of BERT."""

    def __init__(self, file: Any, name: str, heads: int, tiny: float) -> None:
        self._file, self._name, self._heads, self._tiny = file, name, heads, tiny
        dense = [f"attention.self.{look}" for look in _LOOKS]
        dense += ["attention.output.dense", "intermediate.dense", "output.dense"]
        self._dense = {end: _dense(file, f"{name}.{end}") for end in dense}

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """[tokens, dim] of one text."""
        looked = self._linear("attention.output.dense", self._attention(rows))
        rows = self._norm("attention.output", rows + looked)
        wide = self._linear("intermediate.dense", rows)
        wide = wide * (1 + np.asarray(_ERF(wide / math.sqrt(2)), np.float32)) / 2
        return self._norm("output", rows + self._linear("output.dense", wide))

    def _attention(self, rows: np.ndarray) -> np.ndarray:
        """Every token looks at all tokens (Vaswani et al. 2017, eq. 1)."""
        query, key, value = (self._split(f"attention.self.{n}", rows) for n in _LOOKS)
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1])
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = weights / weights.sum(axis=-1, keepdims=True) @ value
        joined: np.ndarray = mixed.transpose(1, 0, 2).reshape(rows.shape)
        return joined

    def _split(self, end: str, rows: np.ndarray) -> np.ndarray:
        """[heads, tokens, dim / heads]."""
        made = self._linear(end, rows)
        split: np.ndarray = made.reshape(len(rows), self._heads, -1).transpose(1, 0, 2)
        return split

    def _linear(self, end: str, rows: np.ndarray) -> np.ndarray:
        weight, bias = self._dense[end]
        made: np.ndarray = rows @ weight.T + bias
        return made

    def _norm(self, end: str, rows: np.ndarray) -> np.ndarray:
        return _normed(rows, self._file, f"{self._name}.{end}.LayerNorm", self._tiny)


def _dense(file: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    return file.get_tensor(f"{name}.weight"), file.get_tensor(f"{name}.bias")


def _normed(rows: np.ndarray, file: Any, name: str, tiny: float) -> np.ndarray:
    scale, shift = _dense(file, name)
    centred = rows - rows.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    made: np.ndarray = centred / np.sqrt(variance + tiny) * scale + shift
    return made


def _read(folder: Path) -> tuple[Any, dict[str, Any]]:
    """Tokeniser and configuration of a BERT with the one activation that is computed here."""
    try:
        config = dict(json.loads((folder / "config.json").read_bytes()))
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
        supported = (config["model_type"], config["hidden_act"]) == ("bert", "gelu")
    # The tokenizers library raises no class of its own.
    except Exception as error:
        raise BackboneFileError(
            f"{folder} cannot be read as a BERT checkpoint ({type(error).__name__}); fetch it again"
        ) from error
    if not supported:
        raise BackboneFileError(f"{folder} is no BERT with gelu; nodes describe with MiniLM")
    tokenizer.enable_truncation(MINILM_TOKENS)
    tokenizer.no_padding()
    return tokenizer, config
