"""What virtual clients cost from description to measured adapter, when there are ten times as many.

    OMP_NUM_THREADS=1 python benchmarks/bench_clients.py [--clients 1000 10000 100000]

Writes ``benchmarks/results/clients.json``. Cameras describe, the server generates, clients adopt
and measure on 20 pairs, all with the library's own apps in one process. Each size is a process of
its own: its processor time, and its largest memory. The experts are trained before and do not
count.
"""

from __future__ import annotations

import argparse
import json
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import machine

SPLITS, CONDITIONS = 3, 10
WORDS = (
    "experiment=cameras",
    "generator=ridge",
    "generator.readings=1",
    "experiment.methods=[zero_shot]",
    "experiment.controls=false",
    f"family.clients_per_split={CONDITIONS}",
    "family.train_per_client=16",
    "family.test_per_client=20",
    "federation.nodes=2",
    "federation.clients_per_message=64",
    "adapter.train.steps=20",
)
GOAL = 0.1
"""By how much time per client and memory may grow."""


def words(clients: int) -> list[str]:
    """For at least so many clients."""
    each = -(-clients // (SPLITS * CONDITIONS))
    return [*WORDS, f"family.clients_per_camera={each}"]


def run(overrides: Sequence[str], output: Path, goal: str = "run") -> None:
    """As Flower runs both apps, in this process."""
    from flwr.app import Context, RecordDict

    from client.app import app as client
    from server.app import app as server
    from sglora_fed.config import compose
    from sglora_fed.federation.inprocess import InProcessGrid

    told: dict[str, bool | float | int | str] = {
        "overrides": shlex.join(overrides),
        "goal": goal,
        "output": str(output),
    }
    grid = InProcessGrid(client, compose(overrides).federation.nodes, told)
    server(
        grid,
        Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=told),
    )


def measure(clients: int) -> dict[str, Any]:
    """One run with the zoo of this home."""
    with tempfile.TemporaryDirectory() as folder:
        started, busy = time.perf_counter(), time.process_time()
        run(words(clients), Path(folder))
        wall, cpu = time.perf_counter() - started, time.process_time() - busy
        summary = json.loads((Path(folder) / "summary.json").read_text())
        table = (Path(folder) / "clients.csv").stat().st_size
    count = summary["counts"]["clients"]
    return {
        "clients": count,
        "wall_s": round(wall, 1),
        "cpu_s": round(cpu, 1),
        "cpu_ms_per_client": round(1e3 * cpu / count, 3),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000,
        "table_mb": round(table / 1e6, 2),
        "stages_s": summary["seconds"],
    }


def apart(clients: int) -> dict[str, Any]:
    """In a process of its own, so that its memory is its own; 0 clients: the zoo alone."""
    command = [sys.executable, __file__, "--one", str(clients)]
    told = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(told.stdout.splitlines()[-1])
    return found


def growth(sizes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """From the first to the second: ten times as many."""
    small, large = sizes[0], sizes[min(1, len(sizes) - 1)]
    found: dict[str, Any] = {}
    for name in ("cpu_ms_per_client", "peak_mb"):
        ratio = round(large[name] / small[name], 3)
        found[name] = {"ratio": ratio, "goal": 1 + GOAL, "reached": ratio <= 1 + GOAL}
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every size and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clients", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.one == 0:
        with tempfile.TemporaryDirectory() as folder:
            run(words(1), Path(folder), "zoo")
        print("{}")
        return
    if given.one:
        print(json.dumps(measure(given.one)))
        return
    with tempfile.TemporaryDirectory() as folder, machine.kept_in(Path(folder)):
        apart(0)
        sizes = []
        for clients in given.clients:
            sizes.append(apart(clients))
            print(json.dumps(sizes[-1]), flush=True)
    found = {"overrides": words(1)[:-1], "sizes": sizes, "growth": growth(sizes)}
    print(json.dumps(found, indent=1))
    machine.write("clients", machine.facts("flwr", "numpy", "torch") | found)


if __name__ == "__main__":
    main()
