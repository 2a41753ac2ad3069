"""Plain values to the typed configuration, and types in words."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from sglora_fed.config.schema import RunConfig


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


def build(schema: type, values: Mapping[str, Any], problems: list[str], prefix: str = "") -> Any:
    """A group of options; a value of another type is a problem, and its default stays.

    Args:
        schema: the group's dataclass.
        values: by name.
        problems: new ones are put at its end.
        prefix: of the group's dotted names.
    """
    hints = typing.get_type_hints(schema)
    given: dict[str, Any] = {}
    for name, value in values.items():
        if name not in hints:
            problems.append(f"{prefix}{name}: unknown option")
        elif is_dataclass(hints[name]):
            inner = typing.cast(type, hints[name])
            given[name] = build(inner, value, problems, f"{prefix}{name}.")
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
