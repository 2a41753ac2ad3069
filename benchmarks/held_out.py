"""Experts held out: the others' federation makes the shared LoRA and the generated adapters.

What is chosen for clients is chosen on these experts, with the part of their data that experts
train on; neither a client nor anybody's test example is touched.
"""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

import machine
from client.app import app
from sglora_fed.adapters.data import Prepared, prepare
from sglora_fed.adapters.evaluation import score_tasks
from sglora_fed.adapters.layout import Layout
from sglora_fed.adapters.start import federation_start
from sglora_fed.backbones import load_backbone
from sglora_fed.backbones.metrics import task_metrics
from sglora_fed.backbones.types import DualEncoder
from sglora_fed.config import RunConfig, compose
from sglora_fed.config.overrides import quoted
from sglora_fed.experiments.progress import ProgressLog
from sglora_fed.experiments.run import enrolled, fitted, open_federation
from sglora_fed.federation.describe import collect_requests
from sglora_fed.federation.inprocess import InProcessGrid
from sglora_fed.federation.layouts import run_layout
from sglora_fed.federation.shared import shared_lora
from sglora_fed.kept.zoos import trusted_zoo
from sglora_fed.seeds import derive_seed
from sglora_fed.tasks.export import write_family
from sglora_fed.tasks.types import Task, TaskFamily

SHARE = 4
"""One of so many experts is held out, and one of so many of its examples."""


@dataclass(frozen=True)
class HeldOut:
    """A federation without some of its experts.

    Attributes:
        overrides: of a run.
        seed: of the choice and of everything that is trained.
        tasks: all experts.
    """

    overrides: tuple[str, ...]
    seed: int
    tasks: tuple[Task, ...]

    @cached_property
    def config(self) -> RunConfig:
        """Of the run."""
        return compose(self.overrides)

    @cached_property
    def judges(self) -> list[Task]:
        """The held-out experts; their test examples are a part of those they trained on."""
        return [held_back(self.tasks[i], self.seed) for i in self._order[: self._held]]

    @cached_property
    def experts(self) -> list[Task]:
        """Everybody else."""
        return [self.tasks[i] for i in self._order[self._held :]]

    @property
    def _held(self) -> int:
        return max(1, len(self.tasks) // SHARE)

    @cached_property
    def _order(self) -> list[int]:
        rng = np.random.default_rng(derive_seed(self.seed, "held_out"))
        return [int(i) for i in rng.permutation(len(self.tasks))]

    @cached_property
    def encoder(self) -> DualEncoder:
        """The frozen backbone."""
        return load_backbone(self.config.backbone, self.config.adapter)

    @cached_property
    def layout(self) -> Layout:
        """Of all adapters."""
        return run_layout(self.config)

    @cached_property
    def untrained(self) -> np.ndarray:
        """[D] where everybody starts."""
        start: np.ndarray = federation_start(self.layout, self.seed)[0]
        return start

    def prepared(self, tasks: Sequence[Task], test: bool = False) -> list[Prepared]:
        """Examples of some tasks, as a run would have them."""
        hints = self.config.adapter.hints
        return [prepare(self.encoder, t, t.test if test else t.train, hints) for t in tasks]

    @property
    def shared(self) -> np.ndarray:
        """[D] the shared LoRA of the other experts."""
        return self._made[0]

    @property
    def generated(self) -> np.ndarray:
        """[J, D] adapters for the judges by the configured generator of the other experts."""
        return self._made[1]

    @cached_property
    def _made(self) -> tuple[np.ndarray, np.ndarray]:
        """A run's own exchanges, in which the judges are clients."""
        with tempfile.TemporaryDirectory() as name, machine.kept_in(Path(name)):
            folder = Path(name) / "family"
            clients = [replace(task, role="client", split="held_out") for task in self.judges]
            write_family(TaskFamily("held_out", (*self.experts, *clients)), folder)
            local = ["family=local", f"family.path={quoted(str(folder))}", f"seeds=[{self.seed}]"]
            words = [*self.overrides, *local]
            config = compose(words)
            run_config = {"overrides": shlex.join(words)}
            grid = InProcessGrid(app, config.federation.nodes, run_config)
            federation = open_federation(config, grid, ProgressLog(Path(name) / "progress.jsonl"))
            zoo = trusted_zoo(enrolled(federation))
            shared = shared_lora(federation, zoo)
            generator = fitted(federation, zoo, shared, config.generator.name)
            requests = collect_requests(federation)
            rows = np.array([requests.names.index(task.id) for task in self.judges])
            made = generator.generate(requests.embeddings[rows][:, 0], 1, self.seed)
        return shared, made.adapters[:, 0]

    def accuracy(self, vectors: np.ndarray | None, tests: Sequence[Prepared]) -> np.ndarray:
        """[J] main metric of each judge with its adapter [J, D], or without one."""
        layout = None if vectors is None else self.layout
        scores = score_tasks(self.encoder, list(tests), layout, vectors)
        found = [
            task_metrics(part.kind, score, part.targets, [(e.key, e.label) for e in task.test])
            for part, score, task in zip(tests, scores, self.judges, strict=True)
        ]
        return np.array([next(iter(metrics.values())) for metrics in found])


def held_back(task: Task, seed: int) -> Task:
    """A task that is tested on a part of its training examples, an equal share of each label."""
    rng = np.random.default_rng(derive_seed(seed, "held_back", task.id))
    order = [task.train[i] for i in rng.permutation(len(task.train))]
    if task.kind == "retrieval":
        cut = len(order) // SHARE
        return replace(task, train=tuple(order[cut:]), test=tuple(order[:cut]))
    by_label = [[e for e in order if e.label == key] for key in task.labels]
    cut = max(1, min(map(len, by_label)) // SHARE)
    return replace(
        task,
        train=tuple(example for some in by_label for example in some[cut:]),
        test=tuple(example for some in by_label for example in some[:cut]),
    )
