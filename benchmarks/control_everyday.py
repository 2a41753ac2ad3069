"""What the topics beside "everything else" are worth, by who made the list.

    python benchmarks/control_everyday.py experiment=assistant [--seeds 0 1] [--jobs 8]

On held-out experts with a rule, as in ``tune_baselines.py``: without an adapter (``described``),
with the shared LoRA of the other experts and with generated adapters. Writes
``benchmarks/results/control-everyday.json``.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

import machine
from held_out import HeldOut
from sglora_fed.adapters.candidates import least_similar
from sglora_fed.backbones import load_backbone
from sglora_fed.backbones.types import DualEncoder
from sglora_fed.config import compose
from sglora_fed.tasks import load_family
from sglora_fed.tasks.everyday import EVERYDAY_TOPICS, means_the_rest
from sglora_fed.tasks.phrases import said_of
from sglora_fed.tasks.types import Hint, Task

PHRASE = "everything else there is"
"""In place of "everything else", so that nothing but these lists stands beside it."""

LISTS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "new: IPTC Media Topics": EVERYDAY_TOPICS,
    "before: written beside the family": (
        "animals", "art", "books", "business", "cars", "children", "computers", "education",
        "family", "fashion", "films", "food", "friends", "games", "gardening", "health",
        "history", "home", "jobs", "law", "money", "music", "nature", "news",
        "politics", "religion", "science", "shopping", "sports", "television", "travel", "weather",
    ),
    "Library of Congress, main classes": (
        "general works", "philosophy", "psychology", "religion", "auxiliary sciences of history",
        "world history", "history of the americas", "geography", "anthropology", "recreation",
        "social sciences", "political science", "law", "education", "music", "fine arts",
        "language", "literature", "science", "medicine", "agriculture", "technology",
        "military science", "naval science", "bibliography", "library science",
    ),
    "Dewey, main classes": (
        "computer science", "information", "general works", "philosophy", "psychology", "religion",
        "social sciences", "language", "science", "technology", "arts", "recreation", "literature",
        "history", "geography",
    ),
}  # fmt: skip
"""Schemes by their headings, cut at commas and at "and"."""


def with_list(encoder: DualEncoder, task: Task, topics: tuple[str, ...]) -> Task:
    """A task whose words for the rest name half of a list: what is least like all that it names."""
    said = {key: said_of(task, key) for key in task.labels}
    named = [text for texts in said.values() for text in texts if not means_the_rest(text)]
    hints: dict[str, Hint] = {}
    for key, texts in said.items():
        beside: tuple[str, ...] = ()
        if topics and any(map(means_the_rest, texts)):
            beside = least_similar(encoder, topics, tuple(named), -(-len(topics) // 2))
        own = tuple(PHRASE if means_the_rest(text) else text for text in texts)
        hints[key] = (*own, *beside)
    return replace(task, hints=hints)


def measured(
    overrides: tuple[str, ...], job: tuple[int, tuple[str, ...]]
) -> dict[str, list[float]]:
    """Method -> accuracies of the held-out experts with a rule, for a seed and a list."""
    torch.set_num_threads(1)
    seed, topics = job
    config = compose(overrides)
    encoder = load_backbone(config.backbone, config.adapter)
    experts = load_family(config.family).of_role("expert")
    world = HeldOut(overrides, seed, tuple(with_list(encoder, t, topics) for t in experts))
    tests = world.prepared(world.judges, test=True)
    rules = [any(map(has_rest, task.hints.values())) for task in world.judges]
    shared = np.broadcast_to(world.shared, (len(tests), world.layout.size))
    vectors = {"described": None, "shared_lora": shared, "generated": world.generated}
    return {
        method: world.accuracy(vector, tests)[rules].tolist() for method, vector in vectors.items()
    }


def mean(seeds: Sequence[Sequence[float]]) -> float:
    """Of the held-out experts of all seeds."""
    return round(float(np.concatenate(seeds).mean()), 4)


def has_rest(words: Hint) -> bool:
    """Whether a label of :func:`with_list` means the rest."""
    return PHRASE in words


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure every list, write and print; returns what was written."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("overrides", nargs="*", help="of the run, such as experiment=assistant")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    given = parser.parse_intermixed_args(arguments)
    jobs = [(seed, topics) for topics in LISTS.values() for seed in given.seeds]
    measure = partial(measured, tuple(given.overrides))
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(given.jobs, spawn) as pool:
        found = dict(zip(jobs, pool.map(measure, jobs), strict=True))
    accuracy = {
        name: {
            method: mean([found[seed, topics][method] for seed in given.seeds])
            for method in found[jobs[0]]
        }
        for name, topics in LISTS.items()
    }
    result = machine.facts("torch", "transformers", "numpy") | {
        "overrides": given.overrides,
        "seeds": given.seeds,
        "held_out": [len(found[seed, ()]["described"]) for seed in given.seeds],
        "accuracy": accuracy,
    }
    machine.write("control-everyday", result)
    for name, means in accuracy.items():
        print(f"{name:40}", *(f"{method} {100 * mean:.1f}" for method, mean in means.items()))
    return result


if __name__ == "__main__":
    main()
