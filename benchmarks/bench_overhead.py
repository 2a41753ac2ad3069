"""Virtual clients per second through Flower when no model runs: requests up, adapters down.

    python benchmarks/bench_overhead.py [--clients 10000 100000] [--repeats 4]

Writes ``benchmarks/results/overhead.json``. Each number of clients is a run of its own that repeats
the exchanges: the first repeat starts the workers and counts for what a run costs with its start
(from the command to its end, the other repeats taken out), the others for the steady rate. What one
more client costs is the difference of the largest and the smallest run. Beside it the smallest
without Flower's runtime, in one process: on a busy machine ratios are what can be compared.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from flwr.app import Context, RecordDict
from rich.console import Console

import machine
from sglora_fed.config import compose
from sglora_fed.federation.inprocess import InProcessGrid
from sglora_fed.federation.layouts import run_layout
from sglora_fed.launching.run import run_flower

APP = Path(__file__).parent / "overhead_app"
GOAL = 5000.0


Run = Callable[[Sequence[str], Path], None]
"""Runs the app without models, told some words, and leaves its ``summary.json`` in the folder."""


def through_flower(words: Sequence[str], folder: Path) -> None:
    """In Flower's simulation.

    Raises:
        LaunchError: when the run does not finish.
    """
    run_flower(compose(), words, folder, Console(), app=APP)


def in_this_process(words: Sequence[str], folder: Path) -> None:
    """With the same apps and messages, without Flower's runtime."""
    told: dict[str, bool | float | int | str] = {
        "overrides": shlex.join(words),
        "output": str(folder),
    }
    grid = InProcessGrid(app_module("client").app, compose().federation.nodes, told)
    empty = RecordDict()
    app_module("server").app(
        grid, Context(run_id=1, node_id=1, node_config={}, state=empty, run_config=told)
    )


def app_module(part: str) -> Any:
    """The server's or the client's app's module, whose name is another one's too."""
    spec = spec_from_file_location(f"overhead_{part}", APP / part / "app.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"{APP / part / 'app.py'} cannot be loaded")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def exchanged(run: Run, clients: int, size: int, repeats: int) -> list[list[float]]:
    """[repeats, 2] seconds of the requests and of the adapters."""
    with tempfile.TemporaryDirectory() as folder:
        run([str(number) for number in (clients, size, repeats)], Path(folder))
        seconds: list[list[float]] = json.loads((Path(folder) / "summary.json").read_text())
        return seconds


def rates(clients: int, seconds: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Clients per second in all repeats but the first."""
    found = [clients / sum(repeat) for repeat in seconds[1:]]
    return {"median": round(statistics.median(found), 1), "min": round(min(found), 1)}


def measured(clients: int, size: int, repeats: int) -> dict[str, Any]:
    """A run through Flower: its repeats, their rate, and the rate of one repeat with the start."""
    started = time.perf_counter()
    seconds = exchanged(through_flower, clients, size, repeats)
    once = time.perf_counter() - started - sum(map(sum, seconds[1:]))
    return {
        "clients": clients,
        "seconds_requests_and_adapters": seconds,
        "clients_per_second": rates(clients, seconds),
        "seconds_with_start": round(once, 2),
        "clients_per_second_with_start": round(clients / once, 1),
    }


def marginal(small: Mapping[str, Any], large: Mapping[str, Any]) -> dict[str, Any]:
    """What each client beyond the smaller run's costs."""
    more = large["clients"] - small["clients"]
    seconds = [one["clients"] / one["clients_per_second"]["median"] for one in (small, large)]
    rate = more / (seconds[1] - seconds[0])
    return {"clients": more, "clients_per_second": round(rate, 1)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the app without models in simulation and write the rates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clients", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--repeats", type=int, default=4)
    given = parser.parse_args(arguments)
    size = run_layout(compose()).size
    sizes = [measured(clients, size, given.repeats) for clients in given.clients]
    small, large = sizes[0], sizes[-1]
    alone = exchanged(in_this_process, small["clients"], size, given.repeats)
    reference, rate = rates(small["clients"], alone), large["clients_per_second"]["median"]
    found = {
        "numbers_per_adapter": size,
        "clients_per_message": app_module("server").CLIENTS_PER_MESSAGE,
        "sizes": sizes,
        "marginal": marginal(small, large),
        "goal": {"clients_per_second": rate, "goal": GOAL, "reached": rate >= GOAL},
        "clients_per_second_in_one_process": reference,
        "ratio": round(small["clients_per_second"]["median"] / reference["median"], 3),
    }
    machine.write("overhead", machine.facts("flwr", "ray", "numpy") | found)


if __name__ == "__main__":
    main()
