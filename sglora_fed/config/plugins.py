"""Modules of a user's own, imported wherever a configuration is composed.

A plug-in registers its families, backbones, generators and mechanisms when it is loaded. Installed
packages name theirs as entry points of the group ``sglora_fed.plugins``; for single files there is
an environment variable. Only who installs or starts something on a machine can say what is loaded
there: no message makes a node import anything.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from sglora_fed.errors import PluginError

PLUGINS = "SGLORA_FED_PLUGINS"
"""Environment variable with Python files, separated as in PATH; it reaches every process of a
run."""

GROUP = "sglora_fed.plugins"
"""Of entry points, each a module or something to call, which registers."""


def plugin_files() -> list[Path]:
    """The files that the environment names, absolute."""
    names = filter(None, os.environ.get(PLUGINS, "").split(os.pathsep))
    return [Path(name).expanduser().absolute() for name in names]


def load_plugins() -> tuple[str, ...]:
    """Load the plug-ins of installed packages, then the files that the environment names.

    Each once per process.

    Returns:
        The sha256 of each: of a package's name, version and code, or of a file.

    Raises:
        PluginError: for one that is not there, or fails when it is loaded.
    """
    points = sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value))
    return (*map(_load, points), *map(_import, plugin_files()))


def plugins_sha256() -> str:
    """A hash of all code that was loaded: what one version made must not stand for another's.

    Neither the order nor the places of the files count. Modules that a single file imports are not
    looked at.

    Raises:
        PluginError: as :func:`load_plugins`.
    """
    return _sha256(sorted(load_plugins()))


@lru_cache
def _load(point: EntryPoint) -> str:
    package = (point.dist.name, point.dist.version) if point.dist else ("?", "?")
    with _named(f"entry point {point.name} = {point.value} of {' '.join(package)}"):
        found = point.load()
        if not isinstance(found, ModuleType):
            found()
    return _sha256([*package, _code(sys.modules[point.module.partition(".")[0]])])


@lru_cache
def _import(path: Path) -> str:
    what = f"{PLUGINS} names {path}"
    spec = importlib.util.spec_from_file_location(f"sglora_fed_plugin_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise PluginError(f"{what}; it must be a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with _named(what):
        spec.loader.exec_module(module)
    return _sha256(_code(module))


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Whatever a plug-in raises is told as its own, in one line."""
    try:
        yield
    except Exception as error:
        raise PluginError(f"{what}: {type(error).__name__}: {error}") from error


def _code(module: ModuleType) -> list[str]:
    """A hash of each source file of a module, or of a package in the order of their names."""
    folders = [Path(folder) for folder in getattr(module, "__path__", ())]
    files = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    if not folders and module.__file__:
        files = [Path(module.__file__)]
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]


def _sha256(values: object) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
