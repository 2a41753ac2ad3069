"""A zoo on disk: ``manifest.json`` and one safetensors shard per upload; never pickle.

A shard is written first, the manifest after it, and a shard's name comes from its content: a run
that dies in between leaves a file that no manifest names, and nothing that a manifest names is ever
written again. Descriptions are not stored, only their embeddings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from sglora_fed.adapters.layout import Layout
from sglora_fed.errors import (
    LayoutError,
    PrivacyError,
    ZooDamagedError,
    ZooForeignError,
    ZooSizeError,
)
from sglora_fed.files import write_atomically
from sglora_fed.promises import Promise
from sglora_fed.tasks.types import IDENTIFIER
from sglora_fed.tensors import Spec, offsets, read_header
from sglora_fed.zoo.rows import Piece, Rows, joined
from sglora_fed.zoo.serials import Signable, line_of
from sglora_fed.zoo.types import Zoo, ZooIdentity

MANIFEST = "manifest.json"
SCHEMA = 3
ARRAYS = ("wordings", "means", "variances", "examples")
LARGE = ("wordings", "means", "variances")
IN_MEMORY = 10**9
"""Bytes of a zoo up to which its numbers are read into memory, once and for all."""

NAMES = ("ids", "owners", "task_digests")
"""Of a shard's experts, one each, in the manifest."""

SIGNED = ("file", "sha256", "ids", "task_digests")
"""Of a shard, in what a signature is about."""


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
        self._size = Layout.from_dict(identity.layout).size
        self._shards = shards

    def ids(self) -> tuple[str, ...]:
        """Experts stored so far."""
        return tuple(self.task_digests())

    def task_digests(self) -> dict[str, str]:
        """Expert -> hash of the task that it was trained on."""
        return {
            name: digest
            for shard in self._shards
            for name, digest in zip(shard["ids"], shard["task_digests"], strict=True)
        }

    def owners(self) -> dict[str, str]:
        """Expert -> name of the node that it came from."""
        return {
            name: owner
            for shard in self._shards
            for name, owner in zip(shard["ids"], shard["owners"], strict=True)
        }

    def promises(self) -> list[dict[str, Any]]:
        """What experts' training promises, each once, with the number of experts."""
        told = [
            {key: one[key] for key in ("unit", "epsilon", "delta", "accountant")} if one else {}
            for shard in self._shards
            for one in shard["promises"]
        ]
        distinct = [one for place, one in enumerate(told) if one not in told[:place]]
        return [{"experts": told.count(one), **(one or {"epsilon": None})} for one in distinct]

    def assign(self, owners: Mapping[str, str]) -> None:
        """Note which node some experts belong to now; node ids change from run to run."""
        before = self.owners()
        if all(before[name] == owner for name, owner in owners.items()):
            return
        self._rewrite(
            {**shard, "owners": [owners.get(n, o) for n, o in zip(*_named(shard), strict=True)]}
            for shard in self._shards
        )

    def remove(self, ids: Collection[str]) -> None:
        """Take experts out of the zoo, and their numbers off the disk.

        A shard that holds others too is written anew without them.

        Raises:
            ZooSizeError: for an expert that is not in the zoo.
            ZooDamagedError: when a shard of one of them is not what was written.
            ResultsError: when the disk is full; the zoo is as before then.
        """
        if missing := set(ids) - set(self.ids()):
            raise ZooSizeError(f"{self.path} has no experts {sorted(missing)}; nothing was removed")
        before = self._shards
        touched = [shard for shard in before if set(ids) & set(shard["ids"])]
        left = [self._without(ids, shard) if shard in touched else shard for shard in before]
        self._rewrite(shard for shard in left if shard is not None)
        # Experts of equal numbers share a file: its name is that of its content.
        still = {shard["file"] for shard in self._shards}
        for file in {shard["file"] for shard in touched} - still:
            (self.path / file).unlink(missing_ok=True)

    def _without(self, ids: Collection[str], shard: dict[str, Any]) -> dict[str, Any] | None:
        """A new shard of the experts that are left; None when nobody is."""
        rows = np.flatnonzero([name not in ids for name in shard["ids"]])
        if not len(rows):
            return None
        part = _read_shard(self.path / shard["file"], shard, self._size)
        return self._written(part.select(rows))

    def signed_part(self) -> bytes:
        """What a signature of the zoo is about, as canonical JSON.

        All of the manifest but when it was written and what the owners are called, which changes
        from run to run; who shares an owner with whom decides who is believed, so that counts.
        """
        names = list(self.owners().values())
        shards = [{key: shard[key] for key in _signed(shard)} for shard in self._shards]
        values = {
            "schema": SCHEMA,
            "identity": asdict(self.identity),
            "shards": shards,
            "owners": [names.index(name) for name in names],
        }
        return json.dumps(values, sort_keys=True, separators=(",", ":")).encode("ascii")

    def signable(self) -> Signable:
        """The manifest, to be signed or checked."""
        return Signable(self.path, self.signed_part(), line_of("zoo", asdict(self.identity)))

    def _rewrite(self, shards: Iterable[dict[str, Any]]) -> None:
        changed = list(shards)
        _write_manifest(self.path, self.identity, changed)
        self._shards = changed

    def add(self, part: Zoo) -> None:
        """Store some experts; they are in the zoo when this returns.

        Raises:
            ZooDamagedError: for an expert that is stored already.
            ZooForeignError: for adapters of another size than the zoo's layout.
            ResultsError: when the disk is full; the zoo is as before then.
        """
        if again := set(part.ids) & set(self.ids()):
            raise ZooDamagedError(f"experts {sorted(again)} are in {self.path} already")
        if part.size != self._size:
            raise ZooForeignError(
                f"an adapter has {part.size} numbers; the layout of {self.path} has {self._size}"
            )
        self._rewrite([*self._shards, self._written(part)])

    def _written(self, part: Zoo) -> dict[str, Any]:
        """The manifest's entry of a shard that was written now."""
        data = save({key: np.ascontiguousarray(getattr(part, key)) for key in ARRAYS})
        digest = hashlib.sha256(data).hexdigest()
        entry: dict[str, Any] = {
            "file": f"shard-{digest[:16]}.safetensors",
            "sha256": digest,
            **{name: list(getattr(part, name)) for name in NAMES},
            "promises": [one and one.to_dict() for one in part.promises],
        }
        write_atomically(self.path / entry["file"], data)
        return entry

    def load(self) -> Zoo:
        """All experts, ordered by id, every shard checked.

        Of more than ``IN_MEMORY`` bytes the numbers stay in the shards, to be read by rows.

        Raises:
            ZooSizeError: when the zoo is empty.
            ZooDamagedError: when shards are not what was written; the message names them all.
        """
        if not self._shards:
            raise ZooSizeError(f"{self.path} holds no expert; at least 1 is needed")
        parts, damaged, large = [], [], self._bytes() > IN_MEMORY
        for shard in self._shards:
            file = self.path / shard["file"]
            try:
                part = _read_shard(file, shard, self._size)
                parts.append(_left_there(file, shard, part) if large else part)
            except ZooDamagedError as error:
                damaged.append(error.args[0])
        if damaged:
            raise ZooDamagedError("; ".join(damaged))
        zoo = _joined(self.path, parts)
        _check_promises(self.path, zoo)
        return zoo.select(np.argsort(np.array(zoo.ids)))

    def _bytes(self) -> int:
        """Of all shards; one that is missing has none, and is found damaged."""
        files = [self.path / shard["file"] for shard in self._shards]
        return sum(file.stat().st_size for file in files if file.exists())


def open_zoo(path: Path, identity: ZooIdentity) -> ZooStore:
    """Open a zoo to continue it, or make a new one.

    Raises:
        ZooForeignError: when the zoo there was made for something else; names each field.
        ZooDamagedError: when its manifest cannot be read.
        ResultsError: when the folder cannot be written.
    """
    if not (path / MANIFEST).exists():
        store = ZooStore(path, identity, [])
        _write_manifest(path, identity, [])
        return store
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
            raise ZooDamagedError(f"{manifest} has schema {values['schema']!r}; need {SCHEMA}")
        shards = [_entry(shard) for shard in values["shards"]]
        return ZooStore(path, ZooIdentity(**values["identity"]), shards)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ZooDamagedError(
            f"{path} is no zoo: it has no {MANIFEST}; a run makes one, or sglora-fed zoo build"
        ) from error
    except OSError as error:
        raise ZooDamagedError(f"{manifest} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, RecursionError, LayoutError) as error:
        raise ZooDamagedError(f"{manifest} is no manifest of a zoo: {error}") from error


def _entry(shard: dict[str, Any]) -> dict[str, Any]:
    """A manifest's entry; its file must lie in the zoo's own folder, its names be names."""
    if Path(shard["file"]).name != shard["file"]:
        raise ValueError(f"shard {shard['file']!r}")
    count = len(shard["ids"])
    for key in NAMES:
        names = shard[key]
        if not isinstance(names, list) or len(names) != count or not all(map(_is_name, names)):
            raise ValueError(f"{key} of shard {shard['file']}: need {count} identifiers")
    promises = [_promise(one) for one in shard.get("promises", [None] * count)]
    if len(promises) != count:
        raise ValueError(f"promises of shard {shard['file']}: need {count}")
    kept = {key: shard[key] for key in ("file", "sha256", *NAMES)}
    return kept | {"promises": [one and one.to_dict() for one in promises]}


def _promise(values: Any) -> Promise | None:
    """A promise of the manifest; one that is not there is none."""
    try:
        return None if values is None else Promise.from_dict(values)
    except PrivacyError as error:
        raise ValueError(error.args[0]) from error


def _is_name(value: object) -> bool:
    """What may reach a terminal: a manifest may be a stranger's."""
    return isinstance(value, str) and (not value or IDENTIFIER.fullmatch(value) is not None)


def _signed(shard: Mapping[str, Any]) -> tuple[str, ...]:
    """What a signature is about; promises too, where there are any."""
    return (*SIGNED, "promises") if any(shard["promises"]) else SIGNED


def _named(shard: dict[str, Any]) -> tuple[list[str], list[str]]:
    return shard["ids"], shard["owners"]


def _write_manifest(path: Path, identity: ZooIdentity, shards: list[dict[str, Any]]) -> None:
    values = {
        "schema": SCHEMA,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "identity": asdict(identity),
        "shards": shards,
    }
    write_atomically(path / MANIFEST, json.dumps(values, indent=1).encode())


def _read_shard(file: Path, entry: dict[str, Any], size: int) -> Zoo:
    try:
        header, metadata = read_header(file)
        expected = _expected(header, len(entry["ids"]), size)
        if header != expected or metadata:
            raise ZooDamagedError(f"{file} holds {header | metadata}; need {expected}")
        data = file.read_bytes()
    except OSError as error:
        raise ZooDamagedError(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ZooDamagedError(f"{file}: {error}") from error
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise ZooDamagedError(f"{file} has another sha256 than the manifest says")
    try:
        arrays = load(data)
        names: dict[str, Any] = {key: tuple(entry[key]) for key in NAMES}
        names["promises"] = tuple(map(_promise, entry["promises"]))
        return Zoo(**(names | arrays))
    except (SafetensorError, ZooDamagedError) as error:
        raise ZooDamagedError(f"{file}: {error.args[0]}") from error


def _left_there(file: Path, entry: dict[str, Any], part: Zoo) -> Zoo:
    """A shard's experts that were read and checked, their numbers in the file again."""
    count = len(entry["ids"])
    numbers: dict[str, Any] = {}
    for name, offset in offsets(file).items():
        if name in LARGE:
            array = getattr(part, name)
            piece = Piece(file, offset, count)
            numbers[name] = Rows((piece,), array.dtype, array.shape[1:], np.arange(count))
    return replace(part, **numbers)


def _check_promises(path: Path, zoo: Zoo) -> None:
    """Compute every epsilon anew from its noise: a manifest may say what it likes."""
    for name, examples, promise in zip(zoo.ids, zoo.examples, zoo.promises, strict=True):
        if promise is None:
            continue
        if promise.examples != examples:
            raise ZooDamagedError(
                f"{path}: expert {name} has {examples} examples, its promise {promise.examples}"
            )
        try:
            promise.check()
        except PrivacyError as error:
            raise ZooDamagedError(f"{path}: expert {name}: {error.args[0]}") from error


def _expected(header: dict[str, Spec], count: int, size: int) -> dict[str, Spec]:
    """The one header that a shard of some experts may have; the wordings' shape is its own."""
    texts = header.get("wordings", ("", (0, 0, 0)))[1][1:]
    return {
        "wordings": ("F32", (count, *texts)),
        "means": ("F32", (count, size)),
        "variances": ("F32", (count, size)),
        "examples": ("I64", (count,)),
    }


def _joined(path: Path, parts: list[Zoo]) -> Zoo:
    texts = sorted({part.wordings.shape[1:] for part in parts})
    if len(texts) > 1:
        raise ZooDamagedError(f"{path} holds wordings x numbers {texts}; need one encoder's")
    fields: dict[str, Any] = {
        key: tuple(name for part in parts for name in getattr(part, key))
        for key in (*NAMES, "promises")
    }
    fields |= {key: joined([getattr(part, key) for part in parts]) for key in ARRAYS}
    return Zoo(**fields)
