"""What the protection of experts' examples costs: the share of the gain that DP-SGD leaves.

    python benchmarks/study_dp.py plan PLAN [--seeds 11 12 13]
    python benchmarks/study_dp.py measure PLAN FOUND [--jobs 6]
    python benchmarks/study_dp.py table FOUND

The rounds are those of a run with ``experiment=private``, without messages: the library's own
generator and training, on the `cameras`, each seed another family. Settings were chosen on the
families of seeds 0 and 1. ``plan`` works out the noise and the descriptions' embeddings, so that
``measure`` needs neither Opacus' accountants nor MiniLM and can run on a bare machine with a GPU.
``table`` writes ``benchmarks/results/study-dp.json`` and ``.md``; points of an earlier table that
were not measured again stay.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sglora_fed.adapters import training
from sglora_fed.adapters.data import Prepared, prepare, prepare_separable
from sglora_fed.adapters.evaluation import score_tasks
from sglora_fed.adapters.layout import Layout, layout_of
from sglora_fed.adapters.private import PrivateTraining, train_privately
from sglora_fed.adapters.start import configured_start
from sglora_fed.adapters.training import train_adapters
from sglora_fed.backbones import load_backbone
from sglora_fed.backbones.metrics import task_metrics
from sglora_fed.backbones.types import DualEncoder
from sglora_fed.config.building import build
from sglora_fed.config.schema import RunConfig
from sglora_fed.generators.functional import Functional
from sglora_fed.seeds import derive_seed
from sglora_fed.tasks import load_family
from sglora_fed.tasks.cameras.captions import CAPTIONS
from sglora_fed.tasks.types import Task
from sglora_fed.zoo import Zoo
from study_dp_table import CLIPPED, table

FOLD, EXAMPLES = 128, 8192
"""Adapters in one batch and examples in one backward pass on a GPU."""

LARGE = (
    "adapter.rank=8",
    "adapter.alpha=16",
    "adapter.targets=[q_proj,k_proj,v_proj]",
    "privacy.training.freeze_a=false",
    "privacy.training.lr=0.5",
    "adapter.train.batch_size=256",
    "federation.generator_steps=10",
    "generator.smoothing=0.05",
)
"""With a thousand pairs noise is no longer what limits: more numbers and steps."""


@dataclass(frozen=True)
class Point:
    """What is measured.

    Attributes:
        experts: that take part in every round.
        pairs: of each expert.
        clients: of `new_combination`.
        epsilon: of one pair; ``CLIPPED``; None without any protection.
        overrides: of the settings.
    """

    experts: int
    pairs: int
    clients: int
    epsilon: float | None
    overrides: tuple[str, ...] = ()

    def words(self, seed: int) -> list[str]:
        """Overrides of its run."""
        family = [
            f"family.seed={seed}",
            f"family.experts={self.experts}",
            f"family.clients_per_split={self.clients}",
            f"family.train_per_client={self.pairs}",
            f"seeds=[{seed}]",
        ]
        if self.epsilon is None:
            return ["experiment=cameras", *family, ONE_READING]
        noise = f"privacy.training.epsilon={self.epsilon or 8}"
        return ["experiment=private", *self.overrides, *family, noise]


ONE_READING = "generator.readings=1"
"""As with noise: what noise costs is to be seen, not what readings make up for."""

CURVE = (None, 8.0, 4.0, 2.0)
POINTS = (
    *(Point(48, 256, 24, epsilon) for epsilon in (None, 8.0)),
    *(Point(96, 1024, 4, epsilon, LARGE) for epsilon in (None, 8.0)),
    *(Point(76, 1024, 24, epsilon, LARGE) for epsilon in (None, 8.0)),
    *(Point(48, 256, 24, epsilon) for epsilon in (4.0, 2.0, CLIPPED)),
    *(Point(48, 64, 24, epsilon) for epsilon in CURVE),
    *(Point(48, 1024, 24, epsilon, LARGE) for epsilon in CURVE),
    *(Point(76, 256, 24, epsilon) for epsilon in (None, 8.0)),
)
"""100 conditions can be known: 24 clients leave 76 experts, 96 experts leave 4 clients."""


def plan(points: Sequence[Point], seeds: Sequence[int], path: Path) -> None:
    """Write what every measurement needs: configuration, noise, rates; embeddings beside it."""
    jobs = [planned(point, seed) for point in points for seed in seeds]
    path.write_text(json.dumps(jobs), encoding="utf-8")
    embed(points, seeds, path.with_suffix(".npz"))


def planned(point: Point, seed: int) -> dict[str, Any]:
    """One measurement: configuration, noise and rates."""
    from sglora_fed.config import compose
    from sglora_fed.federation.rounds import rate_of_round
    from sglora_fed.promises import promise_for

    config = compose(point.words(seed))
    numbers = range(1, config.federation.generator_rounds + 1)
    promise = promise_for(config, point.pairs)
    return {
        "point": asdict(point),
        "seed": seed,
        "config": asdict(config),
        "rates": [rate_of_round(number, config.federation) for number in numbers],
        "promise": None if promise is None else promise.to_dict(),
    }


def embed(points: Sequence[Point], seeds: Sequence[int], path: Path) -> None:
    """Write the embeddings of all that experts and clients say."""
    from sglora_fed.backbones import load_describer
    from sglora_fed.config import compose

    texts = dict[str, None]()
    for point in points:
        for seed in seeds:
            config = compose(point.words(seed))
            few = replace(config.family, train_per_client=1, test_per_client=4)
            texts |= dict.fromkeys(said for task in load_family(few).tasks for said in words(task))
    rows = load_describer(compose([]).backbone).encode(list(texts))
    np.savez_compressed(path, texts=np.array(list(texts)), rows=rows)


def words(task: Task) -> tuple[str, ...]:
    """All sentences that describe a task and are needed."""
    return (task.description, *(task.paraphrases if task.role == "expert" else ()))


@dataclass(frozen=True)
class World:
    """One measurement's experts, clients and model.

    Attributes:
        job: of the plan.
        embeddings: sentence -> [d].
        device: where the model runs.
    """

    job: Mapping[str, Any]
    embeddings: Mapping[str, np.ndarray]
    device: str

    @cached_property
    def config(self) -> RunConfig:
        """Of the run."""
        found: RunConfig = build(RunConfig, self.job["config"], [])
        return replace(found, backbone=replace(found.backbone, device=self.device))

    @cached_property
    def encoder(self) -> DualEncoder:
        """The frozen model."""
        return load_backbone(self.config.backbone, self.config.adapter)

    @cached_property
    def layout(self) -> Layout:
        """Of the adapters."""
        adapter = self.config.adapter
        return layout_of(self.encoder.model, self.encoder.adaptable(), adapter.rank, adapter.alpha)

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """Experts, then clients."""
        return tuple(load_family(self.config.family).tasks)

    def score(self) -> dict[str, Any]:
        """Mean recall at 1 of both directions for each client."""
        started, experts = time.perf_counter(), [t for t in self.tasks if t.role == "expert"]
        generator, distrusted = self.trained(experts)
        clients = [task for task in self.tasks if task.split == "new_combination"]
        tests = [prepare(self.encoder, task, task.test) for task in clients]
        requests = np.stack([self.embeddings[task.description] for task in clients])
        made = generator.linear().adapters(requests)
        found = {"zero_shot": None, "functional": made}
        scores = {
            name: [_recall(task, one) for task, one in zip(clients, rows, strict=True)]
            for name, rows in (
                (name, score_tasks(self.encoder, tests, self.layout, vectors))
                for name, vectors in found.items()
            )
        }
        seconds = round(time.perf_counter() - started, 1)
        return scores | {"distrusted": distrusted, "seconds": seconds}

    def trained(self, experts: Sequence[Task]) -> tuple[Functional, int]:
        """The generator after all rounds, and how often an update was scaled down or distrusted."""
        config, seed = self.config, int(self.job["seed"])
        start = configured_start(config, self.layout, seed)[0]
        zoo = self.zoo(experts)
        generator = Functional(config.generator)
        generator.begin(zoo, self.layout, start)
        parts = [self.part(task) for task in experts]
        rows, distrusted = np.arange(len(experts)), 0
        for number, share in enumerate(self.job["rates"], 1):
            ways = [derive_seed(seed, number, task.id) % zoo.wordings.shape[1] for task in experts]
            starts = generator.starts(rows, np.asarray(zoo.wordings)[rows, ways])
            starts = starts.astype(np.float16).astype(np.float32)
            final = self.practised(starts, parts, share, derive_seed(seed, number))
            updates = (final - starts).astype(np.float16)
            distrusted += generator.learn(rows, updates.astype(np.float64))
        return generator, distrusted

    def zoo(self, experts: Sequence[Task]) -> Zoo:
        """Of the experts' words; their enrolled adapters play no part."""
        wordings = np.stack([[self.embeddings[said] for said in words(t)] for t in experts])
        empty = np.zeros((len(experts), self.layout.size), np.float32)
        counts = np.array([len(task.train) for task in experts])
        ids = tuple(task.id for task in experts)
        return Zoo(ids, wordings.astype(np.float32), empty, empty, counts)

    def part(self, task: Task) -> Prepared:
        """What an expert trains on."""
        if self.job["promise"] is None:
            return prepare(self.encoder, task, task.train)
        return prepare_separable(self.encoder, task, task.train, "none", CAPTIONS)

    def practised(
        self, starts: np.ndarray, parts: Sequence[Prepared], share: float, seed: int
    ) -> np.ndarray:
        """[E, D] after one round."""
        config, promise = self.config, self.job["promise"]
        steps = config.federation.generator_steps
        train = replace(config.adapter.train, steps=steps, checkpoints=1)
        if promise is None:
            train = replace(train, lr=share * train.lr)
            seeds = [derive_seed(seed, row) for row in range(len(parts))]
            return train_adapters(self.encoder, self.layout, starts, parts, train, seeds).final
        privacy = config.privacy.training
        train = replace(train, lr=share * privacy.lr)
        large = (FOLD, EXAMPLES) if self.device != "cpu" else ()
        own = PrivateTraining(self.encoder, self.layout, train, privacy, *large)
        sigma = 0.0 if self.job["point"]["epsilon"] == CLIPPED else float(promise["sigma"])
        return train_privately(own, starts, parts, [sigma] * len(parts)).final


def _recall(task: Task, scores: torch.Tensor) -> float:
    pairs = [(example.key, example.label) for example in task.test]
    found = task_metrics("retrieval", scores, np.arange(len(pairs)), pairs)
    return (found["i2t_r1"] + found["t2i_r1"]) / 2


def measured(job: Mapping[str, Any], texts: Path) -> dict[str, Any]:
    """One job of a plan."""
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        training.FOLD = FOLD
    made = World(job, embedded(texts), device).score()
    card = torch.cuda.get_device_name() if device == "cuda" else platform.processor()
    return {key: job[key] for key in ("point", "seed", "promise")} | made | {"device": card}


@lru_cache(maxsize=1)
def embedded(path: Path) -> dict[str, np.ndarray]:
    """Sentence -> [d], as :func:`embed` wrote them."""
    kept = np.load(path)
    return dict(zip(kept["texts"].tolist(), kept["rows"], strict=True))


def all_measured(plan_path: Path, jobs: int) -> Iterator[dict[str, Any]]:
    """All jobs of a plan, in processes, as they end."""
    every, texts = json.loads(plan_path.read_text(encoding="utf-8")), plan_path.with_suffix(".npz")
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        for done in as_completed(pool.submit(measured, job, texts) for job in every):
            yield done.result()


def main(arguments: Sequence[str] | None = None) -> None:
    """Plan, measure or tabulate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("part", choices=("plan", "measure", "table"))
    parser.add_argument("paths", type=Path, nargs="+", help="the plan, the measurements")
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13])
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    given = parser.parse_args(arguments)
    if given.part == "plan":
        plan(POINTS, given.seeds, given.paths[0])
    elif given.part == "measure":
        with given.paths[1].open("w", encoding="utf-8") as file:
            for one in all_measured(given.paths[0], given.jobs):
                file.write(json.dumps(one) + "\n")
                file.flush()
    else:
        table(given.paths[0])


if __name__ == "__main__":
    main()
