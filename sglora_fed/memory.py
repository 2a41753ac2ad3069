"""The most memory that a process has taken, and what it has no use for any more."""

from __future__ import annotations

import ctypes
import resource
import sys


def peak_mb() -> float:
    """Of this process until now, in 2^20 bytes: what of it lay in memory at once, no more."""
    # Kilobytes, but for macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)


def give_back() -> None:
    """Return what is free to the system, where the C library can (glibc's ``malloc_trim``).

    What forwards of many shapes leave free lies in pieces that the next ones do not fit in: without
    this a process grows with all that it has ever computed.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
