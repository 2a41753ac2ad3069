"""A description in several readings, and which of the adapters for them a client keeps."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from sglora_fed.adapters.unpaired import FEWEST_ITEMS
from sglora_fed.backbones import load_describer
from sglora_fed.config import compose
from sglora_fed.errors import CatalogueError, MessageError
from sglora_fed.federation.answers import chosen, replies_of
from sglora_fed.federation.node import Node
from sglora_fed.federation.readings import Readings, check_catalogue
from sglora_fed.federation.terms import (
    Agreement,
    Terms,
    configured_readings,
    server_agreement,
)
from sglora_fed.kept.catalogues import kept_snap
from sglora_fed.privacy.catalogue import Catalogue, write_catalogue
from sglora_fed.privacy.families import catalogue_of
from sglora_fed.privacy.mechanisms import KrrMechanism, NoMechanism
from sglora_fed.privacy.snapping import Snap, snap_to
from sglora_fed.tasks.types import Example, Task

ENTRIES, WAYS, DIM, CLIENTS, SIZE = 9, 5, 12, 4, 3


def unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True))


@pytest.fixture
def snap() -> Snap:
    rng = np.random.default_rng(0)
    means = rng.normal(size=(ENTRIES, 1, DIM))
    return snap_to(list(unit(means + 0.3 * rng.normal(size=(ENTRIES, WAYS, DIM)))))


@pytest.fixture
def said() -> np.ndarray:
    rows = unit(np.random.default_rng(1).normal(size=(CLIENTS, DIM)))
    return rows.astype(np.float32)


@pytest.mark.parametrize("count", [2, 4, ENTRIES + 1])
def test_what_is_nearest_comes_first_and_the_description_last(
    snap: Snap, said: np.ndarray, count: int
) -> None:
    read = Readings(snap, count).of(said)
    assert read.shape == (CLIENTS, count, DIM)
    assert read.dtype == np.float32
    for own, rows in zip(said, read, strict=True):
        np.testing.assert_array_equal(rows[-1], own)
        moved = unit((own - snap.mean) @ snap.matrix)
        distances = np.linalg.norm(snap.rows - moved, axis=1)
        for row, place in zip(rows[:-1], np.argsort(distances), strict=False):
            np.testing.assert_allclose(row, snap.embeddings[place], rtol=1e-6)


def test_an_entry_is_read_as_itself_and_as_others(snap: Snap) -> None:
    """What a place stands for is the first of as many different entries."""
    readings = Readings(snap, ENTRIES)
    read = readings.of_entries(snap.embeddings.astype(np.float32))
    for place, rows in enumerate(read):
        moved = unit((snap.embeddings[place] - snap.mean) @ snap.matrix)
        order = np.argsort(np.linalg.norm(snap.rows - moved, axis=1))
        assert order[0] == place
        np.testing.assert_array_equal(rows, snap.embeddings[order].astype(np.float32))
    krr = KrrMechanism(snap.rows, 1.0)
    agreed = Agreement(Terms("list"), krr, snap, Readings(snap, 3))
    places = np.arange(ENTRIES, dtype=np.uint16)[:, None]
    np.testing.assert_array_equal(agreed.read(agreed.decoded(places)), read[:, :3])


def test_every_entry_of_the_cameras_is_nearest_to_itself() -> None:
    describer = load_describer(compose(["backbone=cameras"]).backbone)
    snap = kept_snap(catalogue_of("cameras"), describer)
    assert [snap.nearest(row, 1)[0] for row in snap.embeddings] == list(range(len(snap.rows)))


def test_places_are_read_as_no_more_than_all_entries(tmp_path: Path) -> None:
    write_catalogue(Catalogue("own", 1, ("one", "two", "three")), tmp_path / "list.json")
    told = ["generator.readings=4", f"privacy.catalogue={tmp_path / 'list.json'}"]
    check_catalogue(compose(told))
    with pytest.raises(CatalogueError, match="3 entries give 2 to 3"):
        check_catalogue(compose([*told, "privacy=krr", "privacy.epsilon=1"]))


def test_nobody_asks_in_no_reading(snap: Snap) -> None:
    assert Readings(snap, 3).of(np.empty((0, DIM), np.float32)).shape == (0, 3, DIM)


@pytest.mark.parametrize("count", [0, 1, ENTRIES + 2])
def test_more_readings_than_there_are_entries(snap: Snap, count: int) -> None:
    with pytest.raises(CatalogueError, match=f"generator.readings={count}: .* 2 to {ENTRIES + 1}"):
        Readings(snap, count)


def test_what_was_decoded_is_read_where_readings_are_wanted(snap: Snap, said: np.ndarray) -> None:
    plain = Agreement(Terms(), NoMechanism(DIM))
    decoded = plain.decoded(said.astype(np.float16))
    assert plain.read(decoded).shape == (CLIENTS, 1, DIM)
    wide = Agreement(Terms(), NoMechanism(DIM), readings=Readings(snap, 3))
    np.testing.assert_array_equal(wide.read(decoded)[:, -1:], decoded)
    assert wide.read(decoded).shape == (CLIENTS, 3, DIM)


@pytest.mark.parametrize(
    "told",
    [
        ["generator.readings=1"],
        ["generator.readings=3", "family=local", "family.path=mine"],
        ["generator.readings=3", "privacy=subset", "privacy.epsilon=1", "privacy.replies=2"],
    ],
)
def test_who_is_not_read_needs_no_catalogue(told: list[str]) -> None:
    unused: Any = None
    assert configured_readings(compose(told), unused) is None


@pytest.mark.parametrize(
    ("count", "parts", "places", "replies"),
    [
        (6, 2, None, 3),
        (6, 2, np.zeros((2, 3)), 3),
        (6, 2, np.zeros((2, 2)), None),
        (0, 0, None, 0),
        (0, 2, None, None),
        (3, 2, None, None),
        (3, 0, None, None),
    ],
)
def test_as_many_adapters_for_each(
    count: int, parts: int, places: np.ndarray | None, replies: int | None
) -> None:
    if replies is None:
        with pytest.raises(MessageError, match=f"{count} adapters"):
            replies_of(count, parts, places)
    else:
        assert replies_of(count, parts, places) == replies


def owner(pairs: int, kind: Any = "retrieval") -> Task:
    train = tuple(Example(f"item {i}", f"caption {i}") for i in range(pairs))
    labels = {"a": "A", "b": "B"} if kind == "labelled" else {}
    return Task("own", "words", labels, train, (), "client", "own", kind=kind)


def node(*told: str) -> Node:
    """A node that has no model: whoever tries an adapter on it fails."""
    made: Any = SimpleNamespace(config=compose(["generator.readings=3", *told]))
    return cast(Node, made)


@pytest.mark.parametrize("task", [owner(0), owner(FEWEST_ITEMS - 1), owner(0, "labelled")])
def test_who_has_nothing_to_try_them_on_keeps_that_for_the_nearest(task: Task) -> None:
    adapters = np.arange(3 * SIZE, dtype=np.float32).reshape(1, 3, SIZE)
    np.testing.assert_array_equal(chosen(node(), [task], 0, adapters, None), adapters[:, 0])


def test_other_than_the_wanted_readings_are_refused() -> None:
    adapters = np.zeros((1, 4, SIZE), np.float32)
    with pytest.raises(MessageError, match="4 adapters to choose from; 3 were asked for"):
        chosen(node(), [owner(0)], 0, adapters, None)
    places = np.arange(4)[None]
    with pytest.raises(MessageError, match="4 adapters to choose from; 1 were asked for"):
        chosen(node(), [owner(0)], 0, adapters, places)


def test_one_adapter_is_no_choice() -> None:
    adapters = np.ones((1, 1, SIZE), np.float32)
    np.testing.assert_array_equal(chosen(node(), [owner(9)], 0, adapters, None), adapters[:, 0])


def test_a_list_of_another_family_reads_nothing(caplog: pytest.LogCaptureFixture) -> None:
    config = compose(["generator.readings=3"])
    describer = load_describer(config.backbone)
    cameras = kept_snap(catalogue_of("cameras"), describer).embeddings[:40]
    others = unit(np.random.default_rng(0).normal(size=cameras.shape))
    found = server_agreement(config, describer, None, experts=cameras)
    assert found.readings is not None
    assert server_agreement(config, describer, None, experts=others).readings is None
    mixed = np.concatenate([cameras, others[:1]])
    assert server_agreement(config, describer, None, experts=mixed).readings is None
    assert "not of family 'cameras'" in caplog.text
