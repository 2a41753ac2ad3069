"""What every benchmark writes beside its numbers."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def facts(*libraries: str) -> dict[str, Any]:
    """Date, processor, load and versions."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {"cpu": processor(), "cores": os.cpu_count(), "load": os.getloadavg()[0]},
        "versions": {name: version(name) for name in libraries},
    }


def processor() -> str:
    """The processor's name, on Linux from /proc."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def write(name: str, found: dict[str, Any]) -> None:
    """Write ``results/<name>.json`` and say where."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(path)
