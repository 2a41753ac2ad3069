"""The whole federation under changed conditions: junk for a description, few experts, liars.

    python benchmarks/study.py [experiment=assistant] [--parts junk liars] [--jobs 2]

Every run is the apps' own, in this process; what is changed is configuration, or a reply on its way
to the server. Each seed draws the family's tasks anew, where the family can. Writes
``benchmarks/results/conditions-<name>.json`` and a page of the same name in Markdown.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shlex
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch

import machine
from client.app import app
from sglora_fed.config import compose
from sglora_fed.config.schema import RunConfig
from sglora_fed.experiments.run import run_experiment
from sglora_fed.report.words import main_metric
from sglora_fed.results.files import read_rows, read_summary
from sglora_fed.results.metrics import with_mean_recall
from sglora_fed.results.rows import Row
from sglora_fed.tasks import load_family
from sglora_fed.tasks.digest import tasks_sha256
from study_replies import Change, ChangedGrid, experts_of, flipped, honest, junk
from study_tables import page, results, tabled

STARTED = ("experiment.methods=[shared_lora]", "experiment.controls=false")
"""The configured generator and the adapter that it starts from."""

MADE = ("experiment.methods=[topk,ridge,shared_lora]", "experiment.controls=false")
"""Nothing that a client trains: what is changed in these runs is what comes of the experts."""


@dataclass(frozen=True)
class Condition:
    """What is special about a run.

    Attributes:
        overrides: behind those of the study.
        nodes: how many there are.
        change: of the nodes' replies.
    """

    overrides: tuple[str, ...] = ()
    nodes: int = 2
    change: Change = honest


PARTS: Mapping[str, Mapping[str, Condition]] = {
    "methods": {"all methods": Condition(("experiment.controls=true",))},
    "junk": {
        "own descriptions": Condition(MADE),
        "the same junk for all": Condition(MADE, change=junk),
    },
    "experts": {
        f"experts of {count} of 4 nodes": Condition(MADE, 4, experts_of(count))
        for count in (4, 3, 2, 1)
    },
    "rounds": {
        f"rounds of the generator: {count}": Condition(
            (*STARTED, f"federation.generator_rounds={count}")
        )
        for count in (8, 4, 2, 1)
    },
    "liars": {
        "5 honest nodes": Condition(MADE, 5),
        "one of 5 flips its experts": Condition(MADE, 5, flipped),
    },
}
"""Part -> run -> condition; the first run of a part is what its others are compared with."""


@contextmanager
def in_processes(jobs: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """``map`` that shares its work among so many processes, or does it in this one."""
    if jobs == 1:
        yield map
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        yield pool.map


def run(
    condition: Condition, overrides: Sequence[str], seed: int, folder: Path
) -> tuple[dict[str, Any], list[Row]]:
    """One run: its summary, and its rows in which each client is named by its task.

    Args:
        condition: of the run.
        overrides: of the study.
        seed: of the run and of the family.
        folder: what honest runs made is kept and found here.
    """
    told = [f"seeds=[{seed}]", f"family.seed={seed}", f"federation.nodes={condition.nodes}"]
    words = [*overrides, *condition.overrides, *told]
    config = compose(words)
    output = Path(tempfile.mkdtemp(dir=folder))
    # What came of changed replies must not be taken for what came of the experts.
    with machine.kept_in(folder if condition.change is honest else output):
        edit = condition.change(config)
        grid = ChangedGrid(app, condition.nodes, {"overrides": shlex.join(words)}, edit)
        run_experiment(config, grid, output)
    names, rows = task_names(config), with_mean_recall(read_rows(output))
    return read_summary(output), [replace(row, client=names[row.client]) for row in rows]


def task_names(config: RunConfig) -> dict[str, str]:
    """Client -> a name that another seed's client has only if it has the same task."""
    tasks = load_family(config.family).of_role("client")
    return {task.id: f"{task.id} {tasks_sha256([task])}" for task in tasks}


def measured(
    overrides: Sequence[str], folder: Path, job: tuple[str, int]
) -> dict[str, tuple[str, list[Row]]]:
    """Run -> the metric that counts and its rows, for a part and a seed."""
    torch.set_num_threads(1)
    part, seed = job
    own = Path(tempfile.mkdtemp(dir=folder))
    found = {name: run(condition, overrides, seed, own) for name, condition in PARTS[part].items()}
    return {name: (main_metric(summary), rows) for name, (summary, rows) in found.items()}


def over_seeds(
    found: Sequence[Mapping[str, tuple[str, list[Row]]]],
) -> dict[str, list[dict[str, Any]]]:
    """Run -> its pooled results, from what :func:`measured` gave for each seed of a part."""
    tables = {
        name: tabled([row for seed in found for row in seed[name][1]], metric)
        for name, (metric, _) in found[0].items()
    }
    first = next(iter(tables))
    return {
        name: results(table, None if name == first else tables[first])
        for name, table in tables.items()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts, write after each, print the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("overrides", nargs="*", help="of every run, such as experiment=assistant")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--name", help="of the results; by default the family's")
    given = parser.parse_intermixed_args(arguments)
    name = f"conditions-{given.name or compose(given.overrides).family.name}"
    jobs = list(product(given.parts, given.seeds))
    found = machine.facts("flwr", "torch", "transformers", "numpy") | {
        "command": shlex.join(["python", "benchmarks/study.py", *given.overrides]),
        "overrides": given.overrides,
        "seeds": given.seeds,
        "parts": {},
    }
    with tempfile.TemporaryDirectory() as folder, in_processes(given.jobs) as each:
        all_measured = each(partial(measured, given.overrides, Path(folder)), jobs)
        for part in given.parts:
            seeds = [next(all_measured) for _ in given.seeds]
            found["metric"] = next(iter(seeds[0].values()))[0]
            found["parts"][part] = over_seeds(seeds)
            machine.write(name, found)
    text = "\n".join(page(found))
    (machine.RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
