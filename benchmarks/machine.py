"""What benchmarks share: where things lie, and what they write beside their numbers."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"

HOME = "SGLORA_FED_HOME"


@contextmanager
def kept_in(folder: Path) -> Iterator[None]:
    """Zoos and all else that is reused lie in a folder of their own for a while."""
    before = os.environ.get(HOME)
    os.environ[HOME] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[HOME]
        else:
            os.environ[HOME] = before


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
