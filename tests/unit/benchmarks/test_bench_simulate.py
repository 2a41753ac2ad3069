"""A checkout's own code is what is timed; two of them take turns and give a ratio."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

CHECKOUT = """
import json, os, pathlib, sys

def main():
    output = pathlib.Path(sys.argv[sys.argv.index("--output") + 1])
    output.mkdir()
    home = pathlib.Path(os.environ["SGLORA_FED_HOME"])
    warm = (home / "kept").exists()
    (home / "kept").touch()
    summary = {{
        "seconds": {{"experts": 0.0 if warm else 1.0}},
        "counts": {{"clients": 3}},
        "bytes_per_client": {{"up": {up}}},
        "results": [
            dict(metric="r1", method=" ".join(sys.argv[1:-2])), dict(metric="i2t_r5"),
        ],
    }}
    (output / "summary.json").write_text(json.dumps(summary))
"""


def checkout(folder: Path, up: int) -> Path:
    """A folder whose package answers the command line with a summary."""
    (folder / "sglora_fed").mkdir(parents=True)
    (folder / "sglora_fed" / "__init__.py").touch()
    (folder / "sglora_fed" / "cli.py").write_text(CHECKOUT.format(up=up))
    return folder


def test_two_checkouts_take_turns(
    script: Callable[[str], ModuleType], results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = script("bench_simulate")
    monkeypatch.setattr(bench, "HERE", checkout(results / "now", 2000))
    other = checkout(results / "before", 4000)
    bench.main(["family.experts=4", "--against", str(other), "--repeats", "2"])
    found = json.loads((results / "simulate.json").read_text())
    assert found["results"] == [{"metric": "r1", "method": "simulate family.experts=4"}]
    assert found["bytes_per_client"] == {"up": 2000}
    assert found["bytes_up_reached"]
    for runs in (found, found["against"]):
        assert runs["cold"]["stages"] == {"experts": 1.0}
        assert runs["warm"]["stages"] == {"experts": 0.0}
        assert len(runs["cold"]["all_seconds"]) == 2
    assert set(found["ratio"]) == {"cold", "warm"}


def test_the_middle_run_speaks_for_all(script: Callable[[str], ModuleType]) -> None:
    runs = [(float(taken), {"seconds": {"fit": taken}}) for taken in (9, 1, 4)]
    found = script("bench_simulate").middle(runs)
    assert (found["seconds"], found["stages"]) == (4.0, {"fit": 4})
