"""The header of a safetensors file, checked before anything is made from the file.

The safetensors library itself accepts duplicate names, headers of megabytes, hundreds of thousands
of empty tensors and any type; a file from elsewhere could use them to waste memory and time.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any, BinaryIO

LONGEST_HEADER = 65_536
BYTES = {"F16": 2, "F32": 4, "F64": 8, "I64": 8, "U16": 2}
"""Types that files and messages of this project hold, with the bytes of one number."""

Spec = tuple[str, tuple[int, ...]]
"""Type and shape of one array."""


def read_header(path: Path) -> tuple[dict[str, Spec], dict[str, str]]:
    """Names, types and shapes of the arrays in a file, and its metadata.

    Only the header is read. The file's size must be exactly what the header promises.

    Raises:
        OSError: when the file cannot be read.
        ValueError: with the reason, when the file is truncated or not of this project's kind.
    """
    with path.open("rb") as file:
        return header_of(file, path.stat().st_size)


def header_of(file: BinaryIO, size: int) -> tuple[dict[str, Spec], dict[str, str]]:
    """As :func:`read_header`, of anything that can be read.

    Args:
        file: at its beginning.
        size: bytes that it holds.

    Raises:
        ValueError: with the reason, when it is truncated or not of this project's kind.
    """
    prefix = file.read(8)
    if len(prefix) < 8:
        raise ValueError(f"it has {len(prefix)} bytes; it is truncated")
    (length,) = struct.unpack("<Q", prefix)
    if length > LONGEST_HEADER:
        raise ValueError(f"its header claims {length} bytes; at most {LONGEST_HEADER}")
    header, metadata = _parse(file.read(length))
    promised = sum(BYTES[kind] * math.prod(shape) for kind, shape in header.values())
    if (present := size - 8 - length) != promised:
        raise ValueError(f"it holds {present} bytes of numbers; its header promises {promised}")
    return header, metadata


def offsets(path: Path) -> dict[str, int]:
    """Where in a file that :func:`read_header` accepts each array begins, in bytes."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        values = json.loads(file.read(length))
    values.pop("__metadata__", None)
    return {name: 8 + length + entry["data_offsets"][0] for name, entry in values.items()}


def _parse(text: bytes) -> tuple[dict[str, Spec], dict[str, str]]:
    try:
        values = json.loads(text, object_pairs_hook=_without_duplicates)
        metadata = dict(values.pop("__metadata__", {}))
        header = {name: _spec(name, entry) for name, entry in values.items()}
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError("its header is no JSON; it is truncated or damaged") from error
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError("its header is not that of a safetensors file") from error
    return header, metadata


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("its header names something twice")
    return values


def _spec(name: str, entry: dict[str, Any]) -> Spec:
    kind, shape = entry["dtype"], entry["shape"]
    if kind not in BYTES:
        raise ValueError(f"{name} is of type {kind}; must be one of {', '.join(BYTES)}")
    if not all(type(width) is int and width > 0 for width in shape):
        raise ValueError(f"{name} has shape {shape}; all widths must be > 0")
    return kind, tuple(shape)
