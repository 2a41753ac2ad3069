"""The same work in sglora-fed and in other frameworks, in turns on the same cores.

    python benchmarks/rivals/run.py ENVIRONMENTS [--repeats 3] [--skip nvflare]

Writes ``benchmarks/results/rivals.json``. ENVIRONMENTS is the folder in which ``setup.sh`` made
``pfl`` and ``nvflare``. Numbers of clients differ, as some take minutes for what others do in one
second: compared are clients per second, the median of all turns.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import bench_overhead
import machine
from sglora_fed.config import compose
from sglora_fed.federation.layouts import run_layout

SECONDS = 120
"""After which a turn has failed."""

GOALS = {"pfl": 1.0, "flower": 40.0}
"""How many times a rival's clients per second ours are to be, without a model."""

ALIKE = 1e-4
"""Relative distance of two means up to which it was the same training."""


@dataclass(frozen=True)
class Entry:
    """Who does a kind of work.

    Attributes:
        name: of the framework.
        script: below this folder.
        kind: of work, as the script calls it.
        clients: how many.
        environment: folder below ENVIRONMENTS; empty for our own.
        once: whether it has one turn alone, as it takes longer than all others together.
    """

    name: str
    script: str
    kind: str
    clients: int
    environment: str = ""
    once: bool = False


FLOWER, PFL = "flower/flower_round.py", "pfl/pfl_round.py"
NVFLARE = "nvflare/nvflare_round.py"
NOOP = (
    Entry("flower", FLOWER, "noop", 500),
    Entry("pfl", PFL, "noop", 5000, "pfl"),
    Entry("nvflare", NVFLARE, "noop", 4, "nvflare", once=True),
)
LORA = (
    Entry("ours", FLOWER, "batched", 24),
    Entry("flower", FLOWER, "lora", 24),
    Entry("pfl", PFL, "lora", 24, "pfl"),
    Entry("nvflare", NVFLARE, "lora", 4, "nvflare", once=True),
)
OURS = 100_000
"""Our own clients without a model."""


def measured(entry: Entry, environments: Path) -> dict[str, Any]:
    """One turn: seconds and the mean, in a process of its own.

    Raises:
        SystemExit: when it fails, with the end of what it said.
    """
    python = str(environments / entry.environment / "bin" / "python")
    script = HERE / entry.script
    paths = [str(path) for path in (HERE.parents[1], HERE.parent)]
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "found.json"
        # Ray would join another cluster of this machine, or wait for one that is gone.
        env = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
        env |= {"RAY_TMPDIR": folder}
        command = [python if entry.environment else sys.executable, str(script)]
        command += [entry.kind, str(entry.clients), str(output)]
        told = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=SECONDS, cwd=folder
        )
        if not output.exists():
            raise SystemExit(f"{entry.name}, {entry.kind}: {told.stderr[-2000:]}")
        found: dict[str, Any] = json.loads(output.read_text())
        return found


def ours() -> dict[str, Any]:
    """One turn of our own exchanges through Flower, without a model."""
    size = run_layout(compose()).size
    seconds = bench_overhead.exchanged(bench_overhead.through_flower, OURS, size, 2)
    return {"seconds": sum(seconds[1]), "mean": []}


def rates(clients: int, turns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Clients per second."""
    found = [clients / turn["seconds"] for turn in turns]
    return {
        "clients": clients,
        "turns": [round(rate, 2) for rate in found],
        "clients_per_second": round(statistics.median(found), 2),
    }


def ratios(found: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """How many times each rival's rate ours is."""
    own = found["ours"]["clients_per_second"]
    return {
        name: round(own / one["clients_per_second"], 2)
        for name, one in found.items()
        if name != "ours"
    }


def reached(times: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Of the goals without a model."""
    return {
        name: {"ratio": times[name], "goal": goal, "reached": times[name] >= goal}
        for name, goal in GOALS.items()
        if name in times
    }


def distances(entries: Sequence[Entry], turns: Mapping[str, Sequence[Any]]) -> dict[str, float]:
    """How far each mean is from ours, relative, where the same clients took part.

    Raises:
        SystemExit: when it was not the same training.
    """
    own = np.array(turns["ours"][0]["mean"])
    clients = {entry.name: entry.clients for entry in entries}
    found = {
        name: float(np.linalg.norm(np.array(some[0]["mean"]) - own) / np.linalg.norm(own))
        for name, some in turns.items()
        if clients[name] == clients["ours"] and name != "ours"
    }
    if far := {name: one for name, one in found.items() if one > ALIKE}:
        raise SystemExit(f"other means than ours: {far}")
    return found


def compared(
    noops: Sequence[Entry],
    loras: Sequence[Entry],
    without: Mapping[str, Sequence[Any]],
    trained: Mapping[str, Sequence[Any]],
) -> dict[str, Any]:
    """Rates of all turns so far, ours as multiples of them, and the goals."""
    clients = {entry.name: entry.clients for entry in noops} | {"ours": OURS}
    noop = {name: rates(clients[name], turns) for name, turns in without.items()}
    lora = {entry.name: rates(entry.clients, trained[entry.name]) for entry in loras}
    times = ratios(noop)
    return {
        "noop": noop | {"ours_times": times, "goals": reached(times)},
        "lora": lora | {"ours_times": ratios(lora), "distance": distances(loras, trained)},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """All in turns, and after each what was found so far."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("environments", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--skip", nargs="*", default=[])
    given = parser.parse_args(arguments)
    noops, loras = ([e for e in some if e.name not in given.skip] for some in (NOOP, LORA))
    without: dict[str, list[Any]] = {"ours": []} | {e.name: [] for e in noops}
    trained: dict[str, list[Any]] = {e.name: [] for e in loras}
    for turn in range(given.repeats):
        without["ours"].append(ours())
        for entries, turns in ((noops, without), (loras, trained)):
            for entry in (e for e in entries if not (turn and e.once)):
                turns[entry.name].append(measured(entry, given.environments))
        found = compared(noops, loras, without, trained)
        machine.write("rivals", machine.facts("flwr", "ray", "numpy", "torch") | found)


if __name__ == "__main__":
    main()
