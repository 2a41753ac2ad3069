"""Choose the learning rate and the steps of every method that trains on the client.

    python benchmarks/tune_baselines.py experiment=assistant [--jobs 8] [--device cuda]

On held-out experts, never on clients: a quarter of the experts is held out, the others train the
shared LoRA and the generator, and each held-out expert fine-tunes as a client would, from every
start, with every rate and number of steps. What counts is the mean accuracy on examples that it
held back from its own. The same grid for all methods: none is tuned harder than another. Writes
``benchmarks/results/tuning-<family>.json`` with the whole grid and prints the choice as YAML.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch
import yaml

import machine
from held_out import HeldOut
from sglora_fed.adapters import training
from sglora_fed.adapters.data import Prepared
from sglora_fed.adapters.training import train_adapters
from sglora_fed.config import compose
from sglora_fed.config.schema import FineTuning
from sglora_fed.federation.finetuned import FINE_TUNED, examples_of, training_of
from sglora_fed.seeds import derive_seed
from sglora_fed.tasks import load_family

RATES = (2.5e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2)
STEPS = (10, 20, 40, 80, 160)

TOLERANCE = 0.005
"""Accuracy that these few experts cannot tell from none; it is not worth a client's time."""


@dataclass(frozen=True)
class Grid:
    """What is tried for each method: all pairs."""

    rates: Sequence[float]
    steps: Sequence[int]

    def __iter__(self) -> Iterator[FineTuning]:
        return (FineTuning(rate, steps) for rate, steps in product(self.rates, self.steps))


@dataclass(frozen=True)
class Trial:
    """What held-out experts fine-tune with.

    Attributes:
        world: a federation without them.
        starts: start -> [J, D].
        parts: method -> what each of them learns from.
        tests: what each is measured on.
    """

    world: HeldOut
    starts: Mapping[str, np.ndarray]
    parts: Mapping[str, list[Prepared]]
    tests: list[Prepared]

    def start(self, name: str) -> list[float]:
        """[J] accuracies before anybody fine-tunes."""
        return list(map(float, self.world.accuracy(self.starts[name], self.tests)))

    def point(self, job: tuple[str, FineTuning]) -> list[float]:
        """[J] accuracies after fine-tuning by a method, with a rate and a number of steps."""
        world, (name, tuned) = self.world, job
        vectors = train_adapters(
            world.encoder,
            world.layout,
            self.starts[FINE_TUNED[name].start],
            self.parts[name],
            training_of(tuned, world.config),
            [derive_seed(world.seed, "local", task.id) for task in world.judges],
        ).final
        return list(map(float, self.world.accuracy(vectors, self.tests)))


def opened(world: HeldOut) -> Trial:
    """Train what the held-out experts start from, and prepare their examples."""
    shape = (len(world.judges), world.layout.size)
    learnt = {
        name: [replace(task, train=examples_of(name, task, world.seed)) for task in world.judges]
        for name in FINE_TUNED
    }
    return Trial(
        world,
        {
            "untrained": np.broadcast_to(world.untrained, shape),
            "shared": np.broadcast_to(world.shared, shape),
            "generated": world.generated,
        },
        {name: world.prepared(tasks) for name, tasks in learnt.items()},
        world.prepared(world.judges, test=True),
    )


def tried(trial: Trial, grid: Grid, jobs: int) -> dict[str, list[list[float]]]:
    """Method -> the held-out experts' accuracies [points of the grid, J]; ``none``: no training.

    Args:
        trial: the experts.
        grid: what to try.
        jobs: processes that share the work.
    """
    wanted = [(name, tuned) for name in FINE_TUNED for tuned in grid]
    measured = iter(in_processes(trial, wanted, jobs))
    before = {f"none: {name}": [trial.start(name)] for name in trial.starts}
    return before | {name: [next(measured) for _ in grid] for name in FINE_TUNED}


def in_processes(
    trial: Trial, wanted: list[tuple[str, FineTuning]], jobs: int
) -> list[list[float]]:
    """Each point in its order; children get the trial by fork, a GPU allows no children."""
    if jobs == 1:
        return list(map(trial.point, wanted))
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(jobs, fork, _inherit, (trial,)) as pool:
        return list(pool.map(_point, wanted))


def _inherit(trial: Trial) -> None:
    _inherited.append(trial)


def _point(job: tuple[str, FineTuning]) -> list[float]:
    return _inherited[0].point(job)


_inherited: list[Trial] = []
"""In a child process: what it works on."""


def chosen(grid: Grid, found: Sequence[dict[str, list[list[float]]]]) -> dict[str, FineTuning]:
    """Method -> its point of the grid, by the mean over all seeds' held-out experts.

    Of all points within ``TOLERANCE`` of the highest mean those with the fewest steps, and of these
    the highest.
    """
    points = list(grid)
    means = {name: pooled(found, name).mean(axis=1).tolist() for name in FINE_TUNED}
    return {name: best(dict(zip(points, values, strict=True))) for name, values in means.items()}


def best(means: Mapping[FineTuning, float]) -> FineTuning:
    """The point that :func:`chosen` takes."""
    enough = max(means.values()) - TOLERANCE
    fewest = min(point.steps for point, mean in means.items() if mean >= enough)
    return max((p for p in means if p.steps == fewest), key=means.__getitem__)


def pooled(found: Sequence[dict[str, list[list[float]]]], name: str) -> np.ndarray:
    """[points, judges of all seeds] accuracies."""
    return np.concatenate([np.array(one[name]) for one in found], axis=1)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Try, choose, write and print; returns what was written."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("overrides", nargs="*", help="of the run, such as experiment=assistant")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=1, help="processes, on a CPU")
    given = parser.parse_intermixed_args(arguments)
    overrides = (*given.overrides, f"backbone.device={given.device}")
    config = compose(overrides)
    if given.device == "cpu":
        torch.set_num_threads(1)
    else:
        training.FOLD = 64  # a GPU has room for more adapters in one batch
    grid = Grid(given.rates, given.steps)
    tasks = tuple(load_family(config.family).of_role("expert"))
    worlds = [HeldOut(overrides, seed, tasks) for seed in given.seeds]
    found = [tried(opened(world), grid, given.jobs) for world in worlds]
    choice = {
        name: {"lr": tuned.lr, "steps": tuned.steps} for name, tuned in chosen(grid, found).items()
    }
    facts = machine.facts("torch", "transformers", "numpy")
    result = facts | {
        "device": given.device,
        "overrides": given.overrides,
        "seeds": given.seeds,
        "held_out": [len(one["oracle"][0]) for one in found],
        "rates": list(given.rates),
        "steps": list(given.steps),
        "accuracy": {name: summarised(found, name, grid) for name in found[0]},
        "chosen": choice,
    }
    machine.write(f"tuning-{config.family.name}", result)
    print(yaml.safe_dump({"tuning": choice}, sort_keys=False))
    return result


def summarised(
    found: Sequence[dict[str, list[list[float]]]], name: str, grid: Grid
) -> list[list[float]]:
    """Mean accuracy of each rate (rows) and number of steps (columns); one number untrained."""
    means = pooled(found, name).mean(axis=1).round(4)
    rows = len(grid.rates) if name in FINE_TUNED else 1
    table: list[list[float]] = means.reshape(rows, -1).tolist()
    return table


if __name__ == "__main__":
    main()
