"""``sglora-fed simulate`` beside the same work in one process, cold and warm, in the same minutes.

    python benchmarks/bench_inprocess.py [OVERRIDES] [--repeats 3]

Writes ``benchmarks/results/inprocess.json``: wall and CPU seconds of both, their ratio, and where
the one process spends its time. Both start from nothing: imports count. The one process runs its
nodes one after the other, the simulation side by side: a machine of two cores is what is compared.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import machine

HERE = Path(__file__).parents[1]
GOAL = 1.3
WAYS = ("simulate", "in_process")
SIMULATE = "from sglora_fed.cli import main; main()"

STAGES: Mapping[str, tuple[str, str]] = {
    "all": ("experiments/run.py", "run_experiment"),
    "experts": ("federation/enrol.py", "enrol"),
    "shared": ("federation/shared.py", "shared_lora"),
    "rounds": ("federation/rounds.py", "trained_generator"),
    "compare": ("client/app.py", "evaluate_compare"),
    "fine_tuning": ("kept/local.py", "_train"),
    "preparing": ("adapters/data.py", "prepare"),
    "scoring": ("adapters/evaluation.py", "score_tasks"),
    "metrics": ("federation/bench.py", "metrics_of"),
    "gallery": ("experiments/gallery.py", "exhibits"),
    "report": ("experiments/finish.py", "write_results"),
}
"""Stage -> file and function; some are parts of others."""


def run_here(output: Path, overrides: Sequence[str]) -> None:
    """The run of this interpreter, without SuperLink, Ray or network."""
    import client.app
    from sglora_fed.config import compose
    from sglora_fed.experiments.run import run_experiment
    from sglora_fed.federation.inprocess import InProcessGrid

    config = compose(overrides)
    told = {"overrides": shlex.join(overrides)}
    run_experiment(config, InProcessGrid(client.app.app, config.federation.nodes, told), output)


def profiled(output: Path, overrides: Sequence[str]) -> dict[str, float]:
    """Stage -> seconds of such a run, the profiler's own cost in them."""
    profile = cProfile.Profile()
    profile.runcall(run_here, output, overrides)
    found = dict.fromkeys(STAGES, 0.0)
    timings: Mapping[Any, Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    for (file, _, function), (_, _, _, cumulative, _) in timings.items():
        for stage, (where, name) in STAGES.items():
            if function == name and file.endswith(where):
                found[stage] += round(cumulative, 2)
    # What is measured, without what clients train to be compared with.
    found["evaluation_share"] = round((found["compare"] - found["fine_tuning"]) / found["all"], 3)
    return found


def commands(overrides: Sequence[str]) -> dict[str, Callable[[Path], list[str]]]:
    """Way -> the command of one run with its results in a folder."""
    here = [sys.executable, __file__, *overrides, "--child"]
    simulate = [sys.executable, "-c", SIMULATE, "simulate", *overrides, "--output"]
    return {
        "simulate": lambda output: [*simulate, str(output)],
        "in_process": lambda output: [*here, str(output)],
    }


def timed(command: Sequence[str], home: Path) -> tuple[float, float]:
    """Wall and CPU seconds of a command and all that it starts and waits for."""
    env = os.environ | {machine.HOME: str(home), "PYTHONPATH": str(HERE)}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, env=env, check=True, cwd=home, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu


def turn(overrides: Sequence[str]) -> dict[str, dict[str, tuple[float, float]]]:
    """Cold and warm -> way -> its seconds; both ways stand beside each other in time."""
    with tempfile.TemporaryDirectory() as folder:
        homes = {way: Path(folder) / way for way in WAYS}
        found: dict[str, dict[str, tuple[float, float]]] = {}
        for state in ("cold", "warm"):
            found[state] = {}
            for way, make in commands(overrides).items():
                homes[way].mkdir(exist_ok=True)
                found[state][way] = timed(make(homes[way] / state), homes[way])
        return found


def summary(turns: Sequence[Mapping[str, Mapping[str, tuple[float, float]]]]) -> dict[str, Any]:
    """State -> way -> medians; the ratio is the median of each turn's own."""
    found: dict[str, Any] = {}
    for state in turns[0]:
        ratios = [one[state]["simulate"][0] / one[state]["in_process"][0] for one in turns]
        found[state] = {
            way: {
                "seconds": round(statistics.median(one[state][way][0] for one in turns), 2),
                "cpu_seconds": round(statistics.median(one[state][way][1] for one in turns), 2),
            }
            for way in WAYS
        }
        ratio = statistics.median(ratios)
        found[state] |= {
            "ratio": round(ratio, 3),
            "all_ratios": [round(one, 3) for one in ratios],
            "goal_ratio": GOAL,
            "reached": ratio <= GOAL,
        }
    return found


def profiles(overrides: Sequence[str]) -> dict[str, dict[str, float]]:
    """Cold and warm -> stages of the one process, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        home, found = Path(folder), {}
        for state in ("cold", "warm"):
            command = [sys.executable, __file__, *overrides, "--profile", str(home / state)]
            env = os.environ | {machine.HOME: str(home), "PYTHONPATH": str(HERE)}
            told = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
            found[state] = json.loads(told.stdout.splitlines()[-1])
        return found


def main(arguments: Sequence[str] | None = None) -> None:
    """All turns, or one run for another process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("overrides", nargs="*", help="such as experiment=assistant")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--name", default="inprocess", help="of the results")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--profile", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_intermixed_args(arguments)
    if given.child:
        run_here(given.child, given.overrides)
    elif given.profile:
        print(json.dumps(profiled(given.profile, given.overrides)))
    else:
        turns = [turn(given.overrides) for _ in range(given.repeats)]
        found = machine.facts("flwr", "ray", "torch", "transformers")
        found |= {"overrides": given.overrides, **summary(turns)}
        machine.write(given.name, found)
        # As long again, and with nothing to say of the ratio: what is measured is there by now.
        machine.write(given.name, found | {"profile": profiles(given.overrides)})


if __name__ == "__main__":
    main()
