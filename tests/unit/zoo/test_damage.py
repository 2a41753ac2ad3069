"""A zoo refuses whatever was not written by it."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from sglora_fed.errors import ZooDamagedError
from sglora_fed.zoo import Zoo, ZooIdentity, open_zoo, read_store

MakeZoo = Callable[..., Zoo]
ARRAYS = ("wordings", "means", "variances", "examples")


def shard(folder: Path, number: int = 0) -> Path:
    """The file of the first upload, of the second, and so on."""
    manifest = json.loads((folder / "manifest.json").read_text())
    return folder / str(manifest["shards"][number]["file"])


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    values = json.loads((folder / "manifest.json").read_text())
    change(values)
    (folder / "manifest.json").write_text(json.dumps(values))


def replace_shard(folder: Path, data: bytes, number: int = 0) -> None:
    """Another content with a manifest that vouches for it: what a forger would do."""
    shard(folder, number).write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    edit_manifest(folder, lambda m: m["shards"][number].update(sha256=digest))


def with_header(data: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def lengths(data: bytes) -> list[int]:
    """A length of each class: nothing, within each part, and at each border."""
    (header,) = struct.unpack("<Q", data[:8])
    start = 8 + header
    return [0, 1, 7, 8, 9, 8 + header // 2, start - 1, start, start + 1, len(data) - 1]


@pytest.mark.parametrize("vouched", [False, True])
def test_every_truncation_is_refused(folder: Path, vouched: bool) -> None:
    data = shard(folder).read_bytes()
    for length in lengths(data):
        if vouched:
            replace_shard(folder, data[:length])
        else:
            shard(folder).write_bytes(data[:length])
        with pytest.raises(ZooDamagedError, match=rf"SGL-500.*{shard(folder).name}"):
            read_store(folder).load()


def test_appended_bytes_are_refused(folder: Path) -> None:
    data = shard(folder).read_bytes()
    replace_shard(folder, data + b"\0")
    with pytest.raises(ZooDamagedError, match=shard(folder).name):
        read_store(folder).load()


def test_a_flipped_bit_anywhere_in_the_header_is_refused(folder: Path) -> None:
    data = shard(folder).read_bytes()
    (header,) = struct.unpack("<Q", data[:8])
    file = shard(folder)
    for place in range(8 + header):
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        file.write_bytes(bytes(flipped))
        with pytest.raises(ZooDamagedError, match=file.name):
            read_store(folder).load()


def test_flipped_bits_in_the_numbers_are_refused(folder: Path) -> None:
    data = shard(folder).read_bytes()
    rng = np.random.default_rng(0)
    (header,) = struct.unpack("<Q", data[:8])
    for place in [8 + header, len(data) - 1, *rng.integers(8 + header, len(data), 20).tolist()]:
        flipped = bytearray(data)
        flipped[place] ^= 1
        shard(folder).write_bytes(bytes(flipped))
        with pytest.raises(ZooDamagedError, match="sha256"):
            read_store(folder).load()


def swap_shape(header: dict[str, Any]) -> None:
    header["means"]["shape"] = header["means"]["shape"][::-1]


HEADER_LIES: list[Callable[[dict[str, Any]], Any]] = [
    lambda h: h.pop("variances"),
    lambda h: h.update(extra=h["means"]),
    lambda h: h["means"].update(dtype="F16"),
    lambda h: h["examples"].update(dtype="F64"),
    lambda h: h["means"].update(shape=[4, 11]),
    lambda h: h["means"].update(shape=[10**12, 11]),
    lambda h: h["means"].update(shape=[3, 10**12]),
    lambda h: h["means"].update(shape=[3, -11]),
    lambda h: h["means"].update(shape=[]),
    lambda h: h["means"].update(shape=[33]),
    lambda h: h["means"].update(shape=3),
    lambda h: h["means"].update(shape="33"),
    lambda h: h["wordings"].update(shape=[3, 2, 3]),
    swap_shape,
    lambda h: h["means"].update(data_offsets=[0, 10**15]),
    lambda h: h["means"].update(data_offsets=[0]),
    lambda h: h["means"].update(data_offsets=["0", "4"]),
    lambda h: h["means"].update(data_offsets=None),
    lambda h: h["means"].update(data_offsets=h["variances"]["data_offsets"]),
    lambda h: h.update(means=5),
    lambda h: h.update(means=["F32", [3, 11], [0, 132]]),
    lambda h: h.update(__metadata__={"a": "b"}),
    lambda h: h.clear(),
]


@pytest.mark.parametrize("lie", HEADER_LIES)
def test_a_header_that_lies_is_refused(folder: Path, lie: Callable[[dict[str, Any]], Any]) -> None:
    replace_shard(folder, with_header(shard(folder).read_bytes(), lie))
    with pytest.raises(ZooDamagedError, match="SGL-500"):
        read_store(folder).load()


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 60_000,
        b"[1, 2]",
        b'"text"',
        b"null",
        b"\xff\xfe{}",
        b"{",
        b"",
        b"{}",
        b'{"means": {"dtype": "F32", "shape": [4]}, "means": {"dtype": "F32", "shape": [4]}}',
    ],
)
def test_a_header_of_another_kind_is_refused(folder: Path, header: bytes) -> None:
    replace_shard(folder, struct.pack("<Q", len(header)) + header + b"\0" * 64)
    with pytest.raises(ZooDamagedError, match=shard(folder).name):
        read_store(folder).load()


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 10**6])
def test_a_huge_header_length_costs_nothing(folder: Path, length: int) -> None:
    replace_shard(folder, struct.pack("<Q", length) + shard(folder).read_bytes()[8:])
    with pytest.raises(ZooDamagedError, match=f"claims {length} bytes"):
        read_store(folder).load()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda z: {"means": z.means * np.nan}, "means hold NaN"),
        (lambda z: {"variances": z.variances - 1}, "variances hold -[0-9.]+; need"),
        (lambda z: {"wordings": z.wordings * 2}, "norm 2"),
        (lambda z: {"means": z.means[:, :4], "variances": z.variances[:, :4]}, "need"),
        (lambda z: {"wordings": np.eye(3, dtype=np.float32)[:, None]}, "need"),
    ],
)
def test_vouched_values_are_still_checked(
    folder: Path, make_zoo: MakeZoo, change: Callable[[Zoo], dict[str, Any]], message: str
) -> None:
    zoo = make_zoo(3)
    arrays = {name: getattr(zoo, name) for name in ARRAYS} | change(zoo)
    replace_shard(folder, save({name: np.ascontiguousarray(a) for name, a in arrays.items()}))
    with pytest.raises(ZooDamagedError, match=message):
        read_store(folder).load()


def test_a_missing_shard_is_named(folder: Path) -> None:
    lost = shard(folder, 1)
    lost.unlink()
    with pytest.raises(ZooDamagedError, match=f"{lost.name} cannot be read: No such file"):
        read_store(folder).load()


def test_all_damaged_shards_are_named(folder: Path) -> None:
    first, second = shard(folder), shard(folder, 1)
    first.unlink()
    second.write_bytes(b"")
    with pytest.raises(ZooDamagedError, match=f"{first.name}.*{second.name}"):
        read_store(folder).load()


# Damaged manifests


def test_a_missing_manifest_is_no_zoo(tmp_path: Path) -> None:
    with pytest.raises(ZooDamagedError, match=r"is no zoo.*sglora-fed zoo build"):
        read_store(tmp_path)


def test_every_truncated_manifest_is_refused(folder: Path, identity: ZooIdentity) -> None:
    path = folder / "manifest.json"
    data = path.read_bytes()
    for length in range(0, len(data) - 1, 7):
        path.write_bytes(data[:length])
        with pytest.raises(ZooDamagedError, match="SGL-500"):
            open_zoo(folder, identity)


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "5", "{}", '"text"', "\x00", "[" * 100_000, '{"schema": 1}']
)
def test_a_garbled_manifest_is_refused(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(ZooDamagedError, match=r"manifest\.json"):
        read_store(folder)


MANIFEST_LIES: list[Callable[[dict[str, Any]], Any]] = [
    lambda m: m.update(schema=1),
    lambda m: m.update(schema="1"),
    lambda m: m.pop("identity"),
    lambda m: m["identity"].pop("layout"),
    lambda m: m["identity"].update(further=1),
    lambda m: m.update(identity=[1]),
    lambda m: m.pop("shards"),
    lambda m: m.update(shards=7),
    lambda m: m.update(shards=["shard-00000.safetensors"]),
    lambda m: m["shards"][0].pop("sha256"),
    lambda m: m["shards"][0].update(sha256="0" * 64),
    lambda m: m["shards"][0].update(sha256=None),
    lambda m: m["shards"][0].pop("ids"),
    lambda m: m["shards"][0].update(ids=3),
    lambda m: m["shards"][0].update(ids="abc"),
    lambda m: m["shards"][0].update(ids=["a", "b"]),
    lambda m: m["shards"][0].update(ids=["a", "b", 3]),
    lambda m: m["shards"][0].update(ids=["a", "b", ["c"]]),
    lambda m: m["shards"][0].update(ids=["a", "a", "b"]),
    lambda m: m["shards"][0].update(ids=["b000", "x", "y"]),
    lambda m: m["shards"][0].update(ids=["a", "b", "[/x]"]),
    lambda m: m["shards"][0].update(ids=["a", "b", "\x1b[2J"]),
    lambda m: m["shards"][0].update(owners=["a", "b"]),
    lambda m: m["shards"][0].update(owners=["a", "b", "\x1b[2J"]),
    lambda m: m["shards"][0].pop("task_digests"),
    lambda m: m["shards"].append(m["shards"][0]),
    lambda m: m["shards"].reverse() or m["shards"][0].update(file=m["shards"][1]["file"]),
]


@pytest.mark.parametrize("lie", MANIFEST_LIES)
def test_a_manifest_that_lies_is_refused(
    folder: Path, lie: Callable[[dict[str, Any]], Any]
) -> None:
    edit_manifest(folder, lie)
    with pytest.raises(ZooDamagedError, match="SGL-500"):
        read_store(folder).load()


@pytest.mark.parametrize(
    "name", ["../{}", "./{}", "a/../{}", "{folder}/{}", "..", ".", "", "a\0b", "/dev/zero", 5, None]
)
def test_shards_come_from_the_folder_only(folder: Path, name: Any) -> None:
    file = shard(folder).name
    (folder.parent / file).write_bytes(shard(folder).read_bytes())
    (folder / "a").mkdir()
    told = (
        name.replace("{folder}", str(folder)).replace("{}", file)
        if name and isinstance(name, str)
        else name
    )
    edit_manifest(folder, lambda m: m["shards"][0].update(file=told))
    with pytest.raises(ZooDamagedError, match="SGL-500"):
        read_store(folder).load()
