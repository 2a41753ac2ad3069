"""Choose the learning rate and the steps of every method that trains on the client.

    python benchmarks/tune_baselines.py family=assistant [--seeds 0 1] [--device cuda]

On held-out experts, never on clients: a quarter of the experts is held out, the others train the
shared LoRA and the generator, and each held-out expert fine-tunes as a client would, from every
start, with every rate and number of steps. What counts is the mean accuracy on examples that it
held back from its own. The same grid for all methods: none is tuned harder than another. Writes
``benchmarks/results/tuning-<family>.json`` with the whole grid and prints the choice as YAML.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

sys.path.insert(0, str(Path(__file__).parent))
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

RATES = (5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2)
STEPS = (5, 10, 20, 40, 80, 160)


@dataclass(frozen=True)
class Grid:
    """What is tried for each method: all pairs."""

    rates: Sequence[float]
    steps: Sequence[int]

    def __iter__(self) -> Iterator[FineTuning]:
        return (FineTuning(rate, steps) for rate, steps in product(self.rates, self.steps))


def tried(world: HeldOut, grid: Grid) -> dict[str, list[list[float]]]:
    """Method -> the held-out experts' accuracies [points of the grid, J]; ``none`` is no training.

    Args:
        world: a federation without them.
        grid: what to try.
    """
    tests = world.prepared(world.judges, test=True)
    starts = {
        "untrained": np.broadcast_to(world.untrained, (len(tests), world.layout.size)),
        "shared": np.broadcast_to(world.shared, (len(tests), world.layout.size)),
        "generated": world.generated,
    }
    found = {
        f"none: {name}": [world.accuracy(vectors, tests).tolist()]
        for name, vectors in starts.items()
    }
    for name, method in FINE_TUNED.items():
        learnt = [replace(task, train=examples_of(name, task, world.seed)) for task in world.judges]
        parts = world.prepared(learnt)
        found[name] = [
            world.accuracy(trained(world, starts[method.start], parts, tuned), tests).tolist()
            for tuned in grid
        ]
    return found


def trained(
    world: HeldOut, starts: np.ndarray, parts: list[Prepared], tuned: FineTuning
) -> np.ndarray:
    """[J, D] what the held-out experts have after fine-tuning."""
    config = training_of(tuned, world.config)
    seeds = [derive_seed(world.seed, "local", task.id) for task in world.judges]
    return train_adapters(world.encoder, world.layout, starts, parts, config, seeds).final


def chosen(grid: Grid, found: Sequence[dict[str, list[list[float]]]]) -> dict[str, FineTuning]:
    """Method -> the point of the grid with the highest mean over all seeds' held-out experts.

    Of equal ones the first: the smaller rate, then fewer steps.
    """
    points = list(grid)
    means = {name: pooled(found, name).mean(axis=1) for name in FINE_TUNED}
    return {name: points[int(values.argmax())] for name, values in means.items()}


def pooled(found: Sequence[dict[str, list[list[float]]]], name: str) -> np.ndarray:
    """[points, judges of all seeds] accuracies."""
    return np.concatenate([np.array(one[name]) for one in found], axis=1)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Try, choose, write and print; returns what was written."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("overrides", nargs="*", help="of the run, such as family=assistant")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_intermixed_args(arguments)
    config = compose([*given.overrides, f"backbone.device={given.device}"])
    if given.device == "cpu":
        torch.set_num_threads(1)
    else:
        training.FOLD = 64  # a GPU has room for more adapters in one batch
    grid = Grid(given.rates, given.steps)
    tasks = load_family(config.family).of_role("expert")
    found = [tried(HeldOut(config, seed, tasks), grid) for seed in given.seeds]
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
