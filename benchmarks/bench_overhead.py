"""Virtual clients per second through Flower when no model runs: requests up, adapters down.

    python benchmarks/bench_overhead.py [--clients 10000] [--repeats 6]

Writes ``benchmarks/results/overhead.json``. The first repeat starts the workers and does not count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

import machine
from sglora_fed.config import compose
from sglora_fed.federation.node import run_layout
from sglora_fed.launching.run import run_flower

APP = Path(__file__).parent / "overhead_app"
GOAL = 5000.0


def exchanged(clients: int, size: int, repeats: int) -> list[list[float]]:
    """[repeats, 2] seconds of the requests and of the adapters, in Flower's simulation.

    Raises:
        LaunchError: when the run does not finish.
    """
    with tempfile.TemporaryDirectory() as folder:
        words = [str(number) for number in (clients, size, repeats)]
        run_flower(compose(), words, Path(folder), Console(), app=APP)
        seconds: list[list[float]] = json.loads((Path(folder) / "summary.json").read_text())
        return seconds


def rates(clients: int, seconds: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Clients per second in all repeats but the first."""
    found = [clients / sum(repeat) for repeat in seconds[1:]]
    median = round(statistics.median(found), 1)
    return {"median": median, "min": round(min(found), 1), "goal": GOAL, "reached": median >= GOAL}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the app without models in simulation and write the rates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=6)
    given = parser.parse_args(arguments)
    size = run_layout(compose()).size
    seconds = exchanged(given.clients, size, given.repeats)
    found = {
        "clients": given.clients,
        "numbers_per_adapter": size,
        "seconds_requests_and_adapters": seconds,
        "clients_per_second": rates(given.clients, seconds),
    }
    machine.write("overhead", machine.facts("flwr", "ray", "numpy") | found)


if __name__ == "__main__":
    main()
