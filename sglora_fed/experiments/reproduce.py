"""The command that repeats a run."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sglora_fed.config import compose
from sglora_fed.config.overrides import quoted
from sglora_fed.config.plugins import PLUGINS, plugin_files
from sglora_fed.config.schema import RunConfig


def command(config: RunConfig) -> str:
    """What to type for the same run: the plug-ins, and what differs from the default."""
    return _plugins() + shlex.join(["sglora-fed", "simulate", *overrides(config)])


def _plugins() -> str:
    """The environment in front of the command: absolute, so that it works in any folder."""
    files = os.pathsep.join(map(str, plugin_files()))
    return f"{PLUGINS}={shlex.quote(files)} " if files else ""


def overrides(config: RunConfig) -> list[str]:
    """Overrides that turn the default configuration into this one."""
    default = flat(asdict(compose()))
    return [
        f"{name}={_written(value)}"
        for name, value in flat(asdict(config)).items()
        if value != default[name]
    ]


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted name of each option -> its value."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def _written(value: Any) -> str:
    """A value in the grammar of Hydra's overrides."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{','.join(_written(item) for item in value)}]"
    return quoted(value) if isinstance(value, str) else repr(value)
