"""Experts held out: the others train the shared LoRA and the generator in this process.

What is chosen for clients is chosen on these experts, with the part of their data that experts
train on; neither a client nor anybody's test example is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from sglora_fed.adapters.data import Prepared, prepare
from sglora_fed.adapters.evaluation import score_tasks
from sglora_fed.adapters.layout import Layout, initial_vector, layout_of
from sglora_fed.adapters.training import train_adapters
from sglora_fed.backbones import load_backbone, load_describer
from sglora_fed.backbones.metrics import task_metrics
from sglora_fed.backbones.types import DualEncoder
from sglora_fed.config.schema import RunConfig
from sglora_fed.federation.rounds import rate_of_round
from sglora_fed.generators import make_generator
from sglora_fed.generators.base import is_federated
from sglora_fed.seeds import derive_seed
from sglora_fed.tasks.types import Task
from sglora_fed.zoo import Zoo

SHARE = 4
"""One of so many experts is held out, and one of so many of its examples."""

WORDINGS = 8


@dataclass(frozen=True)
class HeldOut:
    """A federation without some of its experts.

    Attributes:
        config: of a run.
        seed: of the choice and of everything that is trained.
        tasks: all experts.
    """

    config: RunConfig
    seed: int
    tasks: tuple[Task, ...]

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
        rank, alpha = self.config.adapter.rank, self.config.adapter.alpha
        return layout_of(self.encoder.model, self.encoder.adaptable(), rank, alpha)

    @cached_property
    def untrained(self) -> np.ndarray:
        """[D] where everybody starts."""
        vector: np.ndarray = initial_vector(
            self.layout, derive_seed(self.seed, "adapter_start")
        ).numpy()
        return vector

    def prepared(self, tasks: Sequence[Task], test: bool = False) -> list[Prepared]:
        """Examples of some tasks, as a run would have them."""
        hints = self.config.adapter.hints
        return [prepare(self.encoder, t, t.test if test else t.train, hints) for t in tasks]

    @cached_property
    def _parts(self) -> list[Prepared]:
        return self.prepared(self.experts)

    def local(
        self, starts: np.ndarray, rows: np.ndarray, steps: int, rate: float, number: int
    ) -> np.ndarray:
        """[n, D] what some experts have after a few steps of a round from [n, D] or [1, D]."""
        train = self.config.adapter.train
        config = replace(train, steps=steps, lr=rate, checkpoints=1, patience=0)
        seeds = [derive_seed(self.seed, "round", number, self.experts[row].id) for row in rows]
        parts = [self._parts[row] for row in rows]
        return train_adapters(self.encoder, self.layout, starts, parts, config, seeds).final

    @cached_property
    def shared(self) -> np.ndarray:
        """[D] the shared LoRA of the other experts: FedAvg with momentum, as in a run."""
        config, rate = self.config.federation, self.config.adapter.train.lr
        rng = np.random.default_rng(derive_seed(self.seed, "shared_sample"))
        vector, velocity = self.untrained, np.zeros_like(self.untrained)
        for number in range(config.shared_rounds):
            rows = self._sample(rng, config.shared_clients)
            trained = self.local(vector[None], rows, config.shared_steps, rate, number)
            weights = [len(self.experts[row].train) for row in rows]
            mean = np.average(trained, axis=0, weights=weights).astype(np.float32)
            velocity = config.shared_momentum * velocity + (mean - vector)
            vector = vector + velocity
        return vector

    @cached_property
    def generated(self) -> np.ndarray:
        """[J, D] adapters for the judges by a generator of the other experts, as in a run.

        Raises:
            ValueError: for a generator that does not learn in rounds.
        """
        config, zoo = self.config.federation, self._zoo
        generator = make_generator(self.config.generator)
        if not is_federated(generator):
            raise ValueError(f"{generator.name} is fitted to a zoo; take one that learns in rounds")
        rng = np.random.default_rng(derive_seed(self.seed, "functional_sample"))
        generator.begin(zoo, self.layout, self.shared)
        for number in range(config.generator_rounds):
            rows = self._sample(rng, config.generator_clients)
            said = rng.integers(zoo.wordings.shape[1], size=len(rows))
            starts = generator.starts(rows, zoo.wordings[rows, said])
            rate = rate_of_round(number + 1, config) * self.config.adapter.train.lr
            trained = self.local(starts, rows, config.generator_steps, rate, 1000 + number)
            generator.learn(rows, trained - starts)
        requests = self._embedded([task.description for task in self.judges])
        return generator.generate(requests, 1, self.seed).adapters[:, 0]

    def _sample(self, rng: np.random.Generator, count: int) -> np.ndarray:
        count = min(count, len(self.experts))
        return np.sort(rng.choice(len(self.experts), count, replace=False))

    def _embedded(self, texts: Sequence[str]) -> np.ndarray:
        return np.asarray(load_describer(self.config.backbone).encode(list(texts)), np.float32)

    @property
    def _zoo(self) -> Zoo:
        """The experts' descriptions; what is trained in rounds needs no parameters of theirs."""
        words = [(task.description, *task.paraphrases) for task in self.experts]
        texts = [some[i % len(some)] for some in words for i in range(WORDINGS)]
        means = np.repeat(self.untrained[None], len(words), axis=0)
        return Zoo(
            ids=tuple(task.id for task in self.experts),
            wordings=self._embedded(texts).reshape(len(words), WORDINGS, -1),
            means=means,
            variances=np.zeros_like(means),
            examples=np.array([len(task.train) for task in self.experts], np.int64),
        )

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
