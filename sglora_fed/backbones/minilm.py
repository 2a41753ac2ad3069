"""all-MiniLM-L6-v2 as a text-text dual encoder (Reimers & Gurevych 2019: mean pooling)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoTokenizer, BertModel
from transformers.utils.logging import disable_progress_bar

from sglora_fed.backbones.weights import WEIGHTS_FILE, weights_hash
from sglora_fed.errors import BackboneInputError, BackboneMissingError, LayoutError

MAX_TOKENS = 256
"""Word pieces the model was trained for; longer texts are cut."""

PREPARE_BATCH = 64

CPU = torch.device("cpu")


@lru_cache(maxsize=2)
def load_bert(folder: Path, device: torch.device) -> tuple[BertModel, Any]:
    """The frozen model and its tokenizer, once per process.

    Raises:
        BackboneMissingError: when the files cannot be read as a BERT checkpoint.
    """
    disable_progress_bar()
    try:
        model: Any = BertModel.from_pretrained(folder, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, SafetensorError) as error:
        raise BackboneMissingError(
            f"{folder} is no BERT checkpoint: {type(error).__name__}"
        ) from error
    model.train(False)
    return model.requires_grad_(False).to(device), tokenizer


class MiniLM:
    """A :class:`~sglora_fed.backbones.types.DualEncoder` in which items are texts.

    Args:
        folder: of the checkpoint.
        targets: names of the adapted modules in each layer's self-attention.
        layers: adapted layers; empty for all.
        scale: factor on cosines.
        device: where it runs.

    Raises:
        LayoutError: for a layer or target that the model lacks.
    """

    id = "all-MiniLM-L6-v2"

    def __init__(
        self,
        folder: Path,
        targets: Sequence[str] = ("query", "value"),
        layers: Sequence[int] = (),
        scale: float = 20.0,
        device: torch.device = CPU,
    ) -> None:
        self.model: nn.Module
        self._bert, self._tokenizer = load_bert(folder, device)
        self.model = self._bert
        self.weights_sha256 = weights_hash(folder / WEIGHTS_FILE)
        self.scale, self.device = scale, device
        self.dim = int(self._bert.config.hidden_size)
        self._count = int(self._bert.config.num_hidden_layers)
        self._targets, self._layers = tuple(targets), tuple(sorted(layers) or range(self._count))
        if self._layers[-1] >= self._count:
            raise LayoutError(f"layer {self._layers[-1]}: the model has layers 0-{self._count - 1}")
        for name in self.adaptable():
            _linear(self._bert, name)

    def adaptable(self) -> tuple[str, ...]:
        """``encoder.layer.<i>.attention.self.<target>`` for each adapted layer and target."""
        return tuple(
            f"encoder.layer.{layer}.attention.self.{target}"
            for layer in self._layers
            for target in self._targets
        )

    @torch.no_grad()
    def prepare_items(self, items: Sequence[str]) -> list[Tensor]:
        """Activations [tokens, hidden] below the first adapted layer, one tensor per text.

        Raises:
            BackboneInputError: for an empty text.
        """
        if empty := [i for i, text in enumerate(items) if not text.strip()]:
            raise BackboneInputError(f"texts number {empty} are empty; a text needs a character")
        # The tokenizer's length warning would print nothing useful: longer texts are cut.
        ids = self._tokenizer(list(items), truncation=True, max_length=MAX_TOKENS)["input_ids"]
        prepared: list[Tensor] = [torch.empty(0)] * len(ids)
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        for start in range(0, len(order), PREPARE_BATCH):
            chunk = order[start : start + PREPARE_BATCH]
            hidden = self._below([torch.tensor(ids[i], device=self.device) for i in chunk])
            for row, index in zip(hidden, chunk, strict=True):
                prepared[index] = row[: len(ids[index])].clone()
        return prepared

    def prepare_texts(self, texts: Sequence[str]) -> list[Tensor]:
        """As items: both sides are texts."""
        return self.prepare_items(texts) if texts else []

    def encode_items(self, prepared: Sequence[Tensor]) -> Tensor:
        """[n, dim] unit rows: the adapted layers, then the mean over tokens."""
        hidden, mask = _pad(prepared)
        hidden = self._run(hidden, mask, range(self._layers[0], self._count))
        if mask is None:
            return F.normalize(hidden.mean(dim=1), dim=-1)
        weights = mask.to(hidden.dtype).unsqueeze(-1)
        return F.normalize((hidden * weights).sum(dim=1) / weights.sum(dim=1), dim=-1)

    def encode_texts(self, prepared: Sequence[Tensor]) -> Tensor:
        """As items: both sides share the adapters."""
        return self.encode_items(prepared)

    def _below(self, ids: list[Tensor]) -> Tensor:
        embedded, mask = _pad([self._bert.embeddings(row.unsqueeze(0))[0] for row in ids])
        return self._run(embedded, mask, range(self._layers[0]))

    def _run(self, hidden: Tensor, mask: Tensor | None, layers: range) -> Tensor:
        allowed = None if mask is None else mask[:, None, None, :]
        for index in layers:
            hidden = self._bert.encoder.layer[index](hidden, allowed)
        return hidden


class DescriptionEncoder:
    """The bare MiniLM that embeds descriptions on the client; it never carries an adapter.

    Args:
        folder: of the checkpoint.
    """

    id = MiniLM.id

    def __init__(self, folder: Path) -> None:
        self._encoder = MiniLM(folder)
        self.dim = self._encoder.dim

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Any:
        """[n, dim] float32 unit rows.

        Raises:
            BackboneInputError: for an empty text.
        """
        prepared = self._encoder.prepare_texts(texts)
        return self._encoder.encode_texts(prepared).numpy()


def _pad(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """[n, longest, hidden] and the mask of true tokens; no mask when all are equally long."""
    lengths = [row.shape[0] for row in rows]
    if min(lengths) == max(lengths):
        return torch.stack(list(rows)), None
    padded = nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    positions = torch.arange(max(lengths), device=padded.device)
    return padded, positions[None] < torch.tensor(lengths, device=padded.device)[:, None]


def _linear(model: nn.Module, name: str) -> nn.Linear:
    try:
        module = model.get_submodule(name)
    except AttributeError:
        raise LayoutError(f"the model has no module {name!r}; check adapter.targets") from None
    if not isinstance(module, nn.Linear):
        raise LayoutError(f"{name!r} is a {type(module).__name__}; adapters need a linear module")
    return module
