"""One way to derive a seed, so that a run is a function of its configuration and seed alone."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *parts: str | int) -> int:
    """A stable seed for one purpose.

    Args:
        seed: the run's seed.
        parts: what the randomness is for, e.g. ``("expert", "rule-007")``.

    Returns:
        An integer in [0, 2**63), the same in every process and on every machine.
    """
    text = "/".join([str(seed), *(str(part) for part in parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1
