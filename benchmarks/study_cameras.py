"""The study of the cameras: all methods, curves, controls, and what the paper's generator makes.

    python benchmarks/study_cameras.py --cells DIR [--device cuda] [--jobs 14] [--parts rank]

Whole federations in this process, the apps as they are, each seed with cameras of its own. Every
run is a job; each client's R@1 goes to ``DIR/<part>.<run>.<seed>.json``, and a job whose file is
there is not done again. ``study_cameras_table.py DIR`` makes the report.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import torch

import machine
from sglora_fed.adapters import training
from study_cameras_parts import PARTS, TUNING, Job
from study_cameras_world import World

SEEDS = (21, 22, 23)
"""They had no part in the design; those of an earlier study, 11 to 13, led to a change of it."""

DESIGN_SEED = 0
"""On which the training in one place is tuned."""

TUNE = "tune"

LONGEST = (
    TUNE,
    "central",
    "methods",
    "pairs",
    "reconstruction",
    "rounds",
    "penalty",
    "rank",
    "sglora",
)
"""Parts in the order in which they are begun; the others follow."""

FOLD = 96
"""Adapters in one batch on a GPU."""


def run(
    part: str, name: str, seed: int, overrides: Sequence[str], folder: Path
) -> tuple[str, str, int, float]:
    """One job, and what it took: its cells are written."""
    started = time.perf_counter()
    torch.set_num_threads(1)
    job = found_job(part, name)
    if any(word == "backbone.device=cuda" for word in overrides):
        training.FOLD = FOLD
    with tempfile.TemporaryDirectory() as own:
        world = World((*overrides, *job.overrides), seed, Path(own), job.grids)
        with machine.kept_in(Path(own)):
            cells, numbers = job.measure(world)
    seconds = time.perf_counter() - started
    found = {
        "part": part,
        "run": name,
        "seed": seed,
        "overrides": [*overrides, *job.overrides],
        "cells": cells,
        "numbers": {key: round(value, 5) for key, value in numbers.items()},
        "seconds": round(seconds, 1),
        **machine.facts("flwr", "torch", "transformers", "numpy"),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }
    path = place(folder, part, name, seed)
    path.write_text(json.dumps(found) + "\n", encoding="utf-8")
    return part, name, seed, seconds


def found_job(part: str, name: str) -> Job:
    return (TUNING if part == TUNE else PARTS[part])[name]


def place(folder: Path, part: str, name: str, seed: int) -> Path:
    """The file of a job."""
    return folder / f"{part}.{re.sub('[^a-z0-9]+', '-', name.lower())}.{seed}.json"


def jobs_of(parts: Sequence[str], seeds: Sequence[int]) -> list[tuple[str, str, int]]:
    """All jobs of some parts, the longest first."""
    wanted = sorted(parts, key=lambda part: (*LONGEST, part).index(part))
    found: list[tuple[str, str, int]] = []
    for part in wanted:
        for name in reversed(list(TUNING if part == TUNE else PARTS[part])):
            found += [(part, name, s) for s in ([DESIGN_SEED] if part == TUNE else seeds)]
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what is not done yet; say how long each job took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("overrides", nargs="*", help="of every run")
    parser.add_argument("--cells", type=Path, required=True, help="folder of the jobs' results")
    parser.add_argument("--parts", nargs="+", choices=[*PARTS, TUNE], default=list(PARTS))
    parser.add_argument("--runs", nargs="+", help="of these parts, by name; all unless told")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    given = parser.parse_intermixed_args(arguments)
    given.cells.mkdir(parents=True, exist_ok=True)
    overrides = (*given.overrides, f"backbone.device={given.device}")
    waiting = [
        job
        for job in jobs_of(given.parts, given.seeds)
        if not place(given.cells, *job).exists() and (not given.runs or job[1] in given.runs)
    ]
    if given.jobs == 1:
        for job in waiting:
            print(*run(*job, overrides, given.cells), flush=True)
        return
    with ProcessPoolExecutor(given.jobs, multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(run, *job, overrides, given.cells) for job in waiting]
        for future in as_completed(futures):
            print(*future.result(), flush=True)


if __name__ == "__main__":
    main()
