"""The same work in sglora-fed and in other frameworks, in turns on the same cores.

    python benchmarks/rivals/run.py ENVIRONMENTS [--repeats 3] [--skip nvflare]

Writes ``benchmarks/results/rivals.json``: every turn in the order in which they ran, and what
follows from them. ENVIRONMENTS is the folder in which ``setup.sh`` made ``pfl`` and ``nvflare``.
Numbers of clients differ where some take minutes for what others do in one second: compared are
clients per second, in the same repeat, and the median of all repeats.
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
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import psutil

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]
import machine
from sglora_fed.launching.processes import end

SECONDS = 180
"""After which a turn has failed."""

TRIES = 3
"""Turns of an entry in one repeat until it has done its work: NVFlare's simulator gives its sites
ports that another one may take before they do, and waits for such a site without end."""

GOALS = {"pfl": 1.0, "pfl_alone": 1.0, "flower": 40.0}
"""How many times a rival's clients per second ours are to be, without a model."""

ALIKE = 1e-4
"""Relative distance of two means up to which it was the same training."""

SEVERAL = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node")
"""What starts a script in several processes at once."""


@dataclass(frozen=True)
class Entry:
    """Who does a kind of work.

    Attributes:
        name: of the framework.
        script: below this folder.
        kind: of work, as the script calls it.
        clients: how many.
        environment: folder below ENVIRONMENTS; empty for our own.
        processes: that the script is started in; 1 also where it starts others itself.
    """

    name: str
    script: str
    kind: str
    clients: int
    environment: str = ""
    processes: int = 1


@dataclass(frozen=True)
class Turn:
    """What one entry took once.

    Attributes:
        name: of the entry.
        kind: of work.
        clients: how many.
        repeat: from 0 on; rates of one repeat are compared.
        load: of the machine just before, mean number of runnable processes in a minute.
        seconds: of the work, done for the second time.
        whole: seconds of the process with all starts, both times, and the import of our library.
        tries: of which all but the last have failed.
        distance: of its mean from the one found without any framework, relative; None where no
            model runs.
    """

    name: str
    kind: str
    clients: int
    repeat: int
    load: float
    seconds: float
    whole: float
    tries: int
    distance: float | None


class TurnError(RuntimeError):
    """A turn that has not done its work."""


OURS, FLOWER = "ours/ours_round.py", "flower/flower_round.py"
PFL, NVFLARE = "pfl/pfl_round.py", "nvflare/nvflare_round.py"
ENTRIES = (
    Entry("ours", OURS, "noop", 20_000),
    Entry("flower", FLOWER, "noop", 500),
    Entry("pfl", PFL, "noop", 20_000, "pfl", processes=2),
    Entry("pfl_alone", PFL, "noop", 20_000, "pfl"),
    Entry("nvflare", NVFLARE, "noop", 8, "nvflare"),
    Entry("ours", OURS, "lora", 24),
    Entry("flower", FLOWER, "lora", 24),
    Entry("pfl", PFL, "lora", 24, "pfl", processes=2),
    Entry("pfl_alone", PFL, "lora", 24, "pfl"),
    Entry("nvflare", NVFLARE, "lora", 8, "nvflare"),
)


def command(entry: Entry, environments: Path, output: Path) -> list[str]:
    """What does an entry's work and writes to ``output``."""
    own = environments.absolute() / entry.environment / "bin" / "python"
    several = [*SEVERAL, str(entry.processes)] if entry.processes > 1 else []
    python = str(own) if entry.environment else sys.executable
    script = str(HERE / entry.script)
    return [python, *several, script, entry.kind, str(entry.clients), str(output)]


def measured(entry: Entry, environments: Path) -> dict[str, Any]:
    """The seconds and the mean that a process of its own finds, with the same settings for all.

    Raises:
        TurnError: when it fails, with the end of what it said.
    """
    paths = os.pathsep.join(str(path) for path in (HERE.parents[1], HERE.parent))
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "found.json"
        # Ray would join another cluster of this machine, or wait for one that is gone.
        env = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "RAY_TMPDIR": folder}
        said = finished(command(entry, environments, output), env, folder)
        if not output.exists():
            raise TurnError(f"{entry.name}, {entry.kind}: {said[-2000:]}")
        found: dict[str, Any] = json.loads(output.read_text())
        return found


def finished(words: Sequence[str], env: Mapping[str, str], folder: str) -> str:
    """What a command said until its end; after ``SECONDS`` it is ended, with all it started."""
    with (Path(folder) / "said.txt").open("w+") as said:
        told = subprocess.Popen(words, env=env, cwd=folder, stdout=said, stderr=said)
        try:
            told.wait(SECONDS)
        except subprocess.TimeoutExpired:
            said.write(f"ended after {SECONDS} s")
        finally:
            if told.poll() is None:
                end([psutil.Process(told.pid)])
                told.wait()
        said.seek(0)
        return said.read()


def turn(entry: Entry, environments: Path, repeat: int) -> Turn:
    """Have an entry do its work.

    Raises:
        TurnError: when it fails as often as it may.
        SystemExit: when it was not the same training.
    """
    for tries in range(1, TRIES + 1):
        load, started = os.getloadavg()[0], perf_counter()
        try:
            found = measured(entry, environments)
            break
        except TurnError as error:
            print(error, file=sys.stderr)
            if tries == TRIES:
                raise
    whole = perf_counter() - started
    distance = None
    if entry.kind == "lora":
        distance = distance_of(found["mean"], expected(entry.clients))
        if not distance <= ALIKE:
            raise SystemExit(f"{entry.name} has another mean: distance {distance:.2g}")
    return Turn(
        entry.name,
        entry.kind,
        entry.clients,
        repeat,
        round(load, 2),
        found["seconds"],
        round(whole, 1),
        tries,
        distance,
    )


@cache
def expected(clients: int) -> np.ndarray:
    """[D] the mean of the first clients' LoRAs, without any framework."""
    from rivals import work

    return work.trained(work.names(clients), work.start())


def distance_of(mean: Sequence[float], wanted: np.ndarray) -> float:
    """How far a mean is from another, relative."""
    return float(np.linalg.norm(np.array(mean) - wanted) / np.linalg.norm(wanted))


def in_turn(entries: Sequence[Entry], repeat: int) -> list[Entry]:
    """All entries, every other time from the last to the first: nobody is always after the same."""
    return list(entries if repeat % 2 == 0 else reversed(entries))


def summary(turns: Sequence[Turn]) -> dict[str, Any]:
    """Rates of one kind of work, ours as multiples of each rival's in the same repeat."""
    rates: dict[str, dict[int, float]] = {}
    for one in turns:
        rates.setdefault(one.name, {})[one.repeat] = one.clients / one.seconds
    own = rates["ours"]
    times = {
        name: statistics.median(
            own[repeat] / rate for repeat, rate in some.items() if repeat in own
        )
        for name, some in rates.items()
        if name != "ours" and own.keys() & some.keys()
    }
    return {
        "clients_per_second": {
            name: round(statistics.median(some.values()), 2) for name, some in rates.items()
        },
        "ours_times": {name: round(ratio, 3) for name, ratio in times.items()},
    }


def reached(times: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Of the goals without a model."""
    return {
        name: {"ratio": times[name], "goal": goal, "reached": times[name] >= goal}
        for name, goal in GOALS.items()
        if name in times
    }


def summaries(turns: Sequence[Turn]) -> dict[str, Any]:
    """Of both kinds of work, once ours have had a turn, and the goals."""
    kinds = [
        kind for kind in ("noop", "lora") if ("ours", kind) in {(t.name, t.kind) for t in turns}
    ]
    found = {kind: summary([one for one in turns if one.kind == kind]) for kind in kinds}
    return found | {"goals": reached(found.get("noop", {"ours_times": {}})["ours_times"])}


def versions(entries: Sequence[Entry], environments: Path) -> dict[str, str]:
    """Of the rivals that have an environment, which is called as they are."""
    own = {entry.environment: entry for entry in entries if entry.environment}
    ask = "import sys; from importlib.metadata import version; print(version(sys.argv[1]))"
    return {
        name: subprocess.run(
            [command(entry, environments, Path())[0], "-c", ask, name],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for name, entry in own.items()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """All in turns, and after each what was found so far."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("environments", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--skip", nargs="*", default=[])
    given = parser.parse_args(arguments)
    entries = [entry for entry in ENTRIES if entry.name not in given.skip]
    facts = machine.facts("flwr", "ray", "numpy", "torch")
    facts["versions"] |= versions(entries, given.environments)
    turns: list[Turn] = []
    for repeat in range(given.repeats):
        for entry in in_turn(entries, repeat):
            turns.append(turn(entry, given.environments, repeat))
            found = {"turns": [asdict(one) for one in turns], **summaries(turns)}
            machine.write("rivals", facts | found)


if __name__ == "__main__":
    main()
