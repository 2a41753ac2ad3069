"""One function that turns overrides into a configuration, for the command line and both apps."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sglora_fed.config.plugins import load_plugins
from sglora_fed.config.schema import RunConfig
from sglora_fed.errors import ConfigError, HomeMissingError

_LOCK = Lock()
"""Hydra keeps its state in one global object."""


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
    """
    load_plugins()  # what they register are allowed values
    with _private_hydra():
        good, problems = _known(overrides)
        values = _hydra_values(good, problems)
    config = typing.cast(RunConfig, _build(RunConfig, values, "", problems))
    reported = {problem.partition("=")[0] for problem in problems}
    problems += [new for new in config.problems() if new.partition("=")[0] not in reported]
    if problems:
        raise ConfigError(problems)
    return config


@contextmanager
def _private_hydra() -> Iterator[None]:
    """Hydra's one global object for ourselves; whoever else uses Hydra gets it back as it was."""
    with _LOCK:
        theirs = GlobalHydra.instance().hydra
        GlobalHydra.instance().clear()
        # Named in configs/config.yaml, whose files only choose: defaults are the schema's.
        ConfigStore.instance().store("sglora_fed_options", _plain(asdict(RunConfig())))
        try:
            with initialize_config_dir(str(config_folder()), "sglora-fed", version_base="1.3"):
                yield
        finally:
            GlobalHydra.instance().hydra = theirs


def _hydra_values(overrides: list[str], problems: list[str]) -> dict[str, Any]:
    try:
        composed = hydra_compose("config", overrides)
        plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
        return typing.cast(dict[str, Any], plain)
    except (HydraException, OmegaConfBaseException) as error:
        problems.append(f"{' '.join(overrides)}: {str(error).splitlines()[0]}")
        return {}


def _known(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Overrides that name something real, and a problem for each other one."""
    parser, keys, groups = OverridesParser.create(), list(option_types()), _groups()
    good, problems = [], []
    for override in overrides:
        found = _problem(override, parser, keys, groups)
        if found:
            problems.append(found)
        else:
            good.append(override)
    return good, problems


def _problem(
    override: str, parser: OverridesParser, keys: list[str], groups: Mapping[str, list[str]]
) -> str | None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        return f"{override!r}: an override is KEY=VALUE"
    if key in groups and value in groups[key]:
        return None
    if key not in keys and key not in groups:
        near = difflib.get_close_matches(key, [*keys, *groups], n=1)
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


def _groups() -> dict[str, list[str]]:
    folder = config_folder()
    return {
        group.name: sorted(path.stem for path in group.glob("*.yaml"))
        for group in sorted(folder.iterdir())
        if group.is_dir()
    }


def option_types(schema: type = RunConfig, prefix: str = "") -> dict[str, Any]:
    """Dotted name of every option -> its type."""
    hints = typing.get_type_hints(schema)
    found: dict[str, Any] = {}
    for item in fields(schema):
        kind = hints[item.name]
        if is_dataclass(kind):
            found.update(option_types(typing.cast(type, kind), f"{prefix}{item.name}."))
        else:
            found[prefix + item.name] = kind
    return found


def _build(schema: type, values: Mapping[str, Any], prefix: str, problems: list[str]) -> Any:
    hints = typing.get_type_hints(schema)
    given: dict[str, Any] = {}
    for name, value in values.items():
        if name not in hints:
            problems.append(f"{prefix}{name}: unknown option")
        elif is_dataclass(hints[name]):
            inner = typing.cast(type, hints[name])
            given[name] = _build(inner, value, f"{prefix}{name}.", problems)
        else:
            try:
                given[name] = _cast(value, hints[name])
            except (TypeError, ValueError):
                problems.append(f"{prefix}{name}={value!r}: must be {type_name(hints[name])}")
    return schema(**given)


def _cast(value: Any, kind: Any) -> Any:
    """A YAML value as the field's type; raises TypeError or ValueError when it is another."""
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        inner = next(arg for arg in typing.get_args(kind) if arg is not type(None))
        return None if value is None else _cast(value, inner)
    if origin is tuple:
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise TypeError(value)
        return tuple(_cast(item, typing.get_args(kind)[0]) for item in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is float and isinstance(value, str):
        return float(value)
    if kind is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(value)
    return value


def type_name(kind: Any) -> str:
    """A type as the reference and the errors name it."""
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(type_name(arg) for arg in typing.get_args(kind))
    if origin is tuple:
        many = {int: "integers", float: "numbers", str: "texts"}
        return f"a list of {many[typing.get_args(kind)[0]]}"
    names = {int: "an integer", float: "a number", bool: "true or false", str: "text"}
    return "null" if kind is type(None) else names[kind]


def config_yaml(config: RunConfig) -> str:
    """The whole configuration as YAML."""
    return str(yaml.safe_dump(_plain(asdict(config)), sort_keys=False))


def config_sha256(config: RunConfig) -> str:
    """A hash of everything a run is a function of."""
    return _sha256(_plain(asdict(config)))


def subset_sha256(config: RunConfig, *groups: str) -> str:
    """A hash of some groups: two runs that agree on them can share what depends on them alone.

    The device is left out: it changes speed, not meaning.
    """
    values = {group: _plain(asdict(getattr(config, group))) for group in groups}
    values.get("backbone", {}).pop("device", None)
    return _sha256(values)


def _sha256(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
