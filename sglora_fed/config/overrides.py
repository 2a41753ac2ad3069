"""Overrides that mean the same wherever they are read: quoted, with absolute paths."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from sglora_fed.config.schema import RunConfig

BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
RESERVED = ("null", "none", "true", "false", "nan", "inf")
"""Words that an override would not read as text."""


def quoted(text: str) -> str:
    """A text as the value of an override, in the grammar of Hydra."""
    if BARE.fullmatch(text) and text.lower() not in RESERVED:
        return text
    # Within quotes only backslashes before a quote are special, and what looks like a reference.
    text = re.sub(r"(\\*)\$\{", lambda m: m[1] * 2 + "\\${", text)
    return "'" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text) + "'"


def with_absolute_paths(config: RunConfig, overrides: Sequence[str]) -> list[str]:
    """Overrides that mean the same in any working folder: Flower's workers run in another one.

    Args:
        config: composed from ``overrides``.
        overrides: kept; those that name a relative path, or one of the user's home, are set again
            behind them.
    """
    paths = {
        "family.path": config.family.path,
        "backbone.path": config.backbone.path,
        "zoo.path": config.zoo.path,
        "zoo.key": config.zoo.key,
    }
    found = list(overrides)
    for option, value in paths.items():
        path = Path(value or "/").expanduser()
        # A backbone or a data set may be a hub id; a zoo's folder need not exist yet.
        ours = option.startswith("zoo.")
        if not Path(value or "/").is_absolute() and (ours or path.exists()):
            found.append(f"{option}={quoted(str(path.absolute()))}")
    return found
