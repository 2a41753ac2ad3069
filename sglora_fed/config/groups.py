"""Overrides and the files of Hydra's groups to plain values."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

OPTIONS = "sglora_fed_options"
"""What configs/config.yaml calls the defaults."""

_LOCK = Lock()
"""Hydra keeps its state in one global object."""


def composed(
    overrides: Sequence[str], folder: Path, defaults: Mapping[str, Any], options: Sequence[str]
) -> tuple[dict[str, Any], list[str]]:
    """What the overrides that can be followed make of the defaults, and a problem for each other.

    Args:
        overrides: as Hydra takes them.
        folder: of Hydra's groups.
        defaults: of every option, which the files of the groups only change.
        options: dotted names of all of them.
    """
    good, problems = _known(overrides, options, groups(folder))
    with _private_hydra(folder):
        # Files choose; defaults are the schema's alone.
        ConfigStore.instance().store(OPTIONS, dict(defaults))
        return _values(good, problems), problems


def _values(overrides: list[str], problems: list[str]) -> dict[str, Any]:
    try:
        composed = hydra_compose("config", overrides)
        plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
        return typing.cast(dict[str, Any], plain)
    except (HydraException, OmegaConfBaseException) as error:
        problems.append(f"{' '.join(overrides)}: {str(error).splitlines()[0]}")
        return {}


@contextmanager
def _private_hydra(folder: Path) -> Iterator[None]:
    """Hydra's one global object for ourselves; whoever else uses Hydra gets it back as it was."""
    with _LOCK:
        theirs = GlobalHydra.instance().hydra
        GlobalHydra.instance().clear()
        try:
            with initialize_config_dir(str(folder), "sglora-fed", version_base="1.3"):
                yield
        finally:
            GlobalHydra.instance().hydra = theirs


def _known(
    overrides: Sequence[str], options: Sequence[str], groups: Mapping[str, list[str]]
) -> tuple[list[str], list[str]]:
    """Overrides that name something real, and a problem for each other one."""
    parser, good, problems = OverridesParser.create(), list[str](), list[str]()
    for override in overrides:
        found = _problem(override, parser, options, groups)
        if found:
            problems.append(found)
        else:
            good.append(override)
    return good, problems


def _problem(
    override: str, parser: OverridesParser, options: Sequence[str], groups: Mapping[str, list[str]]
) -> str | None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        return f"{override!r}: an override is KEY=VALUE"
    if key in groups and value in groups[key]:
        return None
    if key not in options and key not in groups:
        near = difflib.get_close_matches(key, [*options, *groups], n=1)
        hint = f"did you mean {near[0]}?" if near else "see docs/reference/configuration.md"
        return f"{override}: unknown option {key!r}; {hint}"
    try:
        is_sweep = parser.parse_override(override).is_sweep_override()
    except HydraException:
        return (
            f"{override}: cannot be read; put text with special characters in quotes: {key}='...'"
        )
    if is_sweep:
        return (
            f"{override}: one value only; a list is written [a,b],"
            " and `sglora-fed sweep` makes a run of each value in a,b"
        )
    return f"{override}: {key} must be one of {', '.join(groups[key])}" if key in groups else None


def groups(folder: Path) -> dict[str, list[str]]:
    """Group -> the files that may be chosen in it."""
    return {
        group.name: sorted(path.stem for path in group.glob("*.yaml"))
        for group in sorted(folder.iterdir())
        if group.is_dir()
    }
