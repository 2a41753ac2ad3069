"""What it costs that experts' descriptions leave as places of the catalogue, on the cameras.

    python benchmarks/study_catalogue.py [--seeds 0 1 2] [--device cuda] [--jobs 4]

Whole federations in one process, the apps as they are: words in clear, the nearest place, and a
place drawn by ``krr``. Writes ``results/study-catalogue.json``: recall at 1 of generated adapters,
mean of both directions, by split, and each way's difference from words in clear. Clients are nested
in seeds, each of which draws another family, so a seed's mean is one observation.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import machine
from sglora_fed.backbones import load_describer
from sglora_fed.config import compose
from sglora_fed.kept.catalogues import kept_snap
from sglora_fed.privacy.families import catalogue_of
from sglora_fed.results.statistics import estimate
from study_cameras_world import Cells, World

CLEAR = "words in clear"
LISTED = "privacy.experts=catalogue"
ONE_READING = "generator.readings=1"
"""Of clients' descriptions: readings are of the same catalogue, and would hide what places cost."""

WAYS: Mapping[str, tuple[str, ...]] = {
    CLEAR: (),
    "nearest place": (LISTED,),
    **{
        f"place, epsilon {epsilon}": (LISTED, f"privacy.experts_epsilon={epsilon}")
        for epsilon in (8, 4)
    },
}
"""Name -> overrides of the run."""

Job = tuple[str, int]
"""A way and a seed."""


def measured(device: str, more: Sequence[str], kept: Path, job: Job) -> Cells:
    """Recall of each client, by split, in a home of its own.

    Args:
        device: of the backbone.
        more: overrides of every run.
        kept: folder with the catalogue's embeddings, which are the same in all.
        job: what is measured.
    """
    way, seed = job
    torch.set_num_threads(1)
    words = (*WAYS[way], ONE_READING, f"backbone.device={device}", *more)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        world = World(words, seed, Path(folder))
        return world.cells(world.made(world.functional))


def all_measured(device: str, seeds: Sequence[int], jobs: int) -> dict[Job, Cells]:
    """Every way on every seed."""
    todo, found = [(way, seed) for seed in seeds for way in WAYS], {}
    with tempfile.TemporaryDirectory() as kept:
        with machine.kept_in(Path(kept)):
            config = compose(["experiment=cameras"])
            kept_snap(catalogue_of("cameras"), load_describer(config.backbone))
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
            some = pool.map(partial(measured, device, (), Path(kept)), todo)
            for job, cells in zip(todo, some, strict=True):
                found[job] = cells
                print(json.dumps([job, cells]), flush=True)
    return found


def rows(found: Mapping[Job, Cells]) -> list[dict[str, Any]]:
    """Way by split: the mean, and the difference from words in clear with its interval."""
    seeds = sorted({seed for _, seed in found})
    made = []
    for way in dict.fromkeys(way for way, _ in found):
        for split in found[CLEAR, seeds[0]]:
            own, clear = (
                np.array([np.mean(found[name, seed][split]) for seed in seeds])
                for name in (way, CLEAR)
            )
            apart = estimate((own - clear)[:, None])
            made.append(
                {
                    "way": way,
                    "split": split,
                    "recall": round(float(own.mean()), 4),
                    "by_seed": own.round(4).tolist(),
                    "beside_clear": round(apart.mean, 4),
                    "ci95_half": None if apart.half is None else round(apart.half, 4),
                }
            )
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    given = parser.parse_args(arguments)
    found = all_measured(given.device, given.seeds, given.jobs)
    facts = machine.facts("sglora-fed", "torch") | vars(given)
    machine.write("study-catalogue", facts | {"rows": rows(found)})


if __name__ == "__main__":
    main()
