"""The most memory that a process has taken."""

from __future__ import annotations

import resource
import sys


def peak_mb() -> float:
    """Of this process until now, in 2^20 bytes: what of it lay in memory at once, no more."""
    # Kilobytes, but for macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)
