"""A zoo on disk: ``manifest.json`` and one safetensors shard per upload; never pickle.

A shard is written first, the manifest after it. A run that dies in between leaves a shard that no
manifest names; it is overwritten by the next one.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from sglora_fed.errors import ZooDamagedError, ZooForeignError, ZooSizeError
from sglora_fed.files import sha256_of, write_atomically
from sglora_fed.zoo.types import Zoo, ZooIdentity

MANIFEST = "manifest.json"
SCHEMA = 1
LONGEST_HEADER = 65_536
ARRAYS = {"embeddings": "F32", "means": "F32", "variances": "F32", "examples": "I64"}


class ZooStore:
    """A zoo folder that grows by uploads.

    Args:
        path: the folder; its manifest must have been read or written.
        identity: what the zoo was made for.
        shards: the manifest's entries.
    """

    def __init__(self, path: Path, identity: ZooIdentity, shards: list[dict[str, Any]]) -> None:
        self.path = path
        self.identity = identity
        self._shards = shards

    def ids(self) -> tuple[str, ...]:
        """Experts stored so far."""
        return tuple(name for shard in self._shards for name in shard["ids"])

    def add(self, part: Zoo) -> None:
        """Store some experts; they are in the zoo when this returns.

        Raises:
            ZooDamagedError: for an expert that is stored already.
            ResultsError: when the disk is full; the zoo is as before then.
        """
        if again := set(part.ids) & set(self.ids()):
            raise ZooDamagedError(f"experts {sorted(again)} are in {self.path} already")
        name = f"shard-{len(self._shards):05d}.safetensors"
        arrays = {key: np.ascontiguousarray(getattr(part, key)) for key in ARRAYS}
        write_atomically(self.path / name, save(arrays))
        entry = {
            "file": name,
            "sha256": sha256_of(self.path / name),
            "ids": list(part.ids),
            "examples": part.examples.tolist(),
        }
        _write_manifest(self.path, self.identity, [*self._shards, entry])
        self._shards.append(entry)

    def load(self) -> Zoo:
        """All experts, ordered by id, every shard checked.

        Raises:
            ZooSizeError: when the zoo is empty.
            ZooDamagedError: when a shard is not what was written.
        """
        if not self._shards:
            raise ZooSizeError(f"{self.path} holds no expert; at least 1 is needed")
        parts = [_read_shard(self.path, shard) for shard in self._shards]
        ids = self.ids()
        arrays = {key: np.concatenate([part[key] for part in parts]) for key in ARRAYS}
        zoo = Zoo(ids, **arrays)
        return zoo.select(np.argsort(np.array(ids)))


def open_zoo(path: Path, identity: ZooIdentity) -> ZooStore:
    """Open a zoo to continue it, or make a new one.

    Raises:
        ZooForeignError: when the zoo there was made for something else.
        ZooDamagedError: when its manifest cannot be read.
    """
    if not (path / MANIFEST).exists():
        _write_manifest(path, identity, [])
        return ZooStore(path, identity, [])
    store = read_store(path)
    if different := identity.differences(store.identity):
        raise ZooForeignError(
            f"{path} was made for another run: {'; '.join(different)}; choose another zoo.path"
        )
    return store


def read_store(path: Path) -> ZooStore:
    """Open an existing zoo, whatever it was made for.

    Raises:
        ZooDamagedError: when the manifest is missing or not one.
    """
    manifest = path / MANIFEST
    try:
        values = json.loads(manifest.read_text(encoding="utf-8"))
        if values["schema"] != SCHEMA:
            raise ZooDamagedError(f"{manifest}: schema {values['schema']!r}; need {SCHEMA}")
        identity = ZooIdentity(**values["identity"])
        shards = [_entry(shard) for shard in values["shards"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ZooDamagedError(f"{manifest} cannot be read: {type(error).__name__}") from error
    return ZooStore(path, identity, shards)


def _entry(shard: dict[str, Any]) -> dict[str, Any]:
    if Path(shard["file"]).name != shard["file"]:
        raise ValueError(shard["file"])
    return {key: shard[key] for key in ("file", "sha256", "ids", "examples")}


def _write_manifest(path: Path, identity: ZooIdentity, shards: list[dict[str, Any]]) -> None:
    values = {
        "schema": SCHEMA,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "identity": asdict(identity),
        "shards": shards,
    }
    write_atomically(path / MANIFEST, json.dumps(values, indent=1).encode())


def _read_shard(path: Path, entry: dict[str, Any]) -> dict[str, np.ndarray]:
    file, count = path / entry["file"], len(entry["ids"])
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ZooDamagedError(f"{file} cannot be read: {error.strerror}") from error
    _check_header(file, data, count)
    if sha256_of(file) != entry["sha256"]:
        raise ZooDamagedError(f"{file} has another sha256 than the manifest says")
    try:
        return dict(load(data))
    except SafetensorError as error:
        raise ZooDamagedError(f"{file} is no safetensors file: {error}") from error


def _check_header(file: Path, data: bytes, count: int) -> None:
    """Names, types, row counts and total size, before any array is made from the file."""
    if len(data) < 8:
        raise ZooDamagedError(f"{file} has {len(data)} bytes; it is truncated")
    (length,) = struct.unpack("<Q", data[:8])
    if length > min(LONGEST_HEADER, len(data) - 8):
        raise ZooDamagedError(f"{file}: header of {length} bytes; the file is truncated or foreign")
    try:
        header = json.loads(data[8 : 8 + length])
        found = {name: (entry["dtype"], entry["shape"]) for name, entry in header.items()}
        ends = [entry["data_offsets"][1] for entry in header.values()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ZooDamagedError(f"{file}: the header is no safetensors header") from error
    if {name: kind for name, (kind, _) in found.items()} != ARRAYS:
        raise ZooDamagedError(f"{file} holds {found}; need {ARRAYS}")
    if any(not shape or shape[0] != count for _, shape in found.values()):
        raise ZooDamagedError(f"{file} holds {found}; need {count} rows")
    if max(ends) != len(data) - 8 - length:
        raise ZooDamagedError(f"{file} has {len(data)} bytes; it is truncated")
