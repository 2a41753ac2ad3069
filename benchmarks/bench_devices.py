"""The same clients on one node and on several, each on a device of its own: times and numbers.

    python benchmarks/bench_devices.py [--nodes 2] [--device cuda] [--clients 24] [--steps 100]

Writes ``benchmarks/results/devices.json``. A node is a process that sees one GPU. Two loads: unseen
cameras that fine-tune on their own pictures and are measured, as ``oracle`` does, and steps of 64
adapters of a BERT of MiniLM's shape (``bench_gpu.py``), which fill a GPU. Each is done by one node,
by nodes that share the first GPU, and by nodes with a GPU each; all must come to the same adapters.
Starting and a first small turn are not in the times. The library's own parts do it all, no Flower.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import nn

import machine
from bench_gpu import ITEMS, TOKENS, Folded, bert, experts_vectors, layout
from sglora_fed.adapters.data import prepare
from sglora_fed.adapters.evaluation import score_tasks
from sglora_fed.adapters.start import configured_start
from sglora_fed.adapters.training import train_adapters
from sglora_fed.backbones.metrics import task_metrics
from sglora_fed.config.schema import (
    AdapterConfig,
    BackboneConfig,
    FamilyConfig,
    RunConfig,
    TrainConfig,
)
from sglora_fed.federation.node import Node
from sglora_fed.seeds import derive_seed

PAIRS, PICTURES, EXPERTS, REPEATS = 256, 100, 64, 3

Found = dict[str, np.ndarray]
"""Whose -> its adapter [D], and for a client what was measured behind it."""


@dataclass(frozen=True)
class Size:
    """How much there is to do.

    Attributes:
        clients: of each of three splits.
        steps: of training, in both loads.
    """

    clients: int
    steps: int


def configuration(size: Size, device: str) -> RunConfig:
    """As ``experiment=cameras`` has it; written out, as a GPU's machine may lack Hydra."""
    train = TrainConfig(steps=size.steps, batch_size=32, lr=0.005, checkpoints=1)
    return RunConfig(
        family=FamilyConfig(
            name="cameras",
            clients_per_split=size.clients,
            train_per_client=PAIRS,
            test_per_client=PICTURES,
        ),
        backbone=BackboneConfig(name="clip", path="package:cameras", device=device),
        adapter=AdapterConfig(
            rank=8, alpha=16.0, targets=("q_proj", "k_proj", "v_proj"), layers=(), train=train
        ),
    )


def cameras(node: Node, clients: int | None = None) -> Found:
    """A node's clients fine-tune on what they have and are measured.

    Args:
        node: whose clients.
        clients: only so many.
    """
    tasks = list(node.clients.values())[:clients]
    encoder, own = node.encoder, node.layout
    start = configured_start(node.config, own, 0)
    seeds = [derive_seed(0, "devices", task.id) for task in tasks]
    lessons = [prepare(encoder, task, task.train) for task in tasks]
    train = node.config.adapter.train
    vectors = train_adapters(encoder, own, start, lessons, train, seeds).final
    tests = [prepare(encoder, task, task.test) for task in tasks]
    scores = score_tasks(encoder, tests, own, vectors)
    found = {}
    for task, vector, score, part in zip(tasks, vectors, scores, tests, strict=True):
        pairs = [(example.key, example.label) for example in task.test]
        values = task_metrics(part.kind, score, part.targets, pairs).values()
        found[task.id] = np.concatenate([vector, np.array(list(values), np.float32)])
    return found


def adapters(partition: int, partitions: int, device: torch.device, steps: int) -> Found:
    """Some steps of a node's share of 64 adapters, all in one batch."""
    model = bert().to(device)
    own, random = layout(model), torch.Generator().manual_seed(2)
    width: int = model.config.hidden_size  # type: ignore[union-attr, assignment]
    tokens = torch.randint(1000, 30_000, (EXPERTS, ITEMS, TOKENS), generator=random)
    wanted = torch.randn(EXPERTS, ITEMS, width, generator=random)
    mine = range(partition, EXPERTS, partitions)
    rows = torch.tensor(mine)
    folded = Folded(
        model,
        own,
        experts_vectors(own, EXPERTS)[rows].to(device),
        tokens[rows].flatten(0, 1).to(device),
        nn.functional.normalize(wanted[rows].flatten(0, 1), dim=1).to(device),
    )
    for _ in range(steps):
        folded.step()
    return {f"expert-{row}": v for row, v in zip(mine, folded.vectors.numpy(), strict=True)}


def work_here(partition: int, partitions: int, size: Size, device: str) -> None:
    """A node: says that it is ready, then does the loads that are named on standard input.

    Each line that it prints is the file of what it found.
    """
    torch.set_num_threads(1)
    node, kind = Node(configuration(size, device), partition, partitions), torch.device(device)
    loads: Mapping[str, Callable[[], Found]] = {
        "cameras": lambda: cameras(node),
        "adapters": lambda: adapters(partition, partitions, kind, size.steps),
    }
    with tempfile.TemporaryDirectory() as folder:
        cameras(node, 8)
        adapters(partition, partitions, kind, 2)
        print("ready", flush=True)
        for number, line in enumerate(sys.stdin):
            file = Path(folder) / f"{number}.npz"
            np.savez(file, **loads[line.strip()]())  # type: ignore[arg-type]  # names are free
            print(file, flush=True)


@dataclass(frozen=True)
class Crew:
    """Nodes, by the two ends of their pipes."""

    told: Sequence[IO[str]]
    heard: Sequence[IO[str]]

    def wait(self) -> None:
        """Until all are ready; RuntimeError when one has not started."""
        if any(one.readline() != "ready\n" for one in self.heard):
            raise RuntimeError("a node did not start; its error stands above")

    def does(self, load: str) -> tuple[float, Found]:
        """Seconds until the last node is done with a load, and what all found."""
        started = time.perf_counter()
        for told in self.told:
            told.write(f"{load}\n")
            told.flush()
        files = [heard.readline().strip() for heard in self.heard]
        seconds, found = time.perf_counter() - started, Found()
        for file in files:
            with np.load(file) as arrays:
                found |= dict(arrays)
        return seconds, found


@contextmanager
def crew(cards: Sequence[str], size: Size, device: str) -> Iterator[Crew]:
    """A node for each card that is named; they end with the context."""
    with ExitStack() as stack:
        told, heard = list[IO[str]](), list[IO[str]]()
        for number, card in enumerate(cards):
            command = [sys.executable, __file__, "--device", device]
            command += ["--clients", str(size.clients), "--steps", str(size.steps)]
            command += ["--share", str(number), str(len(cards))]
            node = stack.enter_context(
                subprocess.Popen(
                    command,
                    env=os.environ | {"CUDA_VISIBLE_DEVICES": card},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            assert node.stdin is not None
            assert node.stdout is not None
            told.append(node.stdin)
            heard.append(node.stdout)
        yield Crew(told, heard)
        for one in told:
            one.close()


def largest_difference(one: Found, other: Found) -> float:
    """Of any number of theirs.

    Raises:
        ValueError: when they are not of the same clients.
    """
    if one.keys() != other.keys():
        raise ValueError(f"{len(one.keys() ^ other.keys())} are in one of them alone")
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def compared(ways: Mapping[str, Sequence[str]], size: Size, device: str) -> dict[str, Any]:
    """Load -> way -> seconds, how many times as fast as one node, and how far off."""
    found: dict[str, Any] = {load: {} for load in ("cameras", "adapters")}
    alone: dict[str, tuple[float, Found]] = {}
    with ExitStack() as stack:
        crews = {way: stack.enter_context(crew(cards, size, device)) for way, cards in ways.items()}
        for nodes in crews.values():
            nodes.wait()
        for way, load in product(crews, found):
            turns = [crews[way].does(load) for _ in range(REPEATS)]
            seconds, made = statistics.median(turn[0] for turn in turns), turns[0][1]
            first, reference = alone.setdefault(load, (seconds, made))
            found[load][way] = {
                "seconds": round(seconds, 3),
                "times": round(first / seconds, 2),
                "largest_difference": largest_difference(reference, made),
                "of_itself": largest_difference(made, turns[-1][1]),
            }
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """All ways one after the other, or one node of another process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--clients", type=int, default=24, help="of each of three splits")
    parser.add_argument("--steps", type=int, default=100, help="of training")
    parser.add_argument("--share", type=int, nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    size = Size(given.clients, given.steps)
    if given.share:
        partition, partitions = given.share
        return work_here(partition, partitions, size, given.device)
    ways = {"one_node": ["0"], "sharing": ["0"] * given.nodes}
    if given.device == "cuda":
        ways["own_device"] = [str(number) for number in range(given.nodes)]
    counts = {"clients": 3 * size.clients, "experts": EXPERTS, "nodes": given.nodes}
    found = machine.facts("torch", "transformers") | counts | compared(ways, size, given.device)
    found["card"] = torch.cuda.get_device_name() if given.device == "cuda" else "none"
    machine.write("devices", found)


if __name__ == "__main__":
    main()
