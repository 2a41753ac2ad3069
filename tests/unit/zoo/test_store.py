"""A zoo on disk: whole, resumable, and refused when it is damaged or foreign."""

from __future__ import annotations

import errno
import json
import os
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from sglora_fed.errors import (
    ResultsError,
    ZooDamagedError,
    ZooForeignError,
    ZooSizeError,
)
from sglora_fed.files import sha256_of
from sglora_fed.zoo import ZooIdentity, ZooStore, open_zoo, read_store

from .conftest import DIM, SIZE, MakeZoo


def shards(store: ZooStore) -> list[Path]:
    """Files in the order of the manifest."""
    manifest = json.loads((store.path / "manifest.json").read_text())
    return [store.path / entry["file"] for entry in manifest["shards"]]


def rewrite_manifest(store: ZooStore, change: Callable[[dict[str, Any]], Any]) -> None:
    path = store.path / "manifest.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def replace_shard(store: ZooStore, data: bytes) -> None:
    """Other bytes for the first shard, under a manifest that believes in them."""
    file = shards(store)[0]
    file.write_bytes(data)
    rewrite_manifest(store, lambda v: v["shards"][0].update(sha256=sha256_of(file)))


def raw(header: dict[str, Any] | str, body: int) -> bytes:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text)) + text + bytes(body)


def full_disk(*_: Any) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class TestStoring:
    def test_what_was_added_comes_back_by_id(self, store: ZooStore, make_zoo: MakeZoo) -> None:
        first, second = make_zoo("b", "c", seed=1), make_zoo("a", seed=2)
        zoo = read_store(store.path).load()
        assert zoo.ids == ("a", "b", "c")
        for name in ("embeddings", "means", "variances", "examples"):
            expected = [*getattr(second, name), *getattr(first, name)]
            np.testing.assert_array_equal(getattr(zoo, name), expected)

    def test_continues_after_reopening(
        self, store: ZooStore, identity: ZooIdentity, make_zoo: MakeZoo
    ) -> None:
        again = open_zoo(store.path, identity)
        assert set(again.ids()) == {"a", "b", "c"}
        again.add(make_zoo("d"))
        assert read_store(store.path).load().ids == ("a", "b", "c", "d")

    def test_an_expert_comes_once(self, store: ZooStore, make_zoo: MakeZoo) -> None:
        with pytest.raises(ZooDamagedError, match=r"experts \['c'\] are in .* already"):
            store.add(make_zoo("d", "c"))
        assert len(read_store(store.path).load().ids) == 3

    def test_an_empty_zoo_opens_but_has_nothing_to_load(
        self, tmp_path: Path, identity: ZooIdentity
    ) -> None:
        with pytest.raises(ZooSizeError, match="holds no expert"):
            open_zoo(tmp_path, identity).load()

    def test_the_manifest_holds_what_the_design_promises(
        self, store: ZooStore, identity: ZooIdentity
    ) -> None:
        manifest = json.loads((store.path / "manifest.json").read_text())
        assert ZooIdentity(**manifest["identity"]) == identity
        for entry, file in zip(manifest["shards"], shards(store), strict=True):
            assert entry["sha256"] == sha256_of(file)
            assert entry["examples"] == load_file(file)["examples"].tolist()

    def test_two_runs_at_once_do_not_spoil_each_other(
        self, tmp_path: Path, identity: ZooIdentity, make_zoo: MakeZoo
    ) -> None:
        one, two = open_zoo(tmp_path, identity), open_zoo(tmp_path, identity)
        one.add(make_zoo("a", seed=1))
        two.add(make_zoo("a", seed=2))
        one.add(make_zoo("b", seed=3))
        np.testing.assert_array_equal(
            read_store(tmp_path).load().means[0], make_zoo("a", seed=1).means[0]
        )


class TestInterruptions:
    @pytest.mark.parametrize("call", ["fsync", "replace"])
    def test_full_disk(
        self, store: ZooStore, make_zoo: MakeZoo, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        before = sorted(store.path.iterdir())
        with monkeypatch.context() as patched:
            patched.setattr(f"sglora_fed.files.os.{call}", full_disk)
            with pytest.raises(ResultsError, match="No space left"):
                store.add(make_zoo("d"))
        assert sorted(store.path.iterdir()) == before
        assert store.ids() == ("b", "c", "a")
        store.add(make_zoo("d"))
        assert read_store(store.path).load().ids == ("a", "b", "c", "d")

    def test_dies_between_shard_and_manifest(
        self,
        store: ZooStore,
        identity: ZooIdentity,
        make_zoo: MakeZoo,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def dies(*_: object) -> NoReturn:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr("sglora_fed.zoo.store._write_manifest", dies)
            with pytest.raises(KeyboardInterrupt):
                store.add(make_zoo("d", seed=4))
        assert len(list(store.path.glob("shard-*"))) == 3
        resumed = open_zoo(store.path, identity)
        assert resumed.load().ids == ("a", "b", "c")
        resumed.add(make_zoo("d", seed=5))
        np.testing.assert_array_equal(
            read_store(store.path).load().means[3], make_zoo("d", seed=5).means[0]
        )


class TestForeign:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("backbone", "huge"),
            ("weights_sha256", "f" * 64),
            ("encoder", "letters"),
            ("layout", {"modules": [["query", 3, 2]], "rank": 2, "alpha": 8.0}),
            ("seed", 4),
            ("config_sha256", "d" * 64),
        ],
    )
    def test_refuses_and_names_both_values(
        self, store: ZooStore, identity: ZooIdentity, field: str, value: object
    ) -> None:
        asked = replace(identity, **{field: value})
        said = f"{field} is {getattr(identity, field)}, not {value}"
        with pytest.raises(ZooForeignError, match=re.escape(said)):
            open_zoo(store.path, asked)

    def test_newer_libraries_are_welcome(self, store: ZooStore, identity: ZooIdentity) -> None:
        assert len(open_zoo(store.path, replace(identity, versions={})).load().ids) == 3

    def test_adapters_of_another_size(self, store: ZooStore, make_zoo: MakeZoo) -> None:
        with pytest.raises(ZooForeignError, match=r"has 11 numbers; the layout of .* has 10"):
            store.add(make_zoo("d", size=SIZE + 1))

    def test_another_encoder(self, store: ZooStore, make_zoo: MakeZoo) -> None:
        store.add(make_zoo("d", dim=DIM + 1))
        with pytest.raises(ZooDamagedError, match=r"embeddings of \[4, 5\] numbers"):
            store.load()


class TestDamaged:
    @pytest.mark.parametrize("kept", [0, 4, 8, 100, -1])
    def test_truncated(self, store: ZooStore, kept: int) -> None:
        file = shards(store)[1]
        file.write_bytes(file.read_bytes()[:kept])
        with pytest.raises(ZooDamagedError, match=file.name):
            read_store(store.path).load()

    def test_every_single_flipped_byte(self, store: ZooStore) -> None:
        file = shards(store)[1]
        good = file.read_bytes()
        for place in range(len(good)):
            file.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
            with pytest.raises(ZooDamagedError, match=file.name):
                store.load()

    def test_longer_than_written(self, store: ZooStore) -> None:
        file = shards(store)[0]
        file.write_bytes(file.read_bytes() + b"x")
        with pytest.raises(ZooDamagedError, match="its header promises"):
            store.load()

    def test_names_all_damaged_files(self, store: ZooStore) -> None:
        first, second = shards(store)
        first.unlink()
        second.write_bytes(b"")
        with pytest.raises(ZooDamagedError) as caught:
            store.load()
        assert first.name in str(caught.value)
        assert second.name in str(caught.value)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda a: a.pop("variances"), "need {'embeddings'"),
            (lambda a: a.update(more=a["means"]), "'more'"),
            (lambda a: a.update(means=a["means"].astype(np.float64)), "'F64'"),
            (lambda a: a.update(means=a["means"].astype(np.float16)), "F16; must be one of"),
            (lambda a: a.update(means=a["means"][:, 1:]), "(2, 9)"),
            (lambda a: a.update(examples=a["examples"][:1]), "(1,)"),
            (lambda a: a.update(embeddings=a["embeddings"][:, 0].copy()), "(2,)"),
            (lambda a: a["means"].__setitem__((0, 0), np.nan), "means hold NaN"),
            (lambda a: a["variances"].__setitem__((0, 0), -1), "variances hold -1"),
            (lambda a: a["embeddings"].__imul__(2), "norm 2; need 1"),
        ],
    )
    def test_other_content_under_a_right_hash(
        self, store: ZooStore, change: Callable[[dict[str, np.ndarray]], Any], said: str
    ) -> None:
        arrays = {key: value.copy() for key, value in load_file(shards(store)[0]).items()}
        change(arrays)
        replace_shard(store, save({k: np.ascontiguousarray(v) for k, v in arrays.items()}))
        with pytest.raises(ZooDamagedError, match=re.escape(said)):
            store_again(store).load()

    @pytest.mark.parametrize(
        ("data", "said"),
        [
            (struct.pack("<Q", 2**62) + b"{}", "at most 65536"),
            (raw("{" + " " * 65_536 + "}", 0), "at most 65536"),
            (raw("[" * 60_000, 0), "no JSON"),
            (raw("[1, 2]", 0), "not that of a safetensors file"),
            (raw('{"means": {"dtype": "F32"}}', 0), "not that of a safetensors file"),
            (raw('{"a": 1, "a": 2}', 0), "names something twice"),
            (raw({"means": {"dtype": "F32", "shape": [0, 9], "data_offsets": [0, 0]}}, 0), "> 0"),
            (raw({"means": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 0]}}, 0), "> 0"),
            (raw({"means": {"dtype": "F32", "shape": [2**70]}}, 8), "header promises"),
        ],
    )
    def test_hostile_headers(self, store: ZooStore, data: bytes, said: str) -> None:
        replace_shard(store, data)
        with pytest.raises(ZooDamagedError, match=re.escape(said)):
            store_again(store).load()

    def test_metadata_is_not_expected(self, store: ZooStore) -> None:
        replace_shard(store, save(load_file(shards(store)[0]), metadata={"note": "hello"}))
        with pytest.raises(ZooDamagedError, match="hello"):
            store_again(store).load()

    def test_an_expert_in_two_shards(self, store: ZooStore) -> None:
        rewrite_manifest(store, lambda v: v["shards"][1].update(ids=["b"]))
        with pytest.raises(ZooDamagedError, match=r"experts \['b'\] are in the zoo twice"):
            store_again(store).load()


def store_again(store: ZooStore) -> ZooStore:
    return read_store(store.path)


class TestManifest:
    @pytest.mark.parametrize(
        "change",
        [
            lambda v: v.pop("identity"),
            lambda v: v["identity"].pop("layout"),
            lambda v: v["identity"].update(extra=1),
            lambda v: v["identity"]["layout"].update(rank=0),
            lambda v: v.update(schema=2),
            lambda v: v.update(shards=3),
            lambda v: v["shards"][0].pop("sha256"),
            lambda v: v["shards"][0].update(file="../outside.safetensors"),
            lambda v: v["shards"][0].update(ids="ab"),
        ],
    )
    def test_refuses(self, store: ZooStore, change: Callable[[dict[str, Any]], Any]) -> None:
        rewrite_manifest(store, change)
        with pytest.raises(ZooDamagedError, match=r"manifest\.json"):
            read_store(store.path)

    @pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000, b"null"])
    def test_refuses_what_is_no_json(self, store: ZooStore, content: bytes) -> None:
        (store.path / "manifest.json").write_bytes(content)
        with pytest.raises(ZooDamagedError, match=r"manifest\.json"):
            read_store(store.path)

    def test_refuses_a_folder_without_one(self, tmp_path: Path) -> None:
        with pytest.raises(ZooDamagedError, match="No such file"):
            read_store(tmp_path)
