"""A zoo on disk: grows, resumes, and survives a crash and a full disk."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from sglora_fed.errors import ResultsError, ZooDamagedError, ZooForeignError, ZooSizeError
from sglora_fed.zoo import Zoo, ZooIdentity, ZooStore, open_zoo, read_store

MakeZoo = Callable[..., Zoo]
ARRAYS = ("wordings", "means", "variances", "examples")


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def no_space(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# Growing and resuming


def test_experts_come_back_ordered_by_id(folder: Path, make_zoo: MakeZoo) -> None:
    zoo = read_store(folder).load()
    assert zoo.ids == ("b000", "b001", "m000", "m001", "m002")
    late, early = make_zoo(2, seed=1), make_zoo(3)
    for name in ARRAYS:
        wanted = np.concatenate([getattr(late, name), getattr(early, name)])
        np.testing.assert_array_equal(getattr(zoo, name), wanted)
        assert getattr(zoo, name).dtype == wanted.dtype


def test_order_of_uploads_does_not_matter(
    tmp_path: Path, identity: ZooIdentity, make_zoo: MakeZoo
) -> None:
    whole = make_zoo(6)
    zoos = []
    for name, order in (("a", [[3, 0], [5, 1, 2], [4]]), ("b", [[4, 5, 2], [1], [0, 3]])):
        store = open_zoo(tmp_path / name, identity)
        for rows in order:
            store.add(whole.select(np.array(rows)))
        zoos.append(store.load())
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(zoos[0], name), getattr(zoos[1], name))
        np.testing.assert_array_equal(getattr(zoos[0], name), getattr(whole, name))


def test_an_interrupted_run_continues(
    folder: Path, identity: ZooIdentity, make_zoo: MakeZoo
) -> None:
    before = snapshot(folder)
    store = open_zoo(folder, replace(identity, versions={"torch": "9"}))
    assert store.ids() == ("m000", "m001", "m002", "b000", "b001")
    assert snapshot(folder) == before
    store.add(make_zoo(1, seed=2, prefix="z"))
    assert open_zoo(folder, identity).load().ids[-1] == "z000"
    assert {name for name, data in before.items() if snapshot(folder)[name] != data} == {
        "manifest.json"
    }


def test_nothing_but_json_and_safetensors_is_written(folder: Path) -> None:
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}
    assert len(list(folder.iterdir())) == 3


def test_identity_survives(folder: Path, identity: ZooIdentity) -> None:
    assert asdict(read_store(folder).identity) == asdict(identity)


def test_the_manifest_tells_what_each_shard_holds(folder: Path) -> None:
    for entry in json.loads((folder / "manifest.json").read_text())["shards"]:
        data = (folder / entry["file"]).read_bytes()
        assert entry["sha256"] == hashlib.sha256(data).hexdigest()
        for names in ("ids", "owners", "task_digests"):
            assert len(entry[names]) == len(load(data)["examples"])


def test_two_runs_at_once_do_not_spoil_each_others_shards(
    tmp_path: Path, identity: ZooIdentity, make_zoo: MakeZoo
) -> None:
    one, two = open_zoo(tmp_path, identity), open_zoo(tmp_path, identity)
    one.add(make_zoo(1, seed=1))
    two.add(make_zoo(1, seed=2))
    one.add(make_zoo(1, seed=3, prefix="f"))
    np.testing.assert_array_equal(
        read_store(tmp_path).load().means[0], make_zoo(1, seed=1).means[0]
    )


def test_owners_and_tasks_survive(tmp_path: Path, identity: ZooIdentity, make_zoo: MakeZoo) -> None:
    part = replace(make_zoo(3), owners=("b", "a", "b"), task_digests=("1", "2", "3"))
    open_zoo(tmp_path, identity).add(part)
    again = read_store(tmp_path)
    assert again.owners() == {"e000": "b", "e001": "a", "e002": "b"}
    assert again.load().owners == ("b", "a", "b")
    assert again.task_digests() == {"e000": "1", "e001": "2", "e002": "3"}


def test_experts_may_change_their_owner(folder: Path, identity: ZooIdentity) -> None:
    store = read_store(folder)
    store.assign({"m001": "node-9"})
    assert read_store(folder).owners()["m001"] == store.owners()["m001"] == "node-9"
    assert read_store(folder).owners()["m000"] == "m000"


@pytest.mark.parametrize("gone", [["m001"], ["b000", "b001"], ["m000", "b001"]])
def test_a_removed_expert_is_gone(folder: Path, make_zoo: MakeZoo, gone: list[str]) -> None:
    before, store = read_store(folder).load(), read_store(folder)
    store.remove(gone)
    rows = [row for row, name in enumerate(before.ids) if name not in gone]
    assert store.ids() == read_store(folder).ids()
    assert store.load().ids == tuple(before.ids[row] for row in rows)
    np.testing.assert_array_equal(read_store(folder).load().means, before.means[rows])
    (again,) = [row for row, name in enumerate(before.ids) if name == gone[0]]
    store.add(before.select(np.array([again])))
    assert read_store(folder).load().ids == tuple(sorted({*store.ids()}))
    assert len(store.ids()) == len(rows) + 1


def test_a_removed_experts_numbers_leave_the_disk(folder: Path) -> None:
    zoo, store = read_store(folder).load(), read_store(folder)
    row = zoo.ids.index("m001")
    store.remove(["m001"])
    for path in folder.iterdir():
        assert zoo.means[row].tobytes() not in path.read_bytes()
    assert zoo.means[row + 1].tobytes() in b"".join(p.read_bytes() for p in folder.iterdir())


def test_experts_of_equal_numbers_share_a_file_that_one_of_them_leaves(
    tmp_path: Path, identity: ZooIdentity, make_zoo: MakeZoo
) -> None:
    store = open_zoo(tmp_path, identity)
    store.add(make_zoo(2, prefix="a"))
    store.add(make_zoo(2, prefix="b"))
    store.remove(["a000", "a001"])
    assert read_store(tmp_path).load().ids == ("b000", "b001")


def test_whole_shards_of_removed_experts_are_deleted(folder: Path) -> None:
    read_store(folder).remove(["b000", "b001"])
    assert len(list(folder.glob("*.safetensors"))) == 1


def test_nobody_is_removed_with_a_stranger(folder: Path) -> None:
    before = snapshot(folder)
    with pytest.raises(ZooSizeError, match=r"no experts \['nobody'\]"):
        read_store(folder).remove(["m000", "nobody"])
    assert snapshot(folder) == before


def test_an_empty_zoo_is_too_small(tmp_path: Path, identity: ZooIdentity) -> None:
    store = open_zoo(tmp_path / "new", identity)
    assert store.ids() == ()
    with pytest.raises(ZooSizeError, match="holds no expert"):
        store.load()


# What does not belong


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("backbone", "clip"),
        ("weights_sha256", "0" * 64),
        ("encoder", "other"),
        ("layout", {"modules": [], "rank": 9, "alpha": 1.0}),
        ("seed", 1),
        ("config_sha256", "0" * 64),
    ],
)
def test_a_foreign_zoo_is_refused_by_field(
    folder: Path, identity: ZooIdentity, field: str, value: Any
) -> None:
    before = snapshot(folder)
    with pytest.raises(ZooForeignError, match=rf"SGL-501.*: {field} is .*, not .*zoo\.path"):
        open_zoo(folder, replace(identity, **{field: value}))
    assert snapshot(folder) == before


def test_an_expert_comes_once(folder: Path, identity: ZooIdentity, make_zoo: MakeZoo) -> None:
    before = snapshot(folder)
    with pytest.raises(ZooDamagedError, match=r"\['b001'\] are in .* already"):
        open_zoo(folder, identity).add(make_zoo(3, prefix="b").select(np.array([1, 2])))
    assert snapshot(folder) == before


def test_adapters_of_another_size_are_refused(
    folder: Path, identity: ZooIdentity, make_zoo: MakeZoo
) -> None:
    before = snapshot(folder)
    with pytest.raises(ZooForeignError, match=r"has 12 numbers; the layout of .* has 11"):
        open_zoo(folder, identity).add(make_zoo(1, size=12, prefix="x"))
    assert snapshot(folder) == before


# Dying and full disks


def test_a_crash_between_shard_and_manifest_leaves_the_zoo_as_it_was(
    folder: Path, identity: ZooIdentity, make_zoo: MakeZoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, done = (folder / "manifest.json").read_bytes(), read_store(folder).load()

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sglora_fed.zoo.store._write_manifest", die)
        with pytest.raises(KeyboardInterrupt):
            open_zoo(folder, identity).add(make_zoo(2, seed=5, prefix="lost"))
    assert (folder / "manifest.json").read_bytes() == manifest
    assert len(list(folder.glob("*.safetensors"))) == 3
    again = open_zoo(folder, identity)
    np.testing.assert_array_equal(again.load().means, done.means)
    again.add(make_zoo(1, seed=6, prefix="next"))
    assert read_store(folder).load().ids[-1] == "next000"


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("write", [1, 2])
def test_full_disk_leaves_the_zoo_as_it_was(
    folder: Path,
    identity: ZooIdentity,
    make_zoo: MakeZoo,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    write: int,
) -> None:
    """The disk fills up at the shard (first write) or at the manifest (second)."""
    store, before = open_zoo(folder, identity), snapshot(folder)
    works, calls = getattr(os, step), []

    def fill_up(*args: Any) -> Any:
        calls.append(args)
        return works(*args) if len(calls) != write else no_space()

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fill_up)
        with pytest.raises(ResultsError, match=r"SGL-900.*No space left"):
            store.add(make_zoo(2, seed=5, prefix="c"))
    after = snapshot(folder)
    assert {name: after[name] for name in before} == before
    new = set(after) - set(before)
    assert all(name.endswith(".safetensors") for name in new)
    assert len(new) <= write - 1
    assert store.ids() == read_store(folder).ids() == ("m000", "m001", "m002", "b000", "b001")
    store.add(make_zoo(2, seed=5, prefix="c"))
    assert read_store(folder).load().ids[2:4] == ("c000", "c001")


def test_a_new_zoo_on_a_full_disk(
    tmp_path: Path, identity: ZooIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        with pytest.raises(ResultsError, match="No space left"):
            open_zoo(tmp_path / "zoo", identity)
    assert list((tmp_path / "zoo").iterdir()) == []
    assert isinstance(open_zoo(tmp_path / "zoo", identity), ZooStore)
