"""``sglora-fed simulate`` beside the same work in one process, cold and warm, in the same minutes.

    python benchmarks/bench_inprocess.py [OVERRIDES] [--repeats 3]
    python benchmarks/bench_inprocess.py [OVERRIDES] --profile cold --home FOLDER
    python benchmarks/bench_inprocess.py [OVERRIDES] --profile warm --home FOLDER

The first writes ``benchmarks/results/inprocess.json``: wall and CPU seconds of both, and their
ratio. Both start from nothing: imports count. The one process runs its nodes one after the other,
the simulation side by side: a machine of two cores is what is compared.

The others add where the one process spends its time, in the order above: the warm run takes what
the cold one has left in the folder. Whatever is measured is written at once and stays when other
parts are measured anew.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import machine

HERE = Path(__file__).parents[1]
GOAL = 1.3
WAYS = ("simulate", "in_process")
STATES = ("cold", "warm")
SIMULATE = "from sglora_fed.cli import main; main()"

Turn = dict[str, dict[str, tuple[float, float]]]
"""Cold and warm -> way -> wall and CPU seconds."""

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


def turn(overrides: Sequence[str]) -> Iterator[Turn]:
    """After the cold runs and after the warm ones: both ways stand beside each other in time."""
    with tempfile.TemporaryDirectory() as folder:
        homes = {way: Path(folder) / way for way in WAYS}
        found: Turn = {}
        for state in STATES:
            found[state] = {}
            for way, make in commands(overrides).items():
                homes[way].mkdir(exist_ok=True)
                found[state][way] = timed(make(homes[way] / state), homes[way])
            yield found


def summary(turns: Sequence[Turn]) -> dict[str, Any]:
    """State -> way -> medians; the ratio is the median of each turn's own."""
    found: dict[str, Any] = {}
    for state in turns[0]:
        done = [one[state] for one in turns if state in one]
        ratios = [one["simulate"][0] / one["in_process"][0] for one in done]
        found[state] = {
            way: {
                "seconds": round(statistics.median(one[way][0] for one in done), 2),
                "cpu_seconds": round(statistics.median(one[way][1] for one in done), 2),
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


def results(name: str, overrides: Sequence[str]) -> dict[str, Any]:
    """What was written of the same run before."""
    path = machine.RESULTS / f"{name}.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    same = before.get("overrides") == list(overrides)
    return before if same else {"overrides": list(overrides)}


def measure_ratio(name: str, overrides: Sequence[str], repeats: int) -> None:
    """All turns; what there is of them is written after each state."""
    facts, turns = machine.facts("flwr", "ray", "torch", "transformers"), list[Turn]()
    for _ in range(repeats):
        turns.append({})
        for turns[-1] in turn(overrides):
            machine.write(name, results(name, overrides) | facts | summary(turns))


def measure_profile(name: str, overrides: Sequence[str], state: str, home: Path) -> None:
    """A run of this process, which has started for nothing else."""
    facts = machine.facts("flwr", "torch", "transformers")
    with machine.kept_in(home), tempfile.TemporaryDirectory() as output:
        stages = profiled(Path(output), overrides)
    found = results(name, overrides)
    found["profile"] = found.get("profile", {}) | {state: facts | stages}
    machine.write(name, found)


def main(arguments: Sequence[str] | None = None) -> None:
    """All turns, a profile, or one run for another process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("overrides", nargs="*", help="such as experiment=assistant")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--name", default="inprocess", help="of the results")
    parser.add_argument("--profile", choices=STATES, help="of a run in one process")
    parser.add_argument("--home", type=Path, help="of the profiled run: empty for a cold one")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_intermixed_args(arguments)
    if given.child:
        run_here(given.child, given.overrides)
    elif given.profile:
        check_home(parser, given.profile, given.home)
        measure_profile(given.name, given.overrides, given.profile, given.home)
    else:
        measure_ratio(given.name, given.overrides, given.repeats)


def check_home(parser: argparse.ArgumentParser, state: str, home: Path | None) -> None:
    """A run in an empty folder is cold, and one after it warm."""
    if home is None:
        parser.error("--profile needs --home, a folder")
    empty = not home.exists() or not any(home.iterdir())
    if empty != (state == "cold"):
        parser.error(f"{home} is {'empty' if empty else 'not empty'}: no {state} run")


if __name__ == "__main__":
    main()
