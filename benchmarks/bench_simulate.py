"""A run's time, cold and with what was kept of it, beside the goals, and its bytes per client.

    python benchmarks/bench_simulate.py [OVERRIDES] [--against CHECKOUT] [--repeats 3]

Writes ``benchmarks/results/simulate.json``. With ``--against``, the folder of another checkout
(``git worktree add /tmp/before COMMIT``), both take turns on this machine, and what counts is the
ratio: times of a busy machine compare with nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import machine
from sglora_fed.config import compose

HERE = Path(__file__).parents[1]

GOALS = {"cameras": {"cold": 180.0, "warm": 45.0}, "assistant": {"cold": 360.0, "warm": 120.0}}
"""Family -> most seconds, on two cores."""

BYTES_UP = 2048

MAIN, KEPT = ("accuracy", "r1"), ("method", "split", "metric", "mean", "ci95", "clients")

Timed = tuple[float, dict[str, Any]]
"""Wall seconds of a run and its summary."""


def timed(checkout: Path, overrides: Sequence[str], home: Path, output: Path) -> Timed:
    """One ``sglora-fed simulate`` of a checkout, with this interpreter's libraries."""
    start = "from sglora_fed.cli import main; main()"
    command = [sys.executable, "-c", start, "simulate", *overrides, "--output", str(output)]
    env = os.environ | {"SGLORA_FED_HOME": str(home), "PYTHONPATH": str(checkout)}
    started = time.perf_counter()
    # Not in this folder: the interpreter would take the package from it first.
    subprocess.run(command, env=env, check=True, cwd=home)
    seconds = time.perf_counter() - started
    return seconds, json.loads((output / "summary.json").read_text(encoding="utf-8"))


def both(checkout: Path, overrides: Sequence[str]) -> dict[str, Timed]:
    """A cold run, with a home of its own, and a warm one after it."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        return {name: timed(checkout, overrides, home, home / name) for name in ("cold", "warm")}


def middle(runs: Sequence[Timed]) -> dict[str, Any]:
    """Median seconds, and the stages of the run that needed about as many."""
    seconds = statistics.median(taken for taken, _ in runs)
    _, summary = min(runs, key=lambda run: abs(run[0] - seconds))
    return {
        "seconds": round(seconds, 3),
        "all_seconds": [round(taken, 3) for taken, _ in runs],
        "stages": summary["seconds"],
    }


def commit(checkout: Path) -> str:
    """Of a checkout; empty for a folder that is none."""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def brief(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The metrics that judge, without all comparisons: the run's own summary has the rest."""
    return [
        {name: value for name, value in result.items() if name in KEPT}
        for result in results
        if result["metric"] in MAIN
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """All runs, in turns, and what came of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("overrides", nargs="*", help="such as experiment=assistant")
    parser.add_argument("--against", type=Path, help="folder of another checkout")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--name", default="simulate", help="of the results")
    given = parser.parse_intermixed_args(arguments)
    checkouts = [HERE, *([given.against.absolute()] if given.against else [])]
    turns = [[both(one, given.overrides) for one in checkouts] for _ in range(given.repeats)]
    ours, *others = (
        {name: middle([turn[place][name] for turn in turns]) for name in ("cold", "warm")}
        for place in range(len(checkouts))
    )
    goals = GOALS.get(compose(given.overrides).family.name, {})
    for name, goal in goals.items():
        ours[name] |= {"goal_seconds": goal, "reached": ours[name]["seconds"] <= goal}
    _, summary = turns[0][0]["warm"]
    found = machine.facts("flwr", "torch", "transformers", "numpy") | {
        "overrides": given.overrides,
        "commit": commit(HERE),
        **ours,
        **{kind: summary[kind] for kind in ("counts", "bytes_per_client")},
        "results": brief(summary["results"]),
        "bytes_up_reached": summary["bytes_per_client"]["up"] <= BYTES_UP,
    }
    for other in others:
        found["against"] = {"commit": commit(given.against), **other}
        found["ratio"] = {
            name: round(ours[name]["seconds"] / other[name]["seconds"], 3) for name in other
        }
    machine.write(given.name, found)


if __name__ == "__main__":
    main()
