"""Virtual clients per second through Flower when no model runs: requests up, adapters down.

Run: python benchmarks/bench_overhead.py. Writes benchmarks/results/overhead.json.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path

from rich.console import Console

sys.path.insert(0, str(Path(__file__).parent))
import machine

from sglora_fed.config import compose
from sglora_fed.federation.node import run_layout
from sglora_fed.launching.run import run_flower

CLIENTS, DIM, REPEATS, GOAL = 10_000, 384, 6, 3000.0


def main() -> None:
    """Run the app without models in simulation and write the rates."""
    config = compose([])
    size = run_layout(config).size
    app = Path(__file__).parent / "overhead_app"
    with tempfile.TemporaryDirectory() as folder:
        words = [str(number) for number in (CLIENTS, DIM, size, REPEATS)]
        run_flower(config, words, Path(folder), Console(), app=app)
        seconds = json.loads((Path(folder) / "summary.json").read_text())
    rates = [CLIENTS / (asked + delivered) for asked, delivered in seconds[1:]]
    found = machine.facts("flwr", "ray", "numpy") | {
        "clients": CLIENTS,
        "bytes_down_per_client": 2 * size,
        "bytes_up_per_client": 4 * DIM,
        "seconds_requests_and_adapters": seconds,
        "clients_per_second": {
            "median": statistics.median(rates),
            "min": min(rates),
            "goal": GOAL,
            "reached": statistics.median(rates) >= GOAL,
        },
    }
    machine.write("overhead", found)


if __name__ == "__main__":
    main()
