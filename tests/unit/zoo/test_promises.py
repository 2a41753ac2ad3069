"""What a zoo says of its experts' privacy is computed anew when it is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sglora_fed.errors import ZooDamagedError
from sglora_fed.promises import EXAMPLE_UNIT, Promise
from sglora_fed.zoo import Zoo, ZooIdentity, open_zoo, read_store

MakeZoo = Callable[..., Zoo]


@pytest.fixture
def folder(tmp_path: Path, identity: ZooIdentity, make_zoo: MakeZoo) -> Path:
    """Two experts with a promise, one without."""
    zoo = make_zoo(3)
    promises = [
        Promise(EXAMPLE_UNIT, 8.0, 1 / 2560, "prv", int(n), 62, 1.0, 3.994140625, 1.0)
        for n in zoo.examples[:2]
    ]
    store = open_zoo(tmp_path / "zoo", identity)
    store.add(replace(zoo, promises=(*promises, None)))
    return tmp_path / "zoo"


def changed(folder: Path, values: dict[str, Any]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["shards"][0]["promises"][1] |= values
    path.write_text(json.dumps(manifest), encoding="utf-8")


def test_promises_come_back_with_their_experts(folder: Path) -> None:
    zoo = read_store(folder).load()
    assert zoo.ids == tuple(sorted(zoo.ids))
    assert [one is None for one in zoo.promises] == [False, False, True]
    assert zoo.select([2, 0]).promises == (None, zoo.promises[0])  # type: ignore[arg-type]
    assert [one["experts"] for one in read_store(folder).promises()] == [2, 1]


def test_experts_keep_their_promises_when_others_leave(folder: Path) -> None:
    store = read_store(folder)
    before = store.load()
    store.remove({before.ids[0]})
    assert read_store(folder).load().promises == before.promises[1:]


@pytest.mark.parametrize(
    "lie", [{"epsilon": 1.0}, {"sigma": 2.0}, {"steps": 100}, {"examples": 9999}]
)
def test_a_promise_that_does_not_hold_is_refused(folder: Path, lie: dict[str, Any]) -> None:
    changed(folder, lie)
    with pytest.raises(ZooDamagedError, match="expert"):
        read_store(folder).load()


@pytest.mark.parametrize("junk", [{"epsilon": None}, {"unit": "all of it"}, {"more": 1}])
def test_a_manifest_with_no_promise_in_its_place_is_refused(
    folder: Path, junk: dict[str, Any]
) -> None:
    changed(folder, junk)
    with pytest.raises(ZooDamagedError, match="manifest"):
        read_store(folder)
