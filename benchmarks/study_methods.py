"""The study's methods: what a client can have without a generator, and the trained generators."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sglora_fed.adapters.batched import adapted
from sglora_fed.adapters.data import Prepared, few_shot, fold_groups, prepare
from sglora_fed.adapters.evaluation import score_tasks
from sglora_fed.adapters.training import task_losses
from sglora_fed.config.schema import FederationConfig, GeneratorConfig, TrainConfig
from sglora_fed.generators import fit_generator
from sglora_fed.generators.functional import (
    Factors,
    LinearGenerator,
    advance,
    clipped,
    first_factors,
    mended,
    predicted,
    smoothed,
)
from sglora_fed.seeds import derive_seed
from sglora_fed.zoo import Zoo
from sglora_fed.zoo.screening import voices

if TYPE_CHECKING:
    from study import Study

ROUNDS, LOCAL_STEPS = 20, 10
MOMENTUM = FederationConfig().shared_momentum
EXPERT = TrainConfig(steps=100, batch_size=32, lr=2e-3, checkpoints=20)
"""Of the experts and of the oracle alike."""

FEW = TrainConfig(steps=50, batch_size=32, lr=2e-3, checkpoints=1)
CENTRAL_STEPS = {"rules": 600, "styles": 400}


def measure(
    study: Study, found: dict[str, Any], keep: Callable[[dict[str, Any]], None]
) -> tuple[Factors, np.ndarray, np.ndarray]:
    """All methods; the functional coordinates, the shared LoRA they start at, and the last one."""
    methods: dict[str, list[float]] = found.setdefault("methods", {})
    methods |= {
        "zero_shot": study.accuracy(None, "none"),
        "described": study.accuracy(None, "phrases"),
        "described, one text for a label": study.accuracy(None, "whole"),
    }
    with timed(found, "zoo"):
        found["experts"] = len(study.zoo.ids)
    for name in ("soup", "nearest", "topk", "ridge", "sglora"):
        with timed(found, f"fit {name}"):
            generator = fitted(study, GeneratorConfig(), name)
            made = generator.generate(study.requests, 1, 0).adapters[:, 0]
        methods[name] = study.accuracy(made)
    with timed(found, "shared_lora"):
        vectors = shared_lora(study, ROUNDS)
    first, shared = vectors[study.shared_rounds - 1], vectors[-1]
    with timed(found, "functional without its start"):
        factors, zoo = trained(study, GeneratorConfig(), Watch(study, found), first=first)
    methods["shared_lora"] = study.accuracy(for_everybody(study, shared))
    found["shared_rounds"] = {
        str(number): study.accuracy(for_everybody(study, vectors[number - 1]))
        for number in range(4, ROUNDS + 1, 4)
    }
    found["directions"] = len(factors.basis)
    linear = smoothed(factors, zoo, GeneratorConfig().smoothing)
    methods["functional"] = study.accuracy(linear.adapters(study.requests))
    if study.kind == "rules":
        methods["functional, best threshold"] = best_thresholds(study, linear)
    keep(found)
    with timed(found, "oracle"):
        methods["oracle"] = oracle(study)
    for name, shots in (("local_5shot", 5), ("local_20shot", 20)):
        chosen = [few_shot(task, shots, study.seed) for task in study.clients]
        methods[name] = study.accuracy(locally(study, chosen, FEW))
    keep(found)
    return factors, first, shared


@contextmanager
def timed(found: dict[str, Any], what: str) -> Iterator[None]:
    """Seconds of one method, all clients or experts together."""
    started = time.perf_counter()
    yield
    found["seconds"][what] = round(time.perf_counter() - started, 2)


def fitted(study: Study, config: GeneratorConfig, name: str, zoo: Zoo | None = None) -> Any:
    """A generator that needs the zoo alone."""
    return fit_generator(config, name, zoo or study.zoo, study.seed)


def for_everybody(study: Study, vector: np.ndarray) -> np.ndarray:
    return np.broadcast_to(vector, (len(study.clients), study.layout.size))


def locally(study: Study, examples: Sequence[Any], config: TrainConfig) -> np.ndarray:
    """[n, D] each client's own adapter."""
    parts = [
        prepare(study.encoder, task, some, study.adapter.hints)
        for task, some in zip(study.clients, examples, strict=True)
    ]
    made: np.ndarray = study.train(study.start, parts, config, "local").final
    return made


def oracle(study: Study) -> list[float]:
    """Accuracy of an adapter of each client's own, trained on all its examples."""
    return study.accuracy(locally(study, [task.train for task in study.clients], EXPERT))


def best_thresholds(study: Study, linear: LinearGenerator) -> list[float]:
    """Accuracy with the offset of the last label that is best on a client's own test examples.

    No description can tell it: what is lost even so is no matter of the threshold.
    """
    tests = study.tests[study.adapter.hints]
    made = linear.adapters(study.requests)
    scores = score_tasks(study.encoder, tests, study.layout, made)
    return [_best(s.numpy(), t.targets) for s, t in zip(scores, tests, strict=True)]


def _best(scores: np.ndarray, targets: np.ndarray) -> float:
    gaps = np.sort(scores[:, :-1].max(axis=1) - scores[:, -1])
    found = []
    for offset in [-np.inf, *((gaps[1:] + gaps[:-1]) / 2), np.inf]:
        moved = np.hstack([scores[:, :-1], scores[:, -1:] + offset])
        found.append(float((moved.argmax(axis=1) == targets).mean()))
    return round(max(found), 4)


def shared_lora(
    study: Study,
    rounds: int,
    parts: Sequence[Prepared] | None = None,
    spoil: Callable[[np.ndarray], np.ndarray] = lambda updates: updates,
    momentum: float = MOMENTUM,
) -> list[np.ndarray]:
    """The shared LoRA after each round, over all experts or over those whose data are given."""
    vector, parts, found = study.start, parts or study.parts, []
    velocity = np.zeros_like(vector)
    for number in range(1, rounds + 1):
        some = study.practice(parts, "shared", number)
        updates = study.train(vector, some, study.round, "shared", number).final - vector
        velocity = momentum * velocity + spoil(updates).mean(axis=0)
        vector = vector + velocity
        found.append(vector)
    return found


class Watch:
    """Accuracy after some rounds."""

    def __init__(self, study: Study, found: dict[str, Any]) -> None:
        self._study, self._rounds = study, found.setdefault("rounds", {})

    def __call__(self, number: int, linear: LinearGenerator) -> None:
        if number % 2 == 0 or number <= self._study.shared_rounds + 1:
            self._rounds[str(number)] = self._study.accuracy(linear.adapters(self._study.requests))


def functional(study: Study, config: GeneratorConfig, **changes: Any) -> LinearGenerator:
    """The rounds of ``sglora_fed.federation.functional`` with every expert in each."""
    return smoothed(*trained(study, config, **changes), config.smoothing)


def trained(
    study: Study,
    config: GeneratorConfig,
    watch: Callable[[int, LinearGenerator], None] = lambda *_: None,
    *,
    zoo: Zoo | None = None,
    parts: Sequence[Prepared] | None = None,
    first: np.ndarray | None = None,
    numbers: range | None = None,
    spoil: Callable[[np.ndarray], np.ndarray] = lambda updates: updates,
    screen: bool = True,
    cut: Callable[[Factors, Zoo, float, np.ndarray], Factors] = predicted,
    local: Callable[..., np.ndarray] | None = None,
) -> tuple[Factors, Zoo]:
    """The experts' coordinates after some rounds, and the zoo that they belong to.

    They start at ``first`` [D], by default the shared LoRA of the rounds before.
    """
    zoo, parts, local = zoo or study.zoo, parts or study.parts, local or own_training
    numbers = numbers or range(study.shared_rounds + 1, ROUNDS + 1)
    everybody = np.arange(len(zoo.ids))
    if first is None:
        first = shared_lora(study, numbers.start - 1, parts, spoil)[-1]
    factors = first_factors(first, len(everybody))
    watch(numbers.start - 1, smoothed(factors, zoo, config.smoothing))
    for done, number in enumerate(numbers):
        linear = smoothed(factors, zoo, config.smoothing)
        rng = np.random.default_rng(derive_seed(study.seed, "wording", number))
        spoken = rng.integers(zoo.wordings.shape[1], size=len(everybody))
        starts = linear.adapters(zoo.wordings[everybody, spoken])
        rate = study.round.lr * (1 - 0.9 * done / len(numbers))
        moved = local(study, starts, parts, replace(study.round, lr=rate), number)
        updates, _ = clipped(spoil(moved), voices(zoo.owners))
        factors = advance(factors, updates)
        if screen:
            factors = mended(factors, zoo, study.layout, config.smoothing)
        factors = cut(factors, zoo, config.smoothing, everybody)
        watch(number, smoothed(factors, zoo, config.smoothing))
    return factors, zoo


def own_training(
    study: Study, starts: np.ndarray, parts: Sequence[Prepared], config: TrainConfig, number: int
) -> np.ndarray:
    """[E, D] what the experts' local steps change."""
    some = study.practice(parts, "round", number)
    moved: np.ndarray = study.train(starts, some, config, "round", number).final - starts
    return moved


def pooled_loss(
    study: Study, parts: Sequence[Prepared], vectors: torch.Tensor, rows: Sequence[np.ndarray]
) -> torch.Tensor:
    """Mean loss of some tasks; those with as many candidate texts share a batch."""
    total = vectors.new_zeros(())
    for group in fold_groups(parts, 32, len(parts)):
        with adapted(study.encoder.model, study.layout, vectors[group]):
            chosen = [parts[i] for i in group]
            total = total + task_losses(study.encoder, chosen, [rows[i] for i in group]).sum()
    return total / len(parts)


def pooled_data(study: Study) -> Iterator[tuple[str, list[float]]]:
    """The reference with all experts' data in one place."""
    made = central(study, 32, CENTRAL_STEPS[study.kind]).adapters(study.requests)
    yield "central", study.accuracy(made)


def central(study: Study, rank: int, steps: int, lr: float = 1e-3) -> LinearGenerator:
    """All experts' data in one place: every factor by gradient descent, from an untrained LoRA."""
    torch.manual_seed(study.seed)
    device, rng = study.encoder.device, np.random.default_rng(study.seed)
    wordings = study.zoo.wordings
    centre = wordings.reshape(-1, wordings.shape[2]).mean(axis=0)
    spread = float(((wordings - centre) ** 2).mean() ** -0.5)
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
        spoken = wordings[some, rng.integers(wordings.shape[1], size=16)]
        inputs = torch.from_numpy((spoken - centre) * spread).to(device)
        rows = [rng.choice(len(study.parts[i]), 32, replace=False) for i in some]
        optimiser.zero_grad()
        loss = pooled_loss(study, [study.parts[i] for i in some], up(down(inputs)), rows)
        torch.autograd.backward(loss)
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
