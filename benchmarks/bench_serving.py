"""The endpoint over mutual TLS: how fast, how much, what one greedy client costs the others.

    python benchmarks/bench_serving.py [--parts pace press overload soak] [--seconds 20]

Writes ``benchmarks/results/serving.json``. The generator has the cameras' sizes (384 numbers in,
9,216 out, 32 directions); its numbers are random, which costs the same. The endpoint is a process
of its own, started by ``sglora-fed serve``; the clients share another with this script, but for the
greedy ones, which have one of theirs. All share the machine's cores: with two of them, three busy
processes wait for one another, whatever the endpoint does, so the greedy ones get what the others
leave. ``pace``: 50 clients with a connection each send 300 requests a second together. ``press``:
each asks again at once. ``overload``: ten greedy clients press over 16 connections each while the
50 keep their pace. ``soak``: 10,000 requests of 200 clients.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import machine
from serving_crowd import Crowd
from serving_load import (
    Authority,
    Client,
    Endpoint,
    Seen,
    closed,
    paced,
    pressing,
    running,
    unit_requests,
    warm,
)
from sglora_fed.config.schema import GeneratorConfig
from sglora_fed.generators import make_generator
from sglora_fed.generators.export import About, Export, read_export, write_export
from sglora_fed.serving.batching import Batcher
from sglora_fed.serving.tls import Files
from sglora_fed.zoo import ZooIdentity

DIM, EXPERTS, DIRECTIONS = 384, 64, 32
CLIENTS, RATE = 50, 300.0
GREEDY, CONNECTIONS = 10, 16
GOALS = {"p50": 15.0, "p99": 60.0, "adapters_per_second": 300.0, "overload": 2.0, "growth": 0.05}


def make_export(folder: Path) -> Export:
    """A generator of the cameras' sizes and random numbers."""
    rng = np.random.default_rng(0)
    width = 64  # of the small CLIP: 3 modules in each of 3 layers, rank 8
    modules = [[f"m{number}", width, width] for number in range(9)]
    layout = {"modules": modules, "rank": 8, "alpha": 16.0}
    size = 9 * 8 * 2 * width
    identity = ZooIdentity("clip", "5" * 64, "minilm", layout, 0, "c" * 64, "", {})
    rows = rng.normal(size=(EXPERTS, DIM))
    config = GeneratorConfig()
    generator = make_generator(config, "functional")
    generator.restore(
        {
            "embeddings": (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32),
            "centre": np.zeros(DIM),
            "map": rng.normal(size=(DIM, DIRECTIONS)) / DIM**0.5,
            "basis": rng.normal(size=(DIRECTIONS, size)).astype(np.float32) / size**0.5,
            "offset": rng.normal(size=size).astype(np.float32) / size**0.5,
        }
    )
    write_export(folder, generator, config, About("cameras", None, None, identity, ()), None)
    return read_export(folder)


def in_process(export: Export, together: int, seconds: float) -> float:
    """Adapters a second of the generator itself, so many in each batch."""
    requests = unit_requests(together, export.dim, 1)
    rows = np.stack([one.released for one in requests]).astype(np.float32)
    batcher, made = Batcher(export), 0
    batcher.generate(rows)
    end = time.perf_counter() + seconds
    started = time.perf_counter()
    while time.perf_counter() < end:
        made += len(batcher.generate(rows))
    batcher.close()
    return made / (time.perf_counter() - started)


class Bench:
    """One export and one authority for all parts."""

    def __init__(self, folder: Path, seconds: float, requests: int) -> None:
        self.export = make_export(folder / "export")
        self.folder, self.seconds, self.requests = folder / "export", seconds, requests
        self._authority, self._names = Authority(folder), 0
        self._own = self._authority.issue("endpoint")
        self._asked = unit_requests(256, self.export.dim, 2)

    def _issued(self, count: int) -> list[tuple[str, Files]]:
        """New clients' names and certificates."""
        names = [f"client-{self._names + number}" for number in range(1, count + 1)]
        self._names += count
        return [(name, self._authority.issue(name)) for name in names]

    def clients(self, count: int, port: int) -> list[Client]:
        """New clients with a connection each."""
        return [Client(name, files, port) for name, files in self._issued(count)]

    def pace(self) -> dict[str, Any]:
        """50 clients, 300 requests a second."""
        with running(self.folder, self._own) as endpoint:
            return self._measured(endpoint, lambda found: self._paced(found))

    def _paced(self, clients: Sequence[Client]) -> Awaitable[Seen]:
        return paced(clients, self._asked, RATE, round(RATE * self.seconds))

    def press(self) -> dict[str, Any]:
        """50 clients, each again at once; beside it the generator alone."""
        with running(self.folder, self._own, "--rate", "100000") as endpoint:
            found = self._measured(
                endpoint, lambda clients: pressing(clients, self._asked, self.seconds)
            )
        alone = in_process(self.export, CLIENTS, min(2.0, self.seconds))
        rate = found["adapters_per_second"]
        return found | {
            "in_process_per_second": round(alone),
            "ratio_to_in_process": round(rate / alone, 4),
        }

    def overload(self) -> dict[str, Any]:
        """The paced clients' tail without and with greedy ones, on one endpoint."""
        with running(self.folder, self._own) as endpoint:
            others = self.clients(CLIENTS, endpoint.port)
            named = self._issued(GREEDY)
            crowd = Crowd(named, endpoint.port, CONNECTIONS, self._asked, self.seconds)

            async def both() -> tuple[Seen, Seen]:
                await warm(others, self._asked[0])
                before = await self._paced(others)
                crowd.press()
                during = await self._paced(others)
                await closed(others)
                return before, during

            with crowd:
                before, during = asyncio.run(both())
                refused = crowd.seen()
        ratio = during.milliseconds()["p99"] / before.milliseconds()["p99"]
        return {
            "others_before_ms": before.milliseconds(),
            "others_during_ms": during.milliseconds(),
            "others_statuses": dict(during.statuses),
            "greedy_statuses": dict(refused.statuses),
            "greedy_429_without_retry_after": refused.without_retry,
            "p99_ratio": round(ratio, 2),
            "reached": ratio <= GOALS["overload"] and refused.without_retry == 0,
        }

    def soak(self) -> dict[str, Any]:
        """Memory after a tenth of the requests and at the end."""
        nodes = max(2, self.requests // 50)
        with running(self.folder, self._own) as endpoint:
            clients = self.clients(nodes, endpoint.port)

            async def all_of_them() -> tuple[Seen, list[float]]:
                await warm(clients, self._asked[0])
                memory, seen, rate = [endpoint.memory()], Seen(), min(500.0, 10.0 * nodes)
                for _ in range(10):
                    part = await paced(clients, self._asked, rate, self.requests // 10)
                    seen.statuses += part.statuses
                    memory.append(endpoint.memory())
                await closed(clients)
                return seen, memory

            seen, memory = asyncio.run(all_of_them())
        growth = memory[-1] / memory[1] - 1
        return {
            "nodes": nodes,
            "statuses": dict(seen.statuses),
            "megabytes": [round(value, 1) for value in memory],
            "growth": round(growth, 4),
            "reached": growth <= GOALS["growth"] and set(seen.statuses) == {200},
        }

    def _measured(
        self, endpoint: Endpoint, load: Callable[[Sequence[Client]], Awaitable[Seen]]
    ) -> dict[str, Any]:
        async def whole() -> tuple[Seen, float, float]:
            clients = self.clients(CLIENTS, endpoint.port)
            await warm(clients, self._asked[0])
            cpu, started = endpoint.cpu(), time.perf_counter()
            seen = await load(clients)
            taken = time.perf_counter() - started, endpoint.cpu() - cpu
            await closed(clients)
            return seen, *taken

        seen, seconds, cpu = asyncio.run(whole())
        made = len(seen.seconds)
        return {
            "clients": CLIENTS,
            "milliseconds": seen.milliseconds(),
            "statuses": dict(seen.statuses),
            "adapters_per_second": round(made / seconds, 1),
            "endpoint_cpu_ms_per_adapter": round(1000 * cpu / made, 3),
        }


PARTS = ("pace", "press", "overload", "soak")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the parts and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--requests", type=int, default=10_000, help="of the soak, 50 a node")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), given.seconds, given.requests)
        found = {part: getattr(bench, part)() for part in given.parts}
    if "pace" in found:
        tail = found["pace"]["milliseconds"]
        found["pace"]["reached"] = all(tail[name] <= GOALS[name] for name in ("p50", "p99"))
    if "press" in found:
        goal = GOALS["adapters_per_second"]
        found["press"]["reached"] = found["press"]["adapters_per_second"] >= goal
    libraries = ("fastapi", "uvicorn", "uvloop", "httptools", "cryptography", "numpy")
    machine.write("serving", machine.facts(*libraries) | {"goals": GOALS} | found)


if __name__ == "__main__":
    main()
