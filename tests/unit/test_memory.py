"""Memory that is free between what is in use leaves the process."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from sglora_fed.memory import give_back

STATM, PAGE = Path("/proc/self/statm"), 4096


def resident() -> int:
    """Bytes."""
    return int(STATM.read_text().split()[1]) * PAGE


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_what_is_free_between_what_is_in_use_is_given_back() -> None:
    size, count = 64_000, 2000
    rows = [np.ones(size, np.uint8) for _ in range(count)]
    kept = rows[::20]
    del rows
    before = resident()
    give_back()
    assert before - resident() > 0.5 * size * count
    assert all(row.all() for row in kept)
