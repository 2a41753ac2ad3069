"""The interfaces of frozen models: score an item against texts, embed a description."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from sglora_fed.tasks.types import Item, Modality

if TYPE_CHECKING:  # who only describes a task needs no torch
    import torch
    from torch import Tensor, nn

    from sglora_fed.backbones.arithmetic import Adapter


class Describer(Protocol):
    """What embeds descriptions on the client; no adapter reaches it.

    Attributes:
        id: name of the model and of what is made of its sentences.
        weights_sha256: of its weights.
        fingerprint: both; embeddings of two encoders can be compared when it is the same.
        dim: numbers of an embedding.
    """

    id: str
    weights_sha256: str
    fingerprint: str
    dim: int

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """[n, dim] float32 unit rows."""
        ...


class DualEncoder(Hashable, Protocol):
    """A frozen model that maps items and texts to one space.

    ``prepare_*`` runs everything below the first adapted layer, which is the same for all
    adapters, once per item. ``encode_*`` runs the rest, through the model's own modules, so that
    adapters placed in them take effect; its rows are independent and keep their order. They come
    in ``groups`` equal shares, one after another: as many as the model carries adapters, or 1
    (``LayoutError`` when they cannot be shared equally). What the model's modules see need not be
    one row per item, but each group's rows stay together.

    Attributes:
        id: name of the model.
        modality: of its items; texts are texts.
        weights_sha256: of its weights.
        scale: logits are ``scale * cosine(item, text)``.
        dim: numbers of an embedding.
        model: the frozen module whose linear submodules carry adapters.
        device: where it runs.
    """

    id: str
    modality: Modality
    weights_sha256: str
    scale: float
    dim: int
    model: nn.Module
    device: torch.device

    def adaptable(self) -> tuple[str, ...]:
        """Names of the linear modules that carry adapters."""
        ...

    def prepare_items(self, items: Sequence[Item]) -> list[Tensor]:
        """One tensor per item, without gradient."""
        ...

    def prepare_texts(self, texts: Sequence[str]) -> list[Tensor]:
        """One tensor per text, without gradient."""
        ...

    def encode_items(self, prepared: Sequence[Tensor], groups: int) -> Tensor:
        """[n, dim] unit rows."""
        ...

    def encode_texts(self, prepared: Sequence[Tensor], groups: int) -> Tensor:
        """[n, dim] unit rows."""
        ...


class PlainEncoder(Hashable, Protocol):
    """A frozen model that maps items and texts to one space in NumPy, for a few of them.

    The numbers are those of a :class:`DualEncoder` of the same checkpoint up to rounding, and so is
    what the methods do. ``groups`` is 1: it carries one adapter, or none.

    Attributes:
        id: name of the model.
        modality: of its items; texts are texts.
        scale: logits are ``scale * cosine(item, text)``.
    """

    id: str
    modality: Modality
    scale: float

    def carrying(self, adapter: Adapter) -> Self:
        """The same model with an adapter; what was prepared is good for both."""
        ...

    def prepare_items(self, items: Sequence[Item]) -> list[np.ndarray]:
        """One array per item."""
        ...

    def prepare_texts(self, texts: Sequence[str]) -> list[np.ndarray]:
        """One array per text."""
        ...

    def encode_items(self, prepared: Sequence[np.ndarray], groups: int) -> np.ndarray:
        """[n, dim] float32 unit rows."""
        ...

    def encode_texts(self, prepared: Sequence[np.ndarray], groups: int) -> np.ndarray:
        """[n, dim] float32 unit rows."""
        ...
