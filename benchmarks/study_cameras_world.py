"""One seed of the cameras: its federation, what comes of it, and its clients to measure that on."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

import machine
from client.app import app
from sglora_fed.adapters.data import Prepared, prepare
from sglora_fed.adapters.evaluation import score_tasks
from sglora_fed.adapters.layout import Layout
from sglora_fed.adapters.start import federation_start, within_bound
from sglora_fed.adapters.training import Trained, train_adapters
from sglora_fed.backbones import load_backbone, load_describer
from sglora_fed.backbones.metrics import task_metrics
from sglora_fed.backbones.types import DualEncoder
from sglora_fed.config import RunConfig, compose
from sglora_fed.config.schema import FineTuning, TrainConfig
from sglora_fed.experiments.control import least_alike
from sglora_fed.experiments.progress import ProgressLog
from sglora_fed.experiments.run import enrolled, fitted, open_federation
from sglora_fed.federation.answers import chosen
from sglora_fed.federation.describe import words
from sglora_fed.federation.exchange import Federation
from sglora_fed.federation.finetuned import FINE_TUNED, examples_of, training_of
from sglora_fed.federation.inprocess import InProcessGrid
from sglora_fed.federation.making import generate
from sglora_fed.federation.node import Node
from sglora_fed.federation.shared import shared_lora
from sglora_fed.federation.terms import configured_readings
from sglora_fed.generators import Generator, fit_generator
from sglora_fed.kept.zoos import trusted_zoo
from sglora_fed.seeds import derive_seed
from sglora_fed.tasks import load_family
from sglora_fed.tasks.types import Task
from sglora_fed.zoo import Zoo, ZooStore

BASE = (
    "experiment=cameras",
    "family.clients_per_split=26",
    "federation.clients_per_message=64",
)
"""Every run. The main job has more clients, which would leave too few conditions for curves over
experts; one message a node saves time and changes nothing."""

SPLITS = ("new_combination", "new_words", "new_element")

Cells = dict[str, list[float]]
"""Split -> R@1 of each of its clients, mean of both directions."""

Grids = Callable[[int, Mapping[str, str]], InProcessGrid]
"""From a number of nodes and their run config to a grid."""


def honest_grid(nodes: int, run_config: Mapping[str, str]) -> InProcessGrid:
    """The apps as they are."""
    return InProcessGrid(app, nodes, run_config)


@dataclass(frozen=True)
class World:
    """One seed's federation and clients.

    Attributes:
        overrides: of the run, behind ``BASE``.
        seed: of the run and of the family.
        folder: for what is kept.
        grids: the nodes.
    """

    overrides: tuple[str, ...]
    seed: int
    folder: Path
    grids: Grids = honest_grid

    @cached_property
    def config(self) -> RunConfig:
        return compose(self._words)

    @property
    def _words(self) -> list[str]:
        told = [f"seeds=[{self.seed}]", f"family.seed={self.seed}"]
        return [*BASE, *self.overrides, *told]

    @cached_property
    def federation(self) -> Federation:
        nodes = self.config.federation.nodes
        grid = self.grids(nodes, {"overrides": shlex.join(self._words)})
        progress = ProgressLog(Path(tempfile.mkdtemp(dir=self.folder)) / "progress.jsonl")
        return open_federation(self.config, grid, progress)

    @cached_property
    def store(self) -> ZooStore:
        """All enrolled experts."""
        with machine.kept_in(self.folder):
            return enrolled(self.federation)

    @cached_property
    def zoo(self) -> Zoo:
        """The experts that are believed."""
        return trusted_zoo(self.store)

    @property
    def experts(self) -> np.ndarray:
        """[E, D] their adapters."""
        return self.zoo.means[:]

    @cached_property
    def shared(self) -> np.ndarray:
        """[D] the shared LoRA."""
        with machine.kept_in(self.folder):
            return shared_lora(self.federation, self.zoo)

    @cached_property
    def functional(self) -> Generator:
        """The generator that is trained in the federation, from the shared LoRA on."""
        with machine.kept_in(self.folder):
            return fitted(self.federation, self.zoo, self.shared, "functional")

    def generator(self, name: str, *, everybody: bool = False) -> Generator:
        """A generator by its name.

        Args:
            name: of the generator.
            everybody: also the experts that are not believed.
        """
        if name == "functional":
            return self.functional
        zoo = self.store.load() if everybody else self.zoo
        return fit_generator(self.config.generator, name, zoo, self.seed)

    @cached_property
    def encoder(self) -> DualEncoder:
        return load_backbone(self.config.backbone, self.config.adapter)

    @property
    def layout(self) -> Layout:
        return self.federation.layout

    @cached_property
    def start(self) -> np.ndarray:
        """[D] where all experts start."""
        start: np.ndarray = federation_start(self.layout, self.seed)[0]
        return start

    @cached_property
    def clients(self) -> list[Task]:
        """All unseen clients, split by split."""
        return sorted(load_family(self.config.family).of_role("client"), key=place)

    @cached_property
    def tests(self) -> list[Prepared]:
        return [prepare(self.encoder, task, task.test) for task in self.clients]

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """[n, d]."""
        return np.asarray(load_describer(self.config.backbone).encode(list(texts)))

    @cached_property
    def said(self) -> np.ndarray:
        """[n, d] what the clients send, as it travels."""
        rows = self.embed([words(task, self.seed) for task in self.clients])
        return unit(rows.astype(np.float16).astype(np.float32))

    @cached_property
    def shuffled(self) -> np.ndarray:
        """[n, d] each client has the description that has least to do with its own, of some."""
        rows: np.ndarray = self.said[least_alike(self.said[:, None], self.zoo.wordings, self.seed)]
        return rows

    def rows(self, split: str) -> np.ndarray:
        """The clients of a split."""
        return np.flatnonzero([task.split == split for task in self.clients])

    @cached_property
    def node(self) -> Node:
        """One that has all clients."""
        return Node(self.config, 0, 1)

    def made(self, generator: Generator, descriptions: np.ndarray | None = None) -> np.ndarray:
        """[n, D] what the clients keep, for their own descriptions or others in all readings."""
        asked = (self.said if descriptions is None else descriptions)[:, None]
        with machine.kept_in(self.folder):
            readings = configured_readings(self.config, load_describer(self.config.backbone))
        if readings is not None:
            asked = readings.of(asked[:, 0])
        several = generate(generator, asked, self.seed).adapters
        return chosen(self.node, self.clients, self.seed, in_half(several, self.layout), None)

    def alike(self, vector: np.ndarray) -> np.ndarray:
        """[n, D] one adapter [D] for all."""
        return np.broadcast_to(vector, (len(self.clients), vector.size))

    def cells(self, vectors: np.ndarray | None) -> Cells:
        """What adapters [n, D] are worth, in half precision as they travel; None: no adapter."""
        if vectors is None:
            return self.measured(None, None)
        return self.measured(self.layout, in_half(vectors, self.layout))

    def measured(self, layout: Layout | None, vectors: np.ndarray | None) -> Cells:
        """What adapters of any layout are worth."""
        scores = score_tasks(self.encoder, self.tests, layout, vectors)
        found: Cells = {split: [] for split in SPLITS}
        for task, part, score in zip(self.clients, self.tests, scores, strict=True):
            pairs = [(example.key, example.label) for example in task.test]
            metrics = task_metrics("retrieval", score, part.targets, pairs)
            found[task.split].append(round((metrics["i2t_r1"] + metrics["t2i_r1"]) / 2, 5))
        return found

    def tuned(self, method: str, tuning: FineTuning) -> np.ndarray:
        """[n, D] after fine-tuning on the clients, by a method of ``FINE_TUNED``."""
        learnt = self.learnt(method)
        starts = {
            "untrained": lambda: self.alike(self.start),
            "shared": lambda: self.alike(self.shared),
            "generated": lambda: self.made(self.functional),
        }[FINE_TUNED[method].start]()
        return self.trained(starts, learnt, training_of(tuning, self.config), "local").final

    def tuned_from_generated(self, tuning: FineTuning) -> np.ndarray:
        """[n, D] the adopted adapters after fine-tuning on all that the clients have."""
        starts, train = self.made(self.functional), training_of(tuning, self.config)
        return self.trained(starts, self.learnt("oracle"), train, "local").final

    def learnt(self, method: str) -> list[Prepared]:
        """What the clients learn from by a method."""
        return [
            prepare(self.encoder, task, examples_of(method, task, self.seed))
            for task in self.clients
        ]

    def trained(
        self, starts: np.ndarray, parts: Sequence[Prepared], config: TrainConfig, name: str
    ) -> Trained:
        """The clients' own training; the name decides the order of the batches."""
        seeds = [derive_seed(self.seed, name, task.id) for task in self.clients]
        return train_adapters(self.encoder, self.layout, starts, parts, config, seeds)

    def with_overrides(self, *more: str) -> World:
        """The same seed otherwise."""
        return replace(self, overrides=(*self.overrides, *more))


def in_half(vectors: np.ndarray, layout: Layout) -> np.ndarray:
    """Adapters [..., D] after their way to a client, float32."""
    flat = within_bound(vectors.reshape(-1, layout.size), layout)
    return flat.astype(np.float16).astype(np.float32).reshape(vectors.shape)


def place(task: Task) -> tuple[int, str]:
    """Where a client stands among all."""
    return SPLITS.index(task.split), task.id


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length one."""
    made: np.ndarray = (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)
    return made
