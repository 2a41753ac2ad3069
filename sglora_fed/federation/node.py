"""What a node holds: its tasks, the frozen model, and what several exchanges do with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sglora_fed.adapters.layout import Layout
from sglora_fed.backbones import load_backbone, load_describer
from sglora_fed.backbones.types import Describer, DualEncoder, PlainEncoder
from sglora_fed.cache import ByteCache
from sglora_fed.config.schema import LISTED, RunConfig
from sglora_fed.errors import CatalogueError, MessageError
from sglora_fed.federation.layouts import run_layout
from sglora_fed.privacy.floor import UNTOLD, Floor
from sglora_fed.seeds import derive_seed
from sglora_fed.tasks import load_family
from sglora_fed.tasks.digest import tasks_sha256, wordless_sha256
from sglora_fed.tasks.respelling import respelt
from sglora_fed.tasks.types import ById, Kind, Role, Task

if TYPE_CHECKING:  # a node of one's own trains nothing
    from sglora_fed.adapters.data import Prepared

PREPARED: ByteCache[Prepared] = ByteCache(2**30, lambda part: [*part.items, *part.texts])
"""Experts' prepared training examples: at most 1 GiB in each process."""


@dataclass(frozen=True)
class Node:
    """One node's share of a federation.

    Attributes:
        config: of the run.
        partition: this node's number, 0 <= partition < partitions.
        partitions: number of nodes.
        adapters: folder in which its clients keep their adapters, where it has one.
        floor: what it promises its clients, whatever the configuration asks.
    """

    config: RunConfig
    partition: int
    partitions: int
    adapters: Path | None = None
    floor: Floor = UNTOLD

    def __post_init__(self) -> None:
        if not 0 <= self.partition < self.partitions:
            raise MessageError(f"partition {self.partition} of {self.partitions}; need 0 <= p < n")

    @cached_property
    def encoder(self) -> DualEncoder:
        """The frozen backbone."""
        return load_backbone(self.config.backbone, self.config.adapter)

    @property
    def plain(self) -> PlainEncoder | None:
        """The frozen backbone in NumPy, where that is done sooner; None: use ``encoder``."""
        return None

    @cached_property
    def layout(self) -> Layout:
        """Of all adapters of this run."""
        return run_layout(self.config)

    @cached_property
    def describer(self) -> Describer:
        """The description encoder; runs here, on the client."""
        return load_describer(self.config.backbone)

    @cached_property
    def experts(self) -> Mapping[str, Task]:
        """This node's expert tasks by id."""
        return self._share("expert")

    @cached_property
    def task_digests(self) -> dict[str, str]:
        """Hash of each expert's task: who has another task under the same id has another hash.

        Where noise protects the examples they are not in it, and where the description leaves as a
        place of a catalogue no words are: a hash tells whoever guesses them that the guess is
        right.
        """
        privacy = self.config.privacy
        secret = privacy.training.epsilon is not None
        if privacy.experts == LISTED:
            return {name: wordless_sha256(task, secret) for name, task in self.experts.items()}
        told = {name: replace(t, train=()) if secret else t for name, t in self.experts.items()}
        return {name: tasks_sha256([task]) for name, task in told.items()}

    @cached_property
    def clients(self) -> Mapping[str, Task]:
        """This node's virtual clients by id."""
        return self._share("client")

    @property
    def catalogue(self) -> Path | None:
        """File of the public list, where the node's table names it; None: the configured one.

        Raises:
            CatalogueError: for a file that the server names: it is not to say what is opened here.
        """
        told, floor = self.config.privacy.catalogue, self.floor
        if told is not None and floor.catalogue is None and not floor.virtual:
            raise CatalogueError("the run names a file; name the list in the node's own table")
        return floor.catalogue

    @property
    def kind(self) -> Kind:
        """Of all its tasks."""
        return load_family(self.config.family).tasks[0].kind

    def _share(self, role: Role) -> Mapping[str, Task]:
        tasks = load_family(self.config.family).of_role(role)
        return ById(tasks[self.partition :: self.partitions])

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """[n, d] embeddings of some texts, made here on the client."""
        if not texts:
            return np.empty((0, self.describer.dim), np.float32)
        return np.asarray(self.describer.encode(texts))


open_node = lru_cache(maxsize=2)(Node)
"""The same node for the same arguments: in simulation a process serves many messages."""


def spoken(task_id: str, wordings: int, seed: int) -> int:
    """Which of its wordings somebody uses in a run: 0 the description, then the paraphrases."""
    return derive_seed(seed, "wording", task_id) % wordings


def practice(node: Node, task: Task, seed: int, steps: int) -> Prepared:
    """What an expert trains on in a round: its examples, or some of them in a made-up spelling."""
    config = node.config
    own = respelt(task, config.federation.respelt, steps * config.adapter.train.batch_size, seed)
    if own is task:
        return cached_train(node, task.id)
    return _prepared(node, own)


def cached_train(node: Node, name: str) -> Prepared:
    """An expert's training examples, prepared once per process as far as memory allows."""
    if (kept := PREPARED.get((node, name))) is not None:
        return kept
    task = node.experts[name]
    made = _prepared(node, task)
    PREPARED.add((node, name), made)
    return made


def _prepared(node: Node, task: Task) -> Prepared:
    from sglora_fed.adapters.data import prepare

    return prepare(node.encoder, task, task.train, node.config.adapter.hints)
