"""JSON lines from a stranger's file: plain or compressed, every mistake named by file and line."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sglora_fed.errors import TaskFileError
from sglora_fed.tasks.visible import is_visible

LONGEST_LINE = 1_000_000
"""Bytes; also bounds what a small compressed file can expand to in memory."""


def read_lines(folder: Path, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each JSON object of ``name`` or ``name.gz``; empty lines are skipped.

    Args:
        folder: holds one of the two.
        name: without ``.gz``.

    Yields:
        Where the line is (``path:number``) and its object.

    Raises:
        TaskFileError: when both files or neither are there, on unreadable or damaged data, text
            that is not UTF-8, a line that is too long or is not a JSON object.
    """
    path = _existing(folder, name)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield from _objects(path, file)
    except (OSError, EOFError, zlib.error) as error:
        raise TaskFileError(f"{path} cannot be read: {error}") from error


def check_fields(where: str, value: Mapping[str, Any], allowed: set[str]) -> None:
    """Refuse fields outside of ``allowed``."""
    if unknown := sorted(set(value) - allowed):
        raise TaskFileError(f"{where}: unknown fields {unknown}; allowed are {sorted(allowed)}")


def text_of(where: str, name: str, value: Any) -> str:
    """A value that must be a text with something in it.

    Raises:
        TaskFileError: for another type, blank or invisible text, or a lone surrogate (no UTF-8 can
            hold it).
    """
    if not isinstance(value, str) or not value.strip():
        raise TaskFileError(f"{where}: {name} is {value!r}; need a text that is not empty")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise TaskFileError(f"{where}: {name} is {value!r}; lone surrogates are not text")
    if not is_visible(value):
        raise TaskFileError(f"{where}: {name} is {value!a}; no character of it is visible")
    return value


def texts_of(where: str, name: str, value: Any) -> dict[str, str]:
    """A value that must be an object of texts."""
    if not isinstance(value, dict):
        raise TaskFileError(f"{where}: {name} is {value!r}; need an object of texts")
    return {
        text_of(where, f"a key of {name}", key): text_of(where, f"{name}[{key!r}]", text)
        for key, text in value.items()
    }


def choice_of(where: str, name: str, value: Any, allowed: tuple[str, ...]) -> str:
    """A value that must be one of a few."""
    if not isinstance(value, str) or value not in allowed:
        raise TaskFileError(f"{where}: {name} is {value!r}; need one of {', '.join(allowed)}")
    return value


def _existing(folder: Path, name: str) -> Path:
    if not folder.is_dir():
        raise TaskFileError(f"{folder} is no folder; a task family is one, with {name} in it")
    found = [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
    if len(found) == 1:
        return found[0]
    has = "both" if found else "neither"
    raise TaskFileError(f"{folder} has {has} of {name} and {name}.gz; need one of them")


def _objects(
    path: Path, file: gzip.GzipFile | io.BufferedReader
) -> Iterator[tuple[str, dict[str, Any]]]:
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        where = f"{path}:{number}"
        if len(line) > LONGEST_LINE:
            raise TaskFileError(f"{where}: the line is longer than {LONGEST_LINE} bytes")
        if line.strip():
            yield where, _object(where, line)


def _object(where: str, line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line.decode("utf-8-sig"), object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        raise TaskFileError(f"{where}: not UTF-8: {error.reason}, byte {error.start}") from error
    except (ValueError, RecursionError) as error:
        raise TaskFileError(f"{where}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise TaskFileError(f"{where}: a JSON {type(value).__name__}; need an object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Python would keep the last of two equal keys and drop the other without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(k for k in keys if keys.count(k) > 1)!r} occurs twice")
    return found
