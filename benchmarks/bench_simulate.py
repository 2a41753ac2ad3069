"""The main job's time, cold and with its zoo cached, beside the goals, and its bytes per client.

Run: python benchmarks/bench_simulate.py. Writes benchmarks/results/simulate.json. Takes the time of
both runs; the machine should have nothing else to do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import machine

GOALS = {"cold_s": 360.0, "warm_s": 120.0, "bytes_up": 2048}


def timed(home: Path, output: Path) -> tuple[float, dict[str, Any]]:
    """Wall seconds of ``sglora-fed simulate`` and its summary."""
    command = [str(Path(sys.executable).parent / "sglora-fed"), "simulate", "--output", str(output)]
    env = os.environ | {"SGLORA_FED_HOME": str(home)}
    started = time.perf_counter()
    subprocess.run(command, env=env, check=True)
    seconds = time.perf_counter() - started
    return seconds, json.loads((output / "summary.json").read_text())


def main() -> None:
    """Both runs with a home of their own."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        found = machine.facts("flwr", "torch", "transformers", "numpy") | {"goals": GOALS}
        for name in ("cold", "warm"):
            seconds, summary = timed(home, Path(folder) / name)
            found[name] = {
                "seconds": round(seconds, 1),
                "reached": seconds <= GOALS[f"{name}_s"],
                "stages": summary["seconds"],
            }
        found["counts"] = summary["counts"]
        found["bytes_per_client"] = summary["bytes_per_client"]
        found["bytes_up_reached"] = summary["bytes_per_client"]["up"] <= GOALS["bytes_up"]
        found["results"] = summary["results"]
    machine.write("simulate", found)


if __name__ == "__main__":
    main()
