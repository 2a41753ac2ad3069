"""A safetensors header is checked before anything is made from the file."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from sglora_fed.tensors import read_header


def raw(header: dict[str, Any] | str, body: int) -> bytes:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text)) + text + bytes(body)


def test_reads_what_the_library_writes(tmp_path: Path) -> None:
    arrays = {"a": np.zeros((2, 3), np.float32), "b": np.ones(5, np.int64), "c": np.ones((1, 1))}
    (tmp_path / "file").write_bytes(save(arrays, metadata={"note": "hello"}))
    header, metadata = read_header(tmp_path / "file")
    assert header == {"a": ("F32", (2, 3)), "b": ("I64", (5,)), "c": ("F64", (1, 1))}
    assert metadata == {"note": "hello"}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"1234567", "it has 7 bytes; it is truncated"),
        (struct.pack("<Q", 2**62) + b"{}", "claims 4611686018427387904 bytes; at most 65536"),
        (raw("{" + " " * 65_536 + "}", 0), "at most 65536"),
        (raw("[" * 60_000, 0), "no JSON"),
        (struct.pack("<Q", 500) + b'{"a": ', "no JSON"),
        (raw("\udcff".encode(errors="surrogatepass").decode("latin-1"), 0), "no JSON"),
        (raw("[1, 2]", 0), "not that of a safetensors file"),
        (raw('{"a": {"dtype": "F32"}}', 0), "not that of a safetensors file"),
        (raw('{"a": {"dtype": "F32", "shape": 4}}', 16), "not that of a safetensors file"),
        (raw('{"a": 1, "a": 2}', 0), "names something twice"),
        (raw({"a": {"dtype": "F32", "shape": [0, 9]}}, 0), "a has shape [0, 9]"),
        (raw({"a": {"dtype": "F32", "shape": [-1]}}, 0), "a has shape [-1]"),
        (raw({"a": {"dtype": "F32", "shape": [1.0]}}, 4), "a has shape [1.0]"),
        (raw({"a": {"dtype": "F32", "shape": [True]}}, 4), "a has shape [True]"),
        (raw({"a": {"dtype": "BOOL", "shape": [4]}}, 4), "type BOOL; must be one of F16, F32"),
        (raw({"a": {"dtype": "F32", "shape": [2**70]}}, 8), "holds 8 bytes of numbers"),
        (raw({"a": {"dtype": "F32", "shape": [2]}}, 9), "its header promises 8"),
        (raw({"a": {"dtype": "I64", "shape": [2]}}, 15), "its header promises 16"),
    ],
)
def test_refuses(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(ValueError, match=re.escape(said)):
        read_header(tmp_path / "file")


def test_a_huge_file_is_refused_without_being_read(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.write(raw({"a": {"dtype": "F32", "shape": [2]}}, 8))
        file.truncate(2**36)  # sparse: takes no space
    with pytest.raises(ValueError, match="its header promises 8"):
        read_header(tmp_path / "file")
