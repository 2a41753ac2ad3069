"""One function that turns overrides into a configuration, for the command line and both apps."""

from __future__ import annotations

import hashlib
import json
import os
import typing
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from sglora_fed.config.building import build, option_types
from sglora_fed.config.plugins import load_plugins
from sglora_fed.config.schema import RunConfig
from sglora_fed.errors import ConfigError, HomeMissingError


def home() -> Path:
    """The folder for zoos and results: $SGLORA_FED_HOME, else ~/.sglora-fed.

    Raises:
        HomeMissingError: when the user has no home directory.
    """
    named = os.environ.get("SGLORA_FED_HOME") or "~/.sglora-fed"
    try:
        return Path(named).expanduser().absolute()
    except RuntimeError as error:
        raise HomeMissingError(f"{named}: user {os.getuid()} has no home directory") from error


def config_folder() -> Path:
    """Hydra's groups: inside an installed package, or beside it in the repository and the bundle.

    Raises:
        ConfigError: when neither is there.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "config.yaml").is_file():
            return folder
    raise ConfigError(f"no configs/config.yaml in {package} or {package.parent}; reinstall")


def compose(overrides: Sequence[str] = ()) -> RunConfig:
    """Compose a configuration. Safe to call again and again, from threads and from workers.

    Args:
        overrides: as Hydra takes them, e.g. ``["generator=ridge", "privacy.epsilon=4"]``.

    Raises:
        ConfigError: naming every unknown override, wrong type and impossible value at once.
        PluginError: when a plug-in cannot be loaded.
    """
    from sglora_fed.config.groups import composed  # Hydra, for those who compose

    load_plugins()  # what they register are allowed values
    values, problems = composed(
        overrides, config_folder(), _plain(asdict(RunConfig())), list(option_types())
    )
    config = typing.cast(RunConfig, build(RunConfig, values, problems))
    reported = {problem.partition("=")[0] for problem in problems}
    problems += [new for new in config.problems() if new.partition("=")[0] not in reported]
    if problems:
        raise ConfigError(problems)
    return config


def config_yaml(config: RunConfig) -> str:
    """The whole configuration as YAML."""
    return str(yaml.safe_dump(_plain(asdict(config)), sort_keys=False))


def config_sha256(config: RunConfig) -> str:
    """A hash of everything a run is a function of: who else is told of it is not."""
    values = _plain(asdict(config))
    del values["tracking"]
    return _sha256(values)


def _sha256(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
