"""Files under a digest of what they were made from: one can be missing, but never out of date."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from sglora_fed.config import home
from sglora_fed.files import write_atomically

ALONE, TUNED = "trained_alone", "tuned"
"""Kinds of what clients train: begun at an adapter that changes nothing yet, or at one that experts
had a part in."""

FACTS = "facts"
"""Kind of the files that say what others were made from."""

Facts = Mapping[str, object]
"""All that something was made from, as plain JSON values."""


def digest(facts: object) -> str:
    """sha256 of plain JSON values as hexadecimal digits, whatever the order of their names."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def kept_path(kind: str, facts: Facts, suffix: str, absent: Sequence[str] = ()) -> Path:
    """Where something is kept, or would be.

    Args:
        kind: of the thing.
        facts: that it is a function of.
        suffix: of the file's name; empty for a folder.
        absent: experts that took no part in making it, though they should have.
    """
    partial = f"-without-{digest(sorted(absent))[:16]}" if absent else ""
    return home() / "kept" / kind / f"{digest(facts)}{partial}{suffix}"


def kept_versions(kind: str, facts: Facts, suffix: str) -> list[Path]:
    """What there is: the whole one first, then those made without somebody, the newest first."""
    whole = kept_path(kind, facts, suffix)
    others = whole.parent.glob(f"{digest(facts)}-without-*{suffix}")
    newest = sorted(others, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return [path for path in (whole, *newest) if path.exists()]


def keep_facts(facts: Facts) -> None:
    """Keep what something is made from, before it is kept itself.

    A digest does not tell what went into it, and an owner may withdraw an expert.

    Raises:
        ResultsError: when the disk is full.
    """
    write_atomically(kept_path(FACTS, facts, ".json"), json.dumps(facts, sort_keys=True).encode())
