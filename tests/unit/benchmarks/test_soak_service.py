"""The soak of the service at a small size: all its nodes are served, but those of no use."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType


def test_memory_and_events_are_told(script: Callable[[str], ModuleType], results: Path) -> None:
    script("soak_service").main(["--requests", "60", "--nodes", "10"])
    found = json.loads((results / "soak-service.json").read_text())
    assert found["events"]["served"] >= 60
    assert found["events"]["failed"] >= 1
    assert len(found["megabytes"]) == 11
