"""The same work for everybody: two exchanges without a model, and one round of a shared LoRA.

A script here is called with a kind of work, how many virtual clients, and where to write
``{"seconds": 1.5, "mean": [...]}``. It does the work twice; the first time, with the start of
workers and of the model, counts for nobody.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np

from sglora_fed.adapters.start import configured_start
from sglora_fed.config import compose
from sglora_fed.federation.codec import finite
from sglora_fed.federation.layouts import run_layout
from sglora_fed.federation.node import Node, open_node
from sglora_fed.federation.shared import SharedRequest, train_shared_round

SEED, DIM = 0, 384
DIFFERENT = 1000
"""Adapters that are drawn; more clients have the same again, as in ``overhead_app``."""

WORDS = (
    "experiment=cameras",
    "adapter.rank=8",
    "adapter.train.batch_size=32",
    "federation.shared_steps=10",
)
"""Rank 8, ten steps of 32 pairs; all else is the configuration's own."""

Round = Callable[[], np.ndarray]
"""Does the work once and returns what it found, a vector."""


@cache
def node() -> Node:
    """All experts of the family in one place, the model loaded once in a process."""
    import torch

    torch.set_num_threads(1)
    return open_node(compose(WORDS), 0, 1)


@cache
def size() -> int:
    """Numbers of an adapter when no model runs, D: as in ``bench_overhead.py``."""
    return run_layout(compose()).size


def names(count: int) -> tuple[str, ...]:
    """The first experts of the family."""
    return tuple(sorted(node().experts))[:count]


def start() -> np.ndarray:
    """[D] float32 where everybody's LoRA starts."""
    return np.asarray(configured_start(compose(WORDS), run_layout(compose(WORDS)), SEED)[0])


def trained(some: tuple[str, ...], vector: np.ndarray) -> np.ndarray:
    """[D] float64 mean of the LoRAs that some experts have trained from ``vector``."""
    return train_shared_round(node(), SharedRequest(SEED, 1, some, vector)).mean


def description() -> np.ndarray:
    """[d] what a client without a model says of itself."""
    return np.full(DIM, DIM**-0.5, np.float32)


def adapters(count: int) -> np.ndarray:
    """[n, D] float16, one for each client."""
    drawn = np.random.default_rng(SEED).standard_normal((DIFFERENT, size()), np.float32)
    return np.resize((0.01 * drawn).astype(np.float16), (count, size()))


def measured(adapter: np.ndarray) -> float:
    """What a client without a model answers for its adapter, which it checks as our own do.

    NumPy's ``isfinite`` takes several times as long for numbers in half precision.
    """
    if adapter.shape != (size(),) or not finite(adapter):
        raise ValueError("not an adapter")
    return 0.0


def report(rounds: Mapping[str, Callable[[int], Round]]) -> None:
    """Do what the command line asks for, twice, and write the second time's seconds.

    Of several processes, which ``torchrun`` tells their rank, the first one writes.
    """
    kind, count, output = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    once = rounds[kind](count)
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        mean = once()
        seconds.append(time.perf_counter() - started)
    if os.environ.get("RANK", "0") == "0":
        output.write_text(json.dumps({"seconds": seconds[1], "mean": mean.tolist()}))
