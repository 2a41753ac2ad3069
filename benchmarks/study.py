"""All methods on public data as rules or styles, with controls, curves and what was left out.

    python benchmarks/study.py clinc150 --source DIR --as rules --seed 0 [--device cuda]

Federated training runs here in one process, with the functions that the Flower apps call. Writes
``benchmarks/results/study-<dataset>-<kind>-<hints>-<seed>.json`` with the accuracy of every client
under every method; ``study_table.py`` pools the seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

import machine
import study_methods
import study_variants
from convert_datasets import SOURCES, convert
from sglora_fed.adapters import training
from sglora_fed.adapters.data import Prepared, prepare
from sglora_fed.adapters.evaluation import score_tasks
from sglora_fed.adapters.layout import initial_vector, layout_of
from sglora_fed.adapters.training import train_adapters
from sglora_fed.backbones import load_backbone, load_describer
from sglora_fed.config.schema import (
    AdapterConfig,
    BackboneConfig,
    FamilyConfig,
    GeneratorConfig,
    TrainConfig,
)
from sglora_fed.generators.functional import smoothed
from sglora_fed.seeds import derive_seed
from sglora_fed.tasks import rules
from sglora_fed.tasks.other_author import OTHER_AUTHOR
from sglora_fed.tasks.respelling import respelt
from sglora_fed.tasks.types import Task
from sglora_fed.zoo import Zoo

WORDINGS = 6
SIZES = {"rules": (64, 20, 320, 120), "styles": (40, 16, 1000, 300)}
RULE_TARGETS, STYLE_TARGETS = (
    ("value", "output.dense"),
    ("query", "value", "output.dense", "intermediate.dense"),
)
"""Rules need the last layer alone; styles change what lower layers read: all are adapted."""

RANKS = {"rules": 4, "styles": 16}
"""Of all adapters."""

RATES = {"rules": 5e-3, "styles": 3e-3}
"""Of the federated rounds."""


@dataclass(frozen=True)
class Study:
    """One data set, kind of task and seed; everything else as in a run."""

    dataset: str
    source: Path
    kind: str
    seed: int
    backbone: BackboneConfig
    adapter: AdapterConfig
    experts_wanted: int = 0
    several_ways: bool = False
    respelt: float = 0.0

    @cached_property
    def family(self) -> FamilyConfig:
        experts, clients, train, test = SIZES[self.kind]
        experts = self.experts_wanted or experts
        both = {"rule_experts": 0, "style_experts": 0}
        both[f"{self.kind[:-1]}_experts"] = experts
        return FamilyConfig(
            seed=self.seed,
            clients_per_split=clients,
            train_per_client=train,
            test_per_client=test,
            unseen_forms=True,
            unseen_styles=1 if experts > 72 else 2,
            several_ways=self.several_ways,
            **both,
        )

    @property
    def shared_rounds(self) -> int:
        """Of the rounds, those of FedAvg that `functional` starts after.

        With labels alone FedAvg learns nothing about rules, so there is one.
        """
        if self.kind == "styles":
            return 10
        return 1 if self.adapter.hints == "none" else 16

    @property
    def round(self) -> TrainConfig:
        """Of an expert in a federated round."""
        steps, rate = study_methods.LOCAL_STEPS, RATES[self.kind]
        return TrainConfig(steps=steps, batch_size=32, lr=rate, checkpoints=1)

    @cached_property
    def tasks(self) -> list[Task]:
        return list(convert(self.dataset, self.source, self.family).tasks)

    @cached_property
    def reworded(self) -> dict[str, str]:
        """Client -> its rule in the frames of another author, which no expert shows."""
        unseen = partial(rules.rule_wordings, author=OTHER_AUTHOR)
        with mock.patch.object(rules, "rule_wordings", unseen):
            tasks = convert(self.dataset, self.source, self.family).tasks
        return {task.id: task.description for task in tasks}

    @cached_property
    def encoder(self) -> Any:
        return load_backbone(self.backbone, self.adapter)

    @cached_property
    def layout(self) -> Any:
        rank, alpha = self.adapter.rank, self.adapter.alpha
        return layout_of(self.encoder.model, self.encoder.adaptable(), rank, alpha)

    @cached_property
    def start(self) -> np.ndarray:
        return initial_vector(self.layout, derive_seed(self.seed, "adapter_start")).numpy()

    @cached_property
    def experts(self) -> list[Task]:
        return [task for task in self.tasks if task.role == "expert"]

    @cached_property
    def clients(self) -> list[Task]:
        return [task for task in self.tasks if task.role == "client"]

    @cached_property
    def parts(self) -> list[Prepared]:
        return [self.prepared(task) for task in self.experts]

    @cached_property
    def tests(self) -> dict[str, list[Prepared]]:
        """For each way to have the clients' own words in the candidate texts."""
        return {
            hints: [prepare(self.encoder, task, task.test, hints) for task in self.clients]
            for hints in ("none", "whole", "phrases")
        }

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        return np.asarray(load_describer(self.backbone).encode(list(texts)))

    @cached_property
    def zoo(self) -> Zoo:
        trained = self.train(self.start, self.parts, study_methods.EXPERT, "expert")
        return replace(self.wordings, means=trained.mean, variances=trained.variance)

    @cached_property
    def wordings(self) -> Zoo:
        """The experts' descriptions with untrained adapters: enough for `functional`."""
        texts = [(t.description, *t.paraphrases)[:WORDINGS] for t in self.experts]
        rows = self.embed([text for some in texts for text in some])
        means = np.repeat(self.start[None], len(texts), axis=0)
        return Zoo(
            tuple(task.id for task in self.experts),
            rows.reshape(len(texts), -1, rows.shape[1]).astype(np.float32),
            means,
            np.zeros_like(means),
            np.array([len(part) for part in self.parts], np.int64),
        )

    @cached_property
    def requests(self) -> np.ndarray:
        return self.embed([self.spoken(task) for task in self.clients])

    def spoken(self, task: Task) -> str:
        """As the clients of a run choose their words."""
        choices = (task.description, *task.paraphrases)
        return choices[derive_seed(self.seed, "wording", task.id) % len(choices)]

    def train(
        self,
        starts: np.ndarray,
        parts: Sequence[Prepared],
        config: TrainConfig,
        *purpose: Any,
        layout: Any = None,
    ) -> Any:
        seeds = [derive_seed(self.seed, *purpose, number) for number in range(len(parts))]
        layout = layout or self.layout
        starts = np.broadcast_to(starts, (len(parts), layout.size))
        return train_adapters(self.encoder, layout, starts, parts, config, seeds)

    def practice(self, parts: Sequence[Prepared], *purpose: Any) -> list[Prepared]:
        """What all experts train on in a round, some in a made-up spelling."""
        if not self.respelt:
            return list(parts)
        count = self.round.steps * self.round.batch_size
        found = []
        for task, part in zip(self.experts, parts, strict=True):
            own = respelt(task, self.respelt, count, derive_seed(self.seed, *purpose, task.id))
            found.append(part if own is task else self.prepared(own))
        return found

    def prepared(self, task: Task) -> Prepared:
        return prepare(self.encoder, task, task.train, self.adapter.hints)

    def accuracy(self, vectors: np.ndarray | None, hints: str | None = None) -> list[float]:
        tests = self.tests[hints or self.adapter.hints]
        layout = None if vectors is None else self.layout
        scores = score_tasks(self.encoder, tests, layout, vectors)
        right = [
            float((score.argmax(1).numpy() == test.targets).mean())
            for score, test in zip(scores, tests, strict=True)
        ]
        return [round(value, 4) for value in right]


def methods(study: Study, other: Study | None, keep: Callable[[dict[str, Any]], None]) -> None:
    """All methods and controls of one seed; what is measured is kept at once."""
    found: dict[str, Any] = {
        "experts": len(study.experts),
        "splits": [task.split for task in study.clients],
        "clients": [task.id for task in study.clients],
        "numbers": {
            "D": study.layout.size,
            "d": study.requests.shape[1],
            "shared_rounds": study.shared_rounds,
        },
        "seconds": {},
    }
    factors, first, shared = study_methods.measure(study, found, keep)
    linear = smoothed(factors, study.zoo, GeneratorConfig().smoothing)
    study_variants.controls(study, linear, found)
    keep(found)
    if other is not None:
        found["transfer"] = study_variants.transfer(study, linear, other)
        keep(found)
    if study.kind == "rules":
        found["confidence"] = study_variants.confidence(study, factors, first, shared)
        keep(found)


def more(
    study: Study, part: str, found: dict[str, Any], keep: Callable[[dict[str, Any]], None]
) -> None:
    """One of the further parts; ``found`` has the methods as they are."""
    found.setdefault("parts", {})[part] = f"{device_name(study.backbone.device)}: {command()}"
    place = study_variants.PLACES.get(part, "variants")
    for name, values in study_variants.PARTS[part](study):
        found.setdefault(place, {})[name] = values
        keep(found)


def main() -> None:
    """Run one study and write its numbers."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("dataset", choices=sorted(SOURCES))
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--as", dest="kind", choices=sorted(SIZES), required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", help="folder of all-MiniLM-L6-v2; default: as in a run")
    parser.add_argument(
        "--parts",
        default="methods",
        help=f"comma-separated: methods, then {', '.join(study_variants.PARTS)}",
    )
    parser.add_argument("--hints", default="phrases", help="adapter.hints: phrases, whole or none")
    parser.add_argument("--experts", type=int, default=0)
    parser.add_argument("--other", type=Path, help="HWU64: rules over a catalogue never seen")
    given = parser.parse_args()
    if given.kind == "styles" and "wider" in given.parts.split(","):
        parser.error("--parts wider is for rules: styles adapt all layers")
    if given.device != "cpu":
        # A GPU has room for more adapters in one batch, fewer where all layers keep activations.
        training.FOLD = 64 if given.kind == "rules" else 16
        if given.kind == "styles":
            torch.set_float32_matmul_precision("high")  # TF32: all layers train, which takes long
    backbone = BackboneConfig(path=given.model, device=given.device)
    targets, layers = (RULE_TARGETS, (5,)) if given.kind == "rules" else (STYLE_TARGETS, ())
    rank = RANKS[given.kind]
    adapter = AdapterConfig(
        targets=targets, layers=layers, rank=rank, alpha=2.0 * rank, hints=given.hints
    )

    def study(dataset: str, source: Path) -> Study:
        return Study(dataset, source, given.kind, given.seed, backbone, adapter, given.experts)

    facts = machine.facts("torch", "transformers", "numpy")
    facts |= {"device": device_name(given.device), "command": command()}
    size = f"-{given.experts}" if given.experts else ""
    stem = f"study-{given.dataset}-{given.kind}{size}-{given.hints}-{given.seed}"
    other = study("hwu64", given.other) if given.other else None
    own = study(given.dataset, given.source)
    for part in given.parts.split(","):
        if part == "methods":
            methods(own, other, lambda found: machine.write(stem, facts | found))
        else:
            path = machine.RESULTS / f"{stem}.json"
            found = json.loads(path.read_text(encoding="utf-8"))
            more(own, part, found, lambda found: machine.write(stem, found))


def command() -> str:
    """The arguments, without where files lay on the machine."""
    places = {"--source", "--other", "--model"}
    return " ".join("DIR" if last in places else word for last, word in pairwise(sys.argv))


def device_name(device: str) -> str:
    """The card's name, or cpu."""
    return torch.cuda.get_device_name() if device != "cpu" else "cpu"


if __name__ == "__main__":
    main()
