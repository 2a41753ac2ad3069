"""All methods on public data as rules or styles, with controls, curves and what was left out.

    python benchmarks/study.py clinc150 --source DIR --as rules --seed 0 [--device cuda]

Federated training runs here in one process, with the functions that the Flower apps call. Writes
``benchmarks/results/study-<dataset>-<kind>-<seed>.json`` with the accuracy of every client under
every method; ``study_table.py`` pools the seeds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
import machine
from convert_datasets import SOURCES, convert

from sglora_fed.adapters import (
    Prepared,
    few_shot,
    initial_vector,
    layout_of,
    prepare,
    score_tasks,
    train_adapters,
    training,
)
from sglora_fed.adapters.batched import adapted
from sglora_fed.adapters.training import task_losses
from sglora_fed.backbones import load_backbone, load_describer
from sglora_fed.config.schema import (
    AdapterConfig,
    BackboneConfig,
    FamilyConfig,
    GeneratorConfig,
    TrainConfig,
)
from sglora_fed.generators import make_generator
from sglora_fed.generators.functional import (
    Factors,
    LinearGenerator,
    advance,
    clipped,
    first_factors,
    smoothed,
)
from sglora_fed.seeds import derive_seed
from sglora_fed.tasks import rules
from sglora_fed.tasks.types import Task
from sglora_fed.zoo import Zoo

ROUNDS, SHARED_ROUNDS, LOCAL_STEPS, WORDINGS = 17, 3, 10, 6
EXPERT = TrainConfig(steps=100, batch_size=32, lr=2e-3, checkpoints=20)
ROUND = TrainConfig(steps=LOCAL_STEPS, batch_size=32, lr=5e-3, checkpoints=1)
FEW = TrainConfig(steps=50, batch_size=32, lr=2e-3, checkpoints=1)
SIZES = {"rules": (64, 20, 320, 120), "styles": (40, 16, 1000, 300)}
JUNK = "the quick brown fox jumps over the lazy dog"


@dataclass(frozen=True)
class Study:
    """One data set, kind of task and seed."""

    dataset: str
    source: Path
    kind: str
    seed: int
    backbone: BackboneConfig
    adapter: AdapterConfig

    @cached_property
    def family(self) -> FamilyConfig:
        experts, clients, train, test = SIZES[self.kind]
        both = {"rule_experts": 0, "style_experts": 0}
        both[f"{self.kind[:-1]}_experts"] = experts
        return FamilyConfig(
            seed=self.seed,
            clients_per_split=clients,
            train_per_client=train,
            test_per_client=test,
            unseen_forms=True,
            unseen_styles=2,
            **both,
        )

    @cached_property
    def tasks(self) -> list[Task]:
        return list(convert(self.dataset, self.source, self.family).tasks)

    @cached_property
    def reworded(self) -> dict[str, str]:
        """Client -> its rule in the frames of another author, which no expert shows."""
        unseen = partial(rules.rule_wordings, unseen=True)
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
        return [prepare(self.encoder, task, task.train) for task in self.experts]

    @cached_property
    def tests(self) -> list[Prepared]:
        return [prepare(self.encoder, task, task.test) for task in self.clients]

    @cached_property
    def hinted(self) -> list[Prepared]:
        return [prepare(self.encoder, task, task.test, hints=True) for task in self.clients]

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        return np.asarray(load_describer(self.backbone).encode(list(texts)))

    @cached_property
    def zoo(self) -> Zoo:
        trained = self.train(self.start, self.parts, EXPERT, "expert")
        texts = [(t.description, *t.paraphrases)[:WORDINGS] for t in self.experts]
        rows = self.embed([text for some in texts for text in some])
        return Zoo(
            tuple(task.id for task in self.experts),
            rows.reshape(len(texts), -1, rows.shape[1]).astype(np.float32),
            trained.mean,
            trained.variance,
            np.array([len(part) for part in self.parts], np.int64),
        )

    @cached_property
    def requests(self) -> np.ndarray:
        return self.embed([wording(task, self.seed) for task in self.clients])

    def train(
        self, starts: np.ndarray, parts: Sequence[Prepared], config: TrainConfig, *purpose: Any
    ) -> Any:
        seeds = [derive_seed(self.seed, *purpose, number) for number in range(len(parts))]
        starts = np.broadcast_to(starts, (len(parts), self.layout.size))
        return train_adapters(self.encoder, self.layout, starts, parts, config, seeds)

    def accuracy(self, vectors: np.ndarray | None, hints: bool = False) -> list[float]:
        tests = self.hinted if hints else self.tests
        layout = None if vectors is None else self.layout
        scores = score_tasks(self.encoder, tests, layout, vectors)
        right = [
            float((score.argmax(1).numpy() == test.targets).mean())
            for score, test in zip(scores, tests, strict=True)
        ]
        return [round(value, 4) for value in right]


def wording(task: Task, seed: int) -> str:
    """As the clients of a run choose theirs."""
    choices = (task.description, *task.paraphrases)
    return choices[derive_seed(seed, "wording", task.id) % len(choices)]


def shared_lora(study: Study, rounds: int) -> np.ndarray:
    """FedAvg over all experts."""
    vector = study.start
    for number in range(1, rounds + 1):
        vector = study.train(vector, study.parts, ROUND, "shared", number).final.mean(axis=0)
    return vector


def functional(
    study: Study,
    start: np.ndarray,
    config: GeneratorConfig,
    watch: Callable[[int, LinearGenerator], None] = lambda *_: None,
    spoil: Callable[[np.ndarray], np.ndarray] = lambda updates: updates,
    rows: Sequence[int] | None = None,
    first: Factors | None = None,
) -> LinearGenerator:
    """The rounds of ``sglora_fed.federation.functional`` with every expert in each."""
    chosen = list(range(len(study.experts))) if rows is None else list(rows)
    zoo = study.zoo.select(np.array(chosen))
    parts = [study.parts[i] for i in chosen]
    factors = first or first_factors(start, len(chosen))
    for number in range(1, ROUNDS + 1):
        linear = smoothed(factors, zoo, config.smoothing)
        rng = np.random.default_rng(derive_seed(study.seed, "wording", number))
        spoken = zoo.wordings[np.arange(len(chosen)), rng.integers(WORDINGS, size=len(chosen))]
        starts = linear.adapters(spoken)
        rate = ROUND.lr * (1 - 0.9 * (number - 1) / ROUNDS)
        ends = study.train(starts, parts, replace(ROUND, lr=rate), "round", number).final
        updates, _ = clipped(spoil(ends - starts))
        factors = advance(factors, np.arange(len(chosen)), updates, config.rank)
        watch(number, smoothed(factors, zoo, config.smoothing))
    return smoothed(factors, zoo, config.smoothing)


def central(study: Study, rank: int, steps: int, lr: float = 1e-3) -> LinearGenerator:
    """Upper reference with all experts' data in one place: every factor by gradient descent."""
    torch.manual_seed(study.seed)
    device, rng = study.encoder.device, np.random.default_rng(study.seed)
    centre = study.zoo.wordings.reshape(-1, study.zoo.wordings.shape[2]).mean(axis=0)
    spread = float(((study.zoo.wordings - centre) ** 2).mean() ** -0.5)
    down = torch.nn.Linear(len(centre), rank, bias=False).to(device)
    up = torch.nn.Linear(rank, study.layout.size, bias=True).to(device)
    with torch.no_grad():
        up.weight.normal_(std=1e-3)
        up.bias.copy_(torch.from_numpy(study.start))
    groups = [
        {"params": [*down.parameters(), up.bias], "lr": lr},
        {"params": [up.weight], "lr": lr / 10},
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=0.0, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, lr / 20)
    for _ in range(steps):
        some = rng.choice(len(study.experts), 16, replace=False)
        spoken = study.zoo.wordings[some, rng.integers(WORDINGS, size=16)]
        inputs = torch.from_numpy((spoken - centre) * spread).to(device)
        rows = [rng.choice(len(study.parts[i]), 32, replace=False) for i in some]
        optimiser.zero_grad()
        with adapted(study.encoder.model, study.layout, up(down(inputs))):
            losses = task_losses(study.encoder, [study.parts[i] for i in some], rows)
            torch.autograd.backward(losses.mean())
        torch.nn.utils.clip_grad_norm_([*down.parameters(), *up.parameters()], 1.0)
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        return LinearGenerator(
            centre,
            (down.weight.T * spread).cpu().numpy(),
            up.weight.T.contiguous().cpu().numpy(),
            up.bias.cpu().numpy(),
        )


def alternatives(study: Study) -> dict[str, list[float]]:
    """What needs no functional generator."""
    found = {"zero_shot": study.accuracy(None), "described": study.accuracy(None, hints=True)}
    for name in ("soup", "nearest", "topk", "ridge", "sglora"):
        generator = make_generator(GeneratorConfig(), name)
        generator.fit(study.zoo, derive_seed(study.seed, "fit", name))
        found[name] = study.accuracy(generator.generate(study.requests, 1, 0).adapters[:, 0])
    for name, shots in (("local_5shot", 5), ("local_20shot", 20)):
        chosen = [few_shot(task, shots, study.seed) for task in study.clients]
        found[name] = study.accuracy(locally(study, chosen, FEW))
    found["oracle"] = study.accuracy(locally(study, [t.train for t in study.clients], EXPERT))
    return found


def locally(study: Study, examples: Sequence[Any], config: TrainConfig) -> np.ndarray:
    parts = [prepare(study.encoder, t, e) for t, e in zip(study.clients, examples, strict=True)]
    return study.train(study.start, parts, config, "local").final


def controls(study: Study, linear: LinearGenerator) -> dict[str, list[float]]:
    """Descriptions that say nothing, somebody else's, or the same in other words."""
    requests = study.requests
    same = {"junk": study.embed([JUNK]), "mean": requests.mean(axis=0, keepdims=True)}
    found = {
        name: study.accuracy(linear.adapters(np.broadcast_to(row, requests.shape)))
        for name, row in same.items()
    }
    found["shuffled"] = study.accuracy(linear.adapters(np.roll(requests, 1, axis=0)))
    if study.kind == "rules":
        texts = [study.reworded[task.id] for task in study.clients]
        found["other_author"] = study.accuracy(linear.adapters(study.embed(texts)))
    seen = [task.description for task in study.clients]
    found["other_paraphrase"] = study.accuracy(linear.adapters(study.embed(seen)))
    return found


def flip(updates: np.ndarray) -> np.ndarray:
    """One expert returns the opposite of what it learnt."""
    return np.vstack([-updates[:1], updates[1:]])


def variants(study: Study, shared: np.ndarray) -> Iterator[tuple[str, list[float]]]:
    """One change at a time, and fewer experts."""
    base = GeneratorConfig()
    runs: dict[str, dict[str, Any]] = {
        "rank 8": {"config": replace(base, rank=8)},
        "rank 63": {"config": replace(base, rank=63)},
        "smoothing 0.02": {"config": replace(base, smoothing=0.02)},
        "smoothing 0.5": {"config": replace(base, smoothing=0.5)},
        "cold start": {"start": study.start},
        "start at the zoo": {"first": at_zoo(study)},
        "one sign-flipped expert": {"spoil": flip},
        "16 experts": {"rows": range(16)},
        "32 experts": {"rows": range(32)},
    }
    linear = central(study, 64, 600)
    yield "central", study.accuracy(linear.adapters(study.requests))
    for name, change in runs.items():
        linear = functional(study, **({"start": shared, "config": base} | change))
        yield name, study.accuracy(linear.adapters(study.requests))


def at_zoo(study: Study) -> Factors:
    everybody = np.arange(len(study.experts))
    first = first_factors(study.start, len(everybody))
    return advance(first, everybody, study.zoo.means - study.start, len(everybody))


def run(study: Study, with_variants: bool, keep: Callable[[dict[str, Any]], None]) -> None:
    """Everything of one seed; what is measured is kept at once."""
    started = time.perf_counter()
    found: dict[str, Any] = {"methods": alternatives(study), "rounds": {}, "variants": {}}
    shared = shared_lora(study, SHARED_ROUNDS)

    def watch(number: int, linear: LinearGenerator) -> None:
        if number % 4 == 1:
            values = study.accuracy(linear.adapters(study.requests))
            found["rounds"][str(SHARED_ROUNDS + number)] = values

    linear = functional(study, shared, GeneratorConfig(), watch)
    found["methods"]["functional"] = study.accuracy(linear.adapters(study.requests))
    everybody = shared_lora(study, SHARED_ROUNDS + ROUNDS)
    vectors = np.broadcast_to(everybody, (len(study.clients), study.layout.size))
    found["methods"]["shared_lora"] = study.accuracy(vectors)
    found["controls"] = controls(study, linear)
    found["splits"] = [task.split for task in study.clients]
    found["clients"] = [task.id for task in study.clients]
    found["seconds"] = round(time.perf_counter() - started, 1)
    keep(found)
    for name, values in variants(study, shared) if with_variants else ():
        found["variants"][name] = values
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
    parser.add_argument("--layers", type=int, nargs="*", default=[5], help="none: all")
    parser.add_argument("--variants", action="store_true")
    given = parser.parse_args()
    if given.device != "cpu":
        training.FOLD = 64  # a GPU has room for more adapters in one batch
    backbone = BackboneConfig(path=given.model, device=given.device)
    adapter = AdapterConfig(layers=tuple(given.layers))
    source, kind = given.source, given.kind
    study = Study(given.dataset, source, kind, given.seed, backbone, adapter)
    facts = machine.facts("torch", "transformers", "numpy")
    facts["device"] = device_name(given.device)
    name = f"study-{given.dataset}-{kind}-{given.seed}"
    run(study, given.variants, lambda found: machine.write(name, facts | found))


def device_name(device: str) -> str:
    """The card's name, or cpu."""
    return torch.cuda.get_device_name() if device != "cpu" else "cpu"


if __name__ == "__main__":
    main()
