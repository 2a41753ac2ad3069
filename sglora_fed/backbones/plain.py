"""MiniLM in NumPy: what an edge node describes its task with, and measures a few texts with.

The weights are read a layer at a time (BERT: Devlin et al. 2019; mean pooling: Reimers & Gurevych
2019; why not torch: :mod:`~sglora_fed.backbones.arithmetic`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any, Self

import numpy as np

from sglora_fed.backbones.arithmetic import (
    Adapter,
    Linear,
    Weights,
    attended,
    gelu,
    near_gelu,
    opened,
)
from sglora_fed.backbones.reading import (
    MARKS,
    MINILM,
    MINILM_SCALE,
    MINILM_TOKENS,
    only_texts,
    tokenizer_of,
)
from sglora_fed.backbones.sentences import ENCODING, bag, described, unit
from sglora_fed.backbones.weights import WEIGHTS_FILE, weights_hash
from sglora_fed.errors import BackboneFileError, BackboneInputError
from sglora_fed.tasks.phrases import phrases
from sglora_fed.tasks.types import Item, Modality

ID = f"{MINILM}+{ENCODING}"
"""What :class:`~sglora_fed.backbones.minilm.DescriptionEncoder` calls itself: both make the same
numbers up to rounding."""

TOGETHER = 256
"""Tokens from which on more in one matrix product save nothing."""

MANY = 32
"""Texts from which on torch is worth its import: a catalogue is embedded once and then kept."""


class PlainBert:
    """The model, and what reads texts for it.

    Args:
        folder: of the checkpoint, with a ``tokenizer.json``.

    Raises:
        BackboneFileError: when the files cannot be read as a BERT checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / WEIGHTS_FILE
        self._tokenizer, config = _read(folder)
        self.dim = int(config["hidden_size"])
        self._heads = int(config["num_attention_heads"])
        self._layers = int(config["num_hidden_layers"])
        self._tiny = float(config["layer_norm_eps"])

    def read(self, texts: Sequence[str]) -> list[list[int]]:
        """Word pieces of each text, with the two marks at its ends.

        Raises:
            BackboneInputError: for a text without a word piece.
        """
        ids = [row.ids for row in self._tokenizer.encode_batch(list(texts))]
        # Numbers only: what a client wrote must not travel in a message.
        if empty := [place for place, row in enumerate(ids) if len(row) <= MARKS]:
            raise BackboneInputError(f"texts number {empty} are empty; each needs a character")
        return ids

    def encode(self, ids: Sequence[Sequence[int]]) -> np.ndarray:
        """[n, dim] float32 unit rows: the mean over each text's tokens.

        A text's numbers are the same to the last digit, whatever stands beside it.
        """
        return self._run([[row] for row in ids], gelu, None)

    def encode_many(self, ids: Sequence[Sequence[int]], adapter: Adapter | None) -> np.ndarray:
        """As :meth:`encode` up to rounding, in less time and with an adapter."""
        return self._run(_batches(ids), near_gelu, adapter)

    def _run(
        self, batches: Sequence[Sequence[Sequence[int]]], act: Linear, adapter: Adapter | None
    ) -> np.ndarray:
        lengths = [[len(row) for row in batch] for batch in batches]
        with opened(self.file) as file:
            weights = Weights(file, adapter)
            hidden = self._embedded(weights, batches)
            # Layer by layer for all texts: a layer's weights are in memory once, one at a time.
            for number in range(self._layers):
                layer = _Layer(weights, f"encoder.layer.{number}", self._heads, self._tiny, act)
                hidden = [layer(*batch) for batch in zip(hidden, lengths, strict=True)]
        means = [
            rows.mean(axis=0)
            for batch, sizes in zip(hidden, lengths, strict=True)
            for rows in _apart(batch, sizes)
        ]
        return unit(np.stack(means)) if means else np.empty((0, self.dim), np.float32)

    def _embedded(
        self, weights: Weights, batches: Sequence[Sequence[Sequence[int]]]
    ) -> list[np.ndarray]:
        """[tokens, dim] of each batch, text after text."""
        places = weights.array("embeddings.position_embeddings.weight")
        first = weights.rows("embeddings.token_type_embeddings.weight", [0])
        norm = weights.norm("embeddings.LayerNorm", self._tiny)
        return [
            norm(
                np.concatenate([_words(weights, row) + places[: len(row)] for row in batch]) + first
            )
            for batch in batches
        ]

    def bags(self, ids: Sequence[Sequence[int]]) -> np.ndarray:
        """[n, dim] float32 unit rows: the words without their context."""
        with opened(self.file) as file:
            return bag([_words(Weights(file), sorted(set(row[1:-1]))) for row in ids], self.dim)


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
        self._bert = PlainBert(folder)
        self.dim = self._bert.dim

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """[n, dim] float32 unit rows (:func:`~sglora_fed.backbones.sentences.described`).

        Raises:
            BackboneInputError: for a text without a word piece.
        """
        if len(texts) > MANY:
            from sglora_fed.backbones.minilm import DescriptionEncoder

            return DescriptionEncoder(self._bert.file.parent).encode(texts)
        parts = (part for text in texts for part in phrases(text))
        every = list(dict.fromkeys([*texts, *parts]))
        # A sentence and its words are of the same pieces, and a layer is read once for all.
        ids = dict(zip(every, self._bert.read(every), strict=True))
        rows = dict(zip(every, self._bert.encode(list(ids.values())), strict=True))

        def sentences(wanted: Sequence[str]) -> np.ndarray:
            found = [rows[text] for text in wanted]
            return np.stack(found) if found else np.empty((0, self.dim), np.float32)

        def words(wanted: Sequence[str]) -> np.ndarray:
            return self._bert.bags([ids[text] for text in wanted])

        return described(texts, sentences, words)


class PlainMiniLM:
    """MiniLM as a :class:`~sglora_fed.backbones.types.PlainEncoder`.

    Args:
        folder: of the checkpoint, with a ``tokenizer.json``.
        scale: factor on cosines.

    Raises:
        BackboneFileError: when the files cannot be read as a BERT checkpoint.
    """

    id = MINILM
    modality: Modality = "text"

    def __init__(self, folder: Path, scale: float = MINILM_SCALE) -> None:
        self._bert, self.scale = PlainBert(folder), scale
        self._adapter: Adapter | None = None

    def carrying(self, adapter: Adapter) -> Self:
        """The same model with an adapter."""
        made = copy(self)
        made._adapter = adapter
        return made

    def prepare_items(self, items: Sequence[Item]) -> list[np.ndarray]:
        """[tokens] word pieces of each text, with marks.

        Raises:
            BackboneInputError: for a text without a word piece, or a picture.
        """
        return [np.array(row) for row in self._bert.read(only_texts(items))]

    def prepare_texts(self, texts: Sequence[str]) -> list[np.ndarray]:
        """As items: both sides are texts."""
        return self.prepare_items(texts)

    def encode_items(self, prepared: Sequence[np.ndarray], groups: int) -> np.ndarray:
        """[n, dim] unit rows."""
        return self._bert.encode_many([row.tolist() for row in prepared], self._adapter)

    def encode_texts(self, prepared: Sequence[np.ndarray], groups: int) -> np.ndarray:
        """As items: both sides share the adapter."""
        return self.encode_items(prepared, groups)


class _Layer:
    """One layer of BERT."""

    def __init__(self, weights: Weights, name: str, heads: int, tiny: float, act: Linear) -> None:
        self._heads, self._act = heads, act
        looks = ("query", "key", "value")
        self._looks = [weights.linear(f"{name}.attention.self.{look}") for look in looks]
        self._looked = weights.linear(f"{name}.attention.output.dense")
        self._wide = weights.linear(f"{name}.intermediate.dense")
        self._narrow = weights.linear(f"{name}.output.dense")
        self._first = weights.norm(f"{name}.attention.output.LayerNorm", tiny)
        self._second = weights.norm(f"{name}.output.LayerNorm", tiny)

    def __call__(self, rows: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
        """[tokens, dim] of some texts of these lengths, one after another."""
        query, key, value = (_apart(look(rows), lengths) for look in self._looks)
        texts = zip(query, key, value, strict=True)
        mixed = [attended(q, k, v, self._heads) for q, k, v in texts]
        rows = self._first(rows + self._looked(np.concatenate(mixed)))
        return self._second(rows + self._narrow(self._act(self._wide(rows))))


def _apart(rows: np.ndarray, lengths: Sequence[int]) -> list[np.ndarray]:
    """Each text's own of rows that stand one after another."""
    return np.split(rows, np.cumsum(lengths)[:-1])


def _batches(ids: Sequence[Sequence[int]]) -> list[list[Sequence[int]]]:
    """Texts in their order, as many together as have ``TOGETHER`` tokens."""
    batches: list[list[Sequence[int]]] = []
    tokens = TOGETHER
    for row in ids:
        if tokens >= TOGETHER:
            batches.append([])
            tokens = 0
        batches[-1].append(row)
        tokens += len(row)
    return batches


def _words(weights: Weights, ids: Sequence[int]) -> np.ndarray:
    """[n, dim] of the table of word embeddings."""
    return weights.rows("embeddings.word_embeddings.weight", ids)


def _read(folder: Path) -> tuple[Any, dict[str, Any]]:
    """Tokeniser and configuration of a BERT with the one activation that is computed here."""
    try:
        config = dict(json.loads((folder / "config.json").read_bytes()))
        supported = (config["model_type"], config["hidden_act"]) == ("bert", "gelu")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BackboneFileError(
            f"{folder} cannot be read as a BERT checkpoint ({type(error).__name__}); fetch it again"
        ) from error
    if not supported:
        raise BackboneFileError(f"{folder} is no BERT with gelu; nodes describe with MiniLM")
    tokenizer = tokenizer_of(folder)
    tokenizer.enable_truncation(MINILM_TOKENS)
    tokenizer.no_padding()
    return tokenizer, config
