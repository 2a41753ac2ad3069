"""A user's own modules, imported wherever a configuration is composed."""

from __future__ import annotations

import importlib.util
import os
import sys
from functools import lru_cache
from pathlib import Path

from sglora_fed.errors import ConfigError

PLUGINS = "SGLORA_FED_PLUGINS"
"""Environment variable with Python files, separated as in PATH. It reaches every process of a run,
and only who starts a node can set it: no message makes a node import anything."""


def load_plugins() -> None:
    """Import the files that the environment names; each once per process.

    A plugin registers its generators and mechanisms when it is imported.

    Raises:
        ConfigError: for a file that is not there.
    """
    for name in filter(None, os.environ.get(PLUGINS, "").split(os.pathsep)):
        _import(Path(name).expanduser().absolute())


@lru_cache
def _import(path: Path) -> None:
    spec = importlib.util.spec_from_file_location(f"sglora_fed_plugin_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ConfigError(f"{PLUGINS} names {path}; it must be a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
