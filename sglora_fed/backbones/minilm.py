"""all-MiniLM-L6-v2 as a text-text dual encoder (Reimers & Gurevych 2019: mean pooling)."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import BertModel

from sglora_fed.backbones.checkpoint import (
    adapted_names,
    chosen_layers,
    read_model,
    read_tokenizer,
    twin,
)
from sglora_fed.backbones.device import available_device
from sglora_fed.backbones.packing import Packs, packed
from sglora_fed.backbones.reading import MINILM, MINILM_SCALE, MINILM_TOKENS, only_texts
from sglora_fed.backbones.sentences import ENCODING, bag, described
from sglora_fed.backbones.weights import WEIGHTS_FILE, checkpoint_folder, weights_hash
from sglora_fed.cache import ByteCache, RowCache
from sglora_fed.config.schema import AdapterConfig, BackboneConfig
from sglora_fed.errors import BackboneInputError
from sglora_fed.memory import give_back
from sglora_fed.tasks.types import Item, Modality

CHUNK = 64
"""Texts in one forward without gradient."""

REMEMBERED = 2**30
"""Bytes of activations that are kept: some 16,000 short texts, 900 of the longest."""

DESCRIBED = 256
"""Descriptions that are embedded together: meanwhile one and its phrases take some 40 KB."""

SENTENCES = 16
"""Of descriptions in one forward: as fast as more, whose activations leave larger holes behind."""

FORWARDS = 4
"""After which what is free goes back to the system: some hundred would leave 200 MB of holes."""

REPEATED = 4096
"""Sentences whose embeddings are kept: the same phrases come again and again."""

CPU = torch.device("cpu")


def configured(backbone: BackboneConfig, adapter: AdapterConfig) -> MiniLM:
    """What ``backbone.name=minilm`` means.

    Raises:
        SgloraError: as :func:`~sglora_fed.backbones.load_backbone`.
    """
    return MiniLM(
        checkpoint_folder(backbone),
        adapter.targets,
        adapter.layers,
        MINILM_SCALE if backbone.scale is None else backbone.scale,
        available_device(backbone.device),
    )


@lru_cache(maxsize=2)
def load_bert(folder: Path, device: torch.device) -> tuple[Any, Any]:
    """The frozen model and its tokenizer, read once per process; take a :func:`twin` of the model.

    Raises:
        BackboneFileError: when the files cannot be read as a BERT checkpoint.
    """
    model = read_model(BertModel, folder, device, add_pooling_layer=False)
    return model, read_tokenizer(folder)


class MiniLM:
    """A :class:`~sglora_fed.backbones.types.DualEncoder` in which items are texts.

    Args:
        folder: of the checkpoint.
        targets: ends of the adapted modules' names, in each adapted layer.
        layers: adapted layers; empty for all.
        scale: factor on cosines.
        device: where it runs.

    Raises:
        BackboneFileError: when the files cannot be read as a BERT checkpoint.
        LayoutError: for a layer or target that the model lacks.
    """

    id = MINILM
    modality: Modality = "text"

    def __init__(
        self,
        folder: Path,
        targets: Sequence[str] = ("query", "value"),
        layers: Sequence[int] = (),
        scale: float = MINILM_SCALE,
        device: torch.device = CPU,
    ) -> None:
        bert, self._tokenizer = load_bert(folder, device)
        self._bert = twin(bert)
        self.model: nn.Module = self._bert
        self.weights_sha256 = weights_hash(folder / WEIGHTS_FILE)
        self.scale, self.device = scale, device
        self.dim = int(self._bert.config.hidden_size)
        self._count = int(self._bert.config.num_hidden_layers)
        self._layers = chosen_layers(layers, self._count)
        self._remembered = ByteCache[Tensor](REMEMBERED, lambda row: [row])
        parents = [f"encoder.layer.{layer}" for layer in self._layers]
        self._adapted = adapted_names(self.model, parents, targets)
        looks = {f"{parents[0]}.attention.self.{name}" for name in ("query", "key")}
        self._fixed_attention = looks.isdisjoint(self._adapted)

    def adaptable(self) -> tuple[str, ...]:
        """Full names: ``encoder.layer.<i>`` and what ends in a target, layer by layer."""
        return self._adapted

    def prepare_items(self, items: Sequence[Item]) -> list[Tensor]:
        """Activations [tokens, width] below the first adapted layer, one tensor per text.

        They are the same for every adapter, and simulated clients share many texts: recent ones are
        remembered. Where that layer's queries and keys are not adapted, they stand beside its
        input: width is three times the hidden size then.

        Raises:
            BackboneInputError: for a text without a word piece, or a picture.
        """
        return self._remembering(only_texts(items))

    def _remembering(self, items: Sequence[str]) -> list[Tensor]:
        new = _places_of_new(items, self._remembered)
        known = {text: row for text in items if (row := self._remembered.get(text)) is not None}
        for text, row in zip(new, self._below(new), strict=True):
            self._remembered.add(text, row)
            known[text] = row
        return [known[text] for text in items]

    @torch.no_grad()
    def _below(self, places: Mapping[str, int]) -> list[Tensor]:
        ids = _tokens(self._tokenizer, places)
        prepared: list[Tensor] = [torch.empty(0)] * len(ids)
        for chunk in _by_length(ids, CHUNK):
            hidden, packs = _embedded(self._bert, [ids[i].to(self.device) for i in chunk])
            hidden = _run(self._bert, hidden, packs, range(self._layers[0]))
            if self._fixed_attention:
                attention = self._bert.encoder.layer[self._layers[0]].attention.self
                hidden = torch.cat([hidden, attention.query(hidden), attention.key(hidden)], dim=-1)
            rows = torch.split(packs.tokens(hidden), packs.lengths.tolist())
            for row, index in zip(rows, chunk, strict=True):
                # A copy, so that one text does not keep the whole chunk in memory.
                prepared[index] = row.clone()
        return prepared

    def prepare_texts(self, texts: Sequence[str]) -> list[Tensor]:
        """As items: both sides are texts."""
        return self.prepare_items(texts)

    def encode_items(self, prepared: Sequence[Tensor], groups: int) -> Tensor:
        """[n, dim] unit rows: the layers from the first adapted one on, then the token mean.

        Raises:
            LayoutError: when the groups cannot have as many texts each.
        """
        if not prepared:
            return torch.empty(0, self.dim, device=self.device)
        packs = packed(_lengths(prepared), groups, self.device)
        # One copy for all rows: a copy for each would keep a GPU waiting for its kernels to start.
        hidden, first = packs.fill(torch.cat(list(prepared))), self._layers[0]
        if self._fixed_attention:
            hidden = _attend(self._bert.encoder.layer[first], hidden, packs)
            first += 1
        return _pool(_run(self._bert, hidden, packs, range(first, self._count)), packs)

    def encode_texts(self, prepared: Sequence[Tensor], groups: int) -> Tensor:
        """As items: both sides share the adapters."""
        return self.encode_items(prepared, groups)


class DescriptionEncoder:
    """The bare MiniLM as a :class:`~sglora_fed.backbones.types.Describer`.

    It shares the loaded weights with a backbone but has modules of its own, so that adapters in
    the backbone never reach a description.

    Args:
        folder: of the checkpoint.

    Raises:
        BackboneFileError: when the files cannot be read as a BERT checkpoint.
    """

    id = f"{MiniLM.id}+{ENCODING}"

    def __init__(self, folder: Path) -> None:
        bert, self._tokenizer = load_bert(folder, CPU)
        self._bert = twin(bert)
        self.weights_sha256 = weights_hash(folder / WEIGHTS_FILE)
        self.fingerprint = f"{self.id}:{self.weights_sha256}"
        self.dim = int(self._bert.config.hidden_size)
        self._remembered = RowCache(REPEATED, self.dim)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """[n, dim] float32 unit rows (:func:`~sglora_fed.backbones.sentences.described`).

        Word pieces beyond the model's 256 are cut, of the text and of each phrase.

        Raises:
            BackboneInputError: for a text without a word piece.
        """
        starts = range(0, max(len(texts), 1), DESCRIBED)
        return np.concatenate([self._described(texts[i : i + DESCRIBED], i) for i in starts])

    def _described(self, texts: Sequence[str], first: int) -> np.ndarray:
        places = {text: place for place, text in enumerate(texts, first)}
        # A sentence and its words are of the same pieces; its phrases are texts of their own.
        read = dict(zip(places, _tokens(self._tokenizer, places), strict=True))
        return described(texts, partial(self._sentences, read=read), partial(self._words, read))

    def _sentences(self, texts: Sequence[str], read: Mapping[str, Tensor]) -> np.ndarray:
        """[n, dim] float32 rows; recent texts are remembered, as the same phrases come again.

        Args:
            texts: n of them.
            read: the tokens of some.
        """
        known = {text: row for text in texts if (row := self._remembered.get(text)) is not None}
        new = _places_of_new(texts, known)
        unread = {text: place for text, place in new.items() if text not in read}
        ids = {**read, **dict(zip(unread, _tokens(self._tokenizer, unread), strict=True))}
        for text, row in zip(new, self._encoded([ids[text] for text in new]), strict=True):
            known[text] = row
            self._remembered.add(text, row)
        rows = [known[text] for text in texts]
        return np.stack(rows) if rows else np.empty((0, self.dim), np.float32)

    @torch.no_grad()
    def _words(self, read: Mapping[str, Tensor], texts: Sequence[str]) -> np.ndarray:
        """[n, dim] float32 unit rows: the words without their context."""
        table = self._bert.embeddings.word_embeddings.weight
        pieces = [sorted(set(row[1:-1].tolist())) for row in read.values()]
        made = bag([table[ids].numpy() for ids in pieces], self.dim)
        places = {text: row for row, text in enumerate(read)}
        rows: np.ndarray = made[[places[text] for text in texts]]
        return rows

    @torch.no_grad()
    def _encoded(self, ids: Sequence[Tensor]) -> np.ndarray:
        embeddings = np.empty((len(ids), self.dim), np.float32)
        every = range(int(self._bert.config.num_hidden_layers))
        for number, chunk in enumerate(_by_length(ids, SENTENCES), 1):
            hidden, packs = _embedded(self._bert, [ids[i] for i in chunk])
            embeddings[chunk] = _pool(_run(self._bert, hidden, packs, every), packs).numpy()
            if number % FORWARDS == 0:
                give_back()
        return embeddings


def _places_of_new(texts: Sequence[str], remembered: Container[str]) -> dict[str, int]:
    """Each text that is not remembered, once, and a place where it stands."""
    return {text: place for place, text in enumerate(texts) if text not in remembered}


def _tokens(tokenizer: Any, places: Mapping[str, int]) -> list[Tensor]:
    """[tokens] ids of each text, with the two marks at its ends; places name it in an error."""
    if not places:
        return []
    ids = tokenizer(list(places), truncation=True, max_length=MINILM_TOKENS)["input_ids"]
    # Numbers only: what a client wrote must not travel in a message.
    if empty := [place for place, row in zip(places.values(), ids, strict=True) if len(row) <= 2]:
        raise BackboneInputError(f"texts number {empty} are empty; each needs a visible character")
    return [torch.tensor(row) for row in ids]


def _by_length(ids: Sequence[Tensor], count: int) -> Iterator[list[int]]:
    """Indices in chunks of texts of similar length: a pack is as long as its longest text."""
    order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
    for start in range(0, len(order), count):
        yield order[start : start + count]


def _embedded(bert: Any, ids: Sequence[Tensor]) -> tuple[Tensor, Packs]:
    """[packs, places, hidden] the embeddings of some texts' tokens, and where they lie."""
    joined = torch.cat(list(ids))
    positions = torch.cat([torch.arange(len(row)) for row in ids]).to(joined.device)
    packs = packed(_lengths(ids), 1, joined.device)
    return packs.fill(bert.embeddings(joined[None], position_ids=positions[None])[0]), packs


def _lengths(rows: Sequence[Tensor]) -> np.ndarray:
    return np.array([row.shape[0] for row in rows])


def _run(bert: Any, hidden: Tensor, packs: Packs, layers: range) -> Tensor:
    """Hidden states after some layers, called as modules so that adapters take effect."""
    for index in layers:
        hidden = bert.encoder.layer[index](hidden, packs.allowed)
    return hidden


def _attend(layer: Any, prepared: Tensor, packs: Packs) -> Tensor:
    """Hidden states after a layer whose queries and keys are known (Vaswani et al. 2017, eq. 1)."""
    attention = layer.attention.self

    def heads(rows: Tensor) -> Tensor:
        width = attention.attention_head_size
        return rows.view(*rows.shape[:2], -1, width).transpose(1, 2)

    hidden, query, key = (part.contiguous() for part in prepared.chunk(3, dim=-1))
    context = nn.functional.scaled_dot_product_attention(
        heads(query), heads(key), heads(attention.value(hidden)), attn_mask=packs.allowed
    )
    attended = layer.attention.output(context.transpose(1, 2).flatten(2), hidden)
    after: Tensor = layer.feed_forward_chunk(attended)
    return after


def _pool(hidden: Tensor, packs: Packs) -> Tensor:
    """Unit rows: the mean over each text's tokens, scaled to length 1."""
    return nn.functional.normalize(packs.means(hidden), dim=-1)
