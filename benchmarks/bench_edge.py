"""What a node of one's own costs: from ``client init`` to an adapter on disk, CPU, memory.

Real processes on this machine, with TLS and registered node keys: a SuperLink, a service with a zoo
of random numbers, and one node after the other. Run with::

    python benchmarks/bench_edge.py --output benchmarks/results/edge.json

CPU and memory are reliable on a busy machine; seconds are not. Memory is that of all of a node's
processes as if it had the machine to itself: pages of a file that several of them have count once,
whoever else has mapped the file. (Proportional set sizes would be less where others run torch.)
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from threading import Event, Thread

import numpy as np
import psutil
from PIL import Image

from machine import facts

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "edge"))

from small_zoo import random_zoo
from trial import Trial

CAMERAS = ("generator=ridge", "privacy=privunit", "privacy.epsilon=8")
MINILM = ("experiment=assistant", *CAMERAS)
LIMIT = 300.0
EVERY = 0.1
"""Seconds between two looks at a node's processes."""

WORDS = "My camera is mounted on its head, so the picture is turned by 180 degrees."


@dataclass(frozen=True)
class Look:
    """At a node's processes.

    Attributes:
        date: seconds since 1970.
        mb: memory of all (:func:`memory`).
        cpu: seconds of all so far, those that have ended included.
    """

    date: float
    mb: float
    cpu: float


@dataclass(frozen=True)
class Cost:
    """Of one node.

    Attributes:
        seconds: from ``client init`` to the adapter on disk.
        describe_cpu, adopt_cpu: seconds of CPU of the node's processes during each exchange.
        start_cpu: before the first one.
        describe_mb, adopt_mb, idle_mb: the most that its processes took, and between messages.
    """

    seconds: float
    start_cpu: float
    describe_cpu: float
    adopt_cpu: float
    describe_mb: float
    adopt_mb: float
    idle_mb: float


def memory(members: Sequence[psutil.Process]) -> float:
    """What processes have in memory together, in 2^20 bytes: a file's pages are counted once.

    Of each file those of the process that has most of it, as if the others had no further ones.
    """
    own, files = 0, defaultdict[str, int](int)
    for one in members:
        # One that has ended stays in the list, without memory, until its parent asks after it.
        with suppress(psutil.ZombieProcess):
            for mapped in one.memory_maps(grouped=True):
                own += mapped.anonymous
                files[mapped.path] = max(files[mapped.path], mapped.rss - mapped.anonymous)
    return (own + sum(files.values())) / 2**20


class Watch:
    """Looks at a node's processes until told to stop."""

    def __init__(self, trial: Trial, name: str) -> None:
        self._trial, self._name = trial, name
        self.looks: list[Look] = []
        self._done = Event()
        self._thread = Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(EVERY):
            with suppress(psutil.NoSuchProcess):
                members = self._trial.members(self._name)
                mb = memory(members)
                # A process counts those of its children that have ended.
                cpu = sum(sum(one.cpu_times()[:4]) for one in members)
                self.looks.append(Look(time.time(), mb, cpu))


def measure(trial: Trial, name: str, options: Sequence[str]) -> Cost:
    """Set a node up, wait for its adapter, and cost it."""
    trial.register(name)
    begun = time.monotonic()
    line = trial.make_node(name, WORDS, *options)
    trial.connect(name, line)
    watch = Watch(trial, name)
    trial.wait(lambda: trial.adopted(name), LIMIT, f"{name} has no adapter")
    seconds = time.monotonic() - begun
    # The reply is on its way still; after it come three seconds in which the node only polls.
    trial.wait(lambda: len(asked(trial, name)) == 3, LIMIT, f"{name} is not served")
    time.sleep(4)
    watch.stop()
    trial.kill(name)
    return cost(watch.looks, asked(trial, name), seconds)


def asked(trial: Trial, name: str) -> list[float]:
    """When the node, the last one that came, was asked to describe, to adopt, and was served."""
    lines = [json.loads(line) for line in (trial.output / "events.jsonl").open()]
    mine = [line for line in lines if line["node"] == lines[-1]["node"]]
    known = name in {path.name for path in trial.folder.iterdir()}
    dates = [datetime.fromisoformat(line["date"]).timestamp() for line in mine]
    return dates if known and mine[-1]["event"] in ("asked", "served") else []


def cost(looks: Sequence[Look], dates: Sequence[float], seconds: float) -> Cost:
    """What the looks say of the exchanges that began and ended at these dates."""
    describe, adopt, served = dates

    def cpu(date: float) -> float:
        return max((look.cpu for look in looks if look.date <= date), default=0.0)

    def mb(begin: float, end: float) -> float:
        return max(look.mb for look in looks if begin <= look.date <= end)

    return Cost(
        seconds=round(seconds, 1),
        start_cpu=round(cpu(describe), 2),
        describe_cpu=round(cpu(adopt) - cpu(describe), 2),
        adopt_cpu=round(cpu(looks[-1].date) - cpu(adopt), 2),
        describe_mb=round(mb(describe, adopt)),
        adopt_mb=round(mb(adopt, served)),
        idle_mb=round(looks[-1].mb),
    )


def pictures(folder: Path) -> Path:
    """A task of 16 pictures with captions, whose numbers mean nothing."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    task = {"id": "mine", "description": WORDS, "role": "client"}
    lines = []
    for number in range(16):
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(folder / f"{number}.png")
        caption = (
            f"a small {('red', 'blue')[number % 2]} circle at the {('top', 'left')[number % 2]}"
        )
        lines.append({"task": "mine", "image": f"{number}.png", "caption": caption, "part": "test"})
    return _family(folder, task, lines)


def texts(folder: Path) -> Path:
    """A task of 16 texts with two labels."""
    folder.mkdir()
    labels = {"yes": "urgent", "no": "not urgent"}
    task = {"id": "mine", "description": WORDS, "role": "client", "labels": labels}
    lines = [
        {"task": "mine", "text": f"letter {n}", "label": ("yes", "no")[n % 2], "part": "test"}
        for n in range(16)
    ]
    return _family(folder, task, lines)


def _family(folder: Path, task: Mapping[str, object], lines: list[dict[str, str]]) -> Path:
    (folder / "tasks.jsonl").write_text(json.dumps(task) + "\n")
    (folder / "examples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def bench(folder: Path, overrides: Sequence[str], data: Path) -> dict[str, dict[str, float]]:
    """Two nodes after one another: one that only adopts, one that measures on its own data."""
    with Trial(folder, ["adopts", "measures"]) as trial:
        random_zoo(folder / "zoo", list(overrides))
        trial.start_superlink()
        trial.serve(*overrides, f"zoo.path={folder / 'zoo'}")
        trial.wait(lambda: (trial.output / "counters.json").exists(), LIMIT, "no service")
        found = {"adopts": asdict(measure(trial, "adopts", []))}
        found["measures"] = asdict(measure(trial, "measures", ["--data", str(data)]))
        return {**found, "server": {"mb": round(memory(trial.members("superlink")))}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    output = parser.parse_args().output
    with tempfile.TemporaryDirectory(prefix="sglora-edge-") as name:
        folder = Path(name)
        found = {
            **facts("flwr", "torch", "transformers", "numpy"),
            "cameras": bench(folder / "cameras", CAMERAS, pictures(folder / "pictures")),
            "minilm": bench(folder / "minilm", MINILM, texts(folder / "texts")),
        }
    text = json.dumps(found, indent=1)
    print(text)
    if output:
        output.write_text(text + "\n")


if __name__ == "__main__":
    main()
