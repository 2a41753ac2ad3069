"""The adapter in use is whole at every moment, whatever an adoption meets."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest

from sglora_fed.adapters.layout import Layout, ModuleShape
from sglora_fed.adapters.peft_io import read_peft
from sglora_fed.backbones.weights import BaseModel
from sglora_fed.edge.settings import FILE, OwnNode
from sglora_fed.edge.shelf import adopted, last_contact, note_contact, put
from sglora_fed.errors import AdapterValueError, NodeFileError, ResultsError

LAYOUT = Layout((ModuleShape("query", 6, 4),), 2, 4.0)
BASE = BaseModel("somebody/model", "1" * 40)


@pytest.fixture
def node(tmp_path: Path) -> OwnNode:
    return OwnNode(tmp_path / FILE, "words")


def of(number: float) -> np.ndarray:
    return np.full(LAYOUT.size, number, np.float32)


def test_the_newest_is_in_use_and_one_older_stays(node: OwnNode) -> None:
    assert adopted(node) is None
    for number in range(4):
        put(node, of(number), LAYOUT, BASE, {"number": number})
        assert (read_peft(node.adapter)[0] == of(number)).all()
        told = adopted(node)
        assert told is not None
        assert (told["number"], told["schema"]) == (number, 1)
    assert node.adapter.is_symlink()
    assert len(list(node.folder.glob(".adapter-*"))) == 2


def test_an_unusable_vector_changes_nothing(node: OwnNode) -> None:
    put(node, of(1), LAYOUT, BASE, {})
    with pytest.raises(AdapterValueError):
        put(node, of(np.nan), LAYOUT, BASE, {})
    assert (read_peft(node.adapter)[0] == of(1)).all()
    assert len(list(node.folder.glob(".adapter-*"))) == 1


def test_what_an_adoption_that_was_cut_short_left_goes_with_the_next(node: OwnNode) -> None:
    put(node, of(1), LAYOUT, BASE, {})
    (node.folder / ".adapter-0123").mkdir()
    (node.folder / ".adapter-0123" / "adapter_config.json").write_text("{")
    (node.folder / ".adapter-0123.link").symlink_to(".adapter-0123")
    put(node, of(2), LAYOUT, BASE, {})
    assert not list(node.folder.glob(".adapter-0123*"))


def test_a_folder_of_the_owners_is_not_touched(node: OwnNode) -> None:
    node.adapter.mkdir()
    (node.adapter / "mine").write_text("x")
    with pytest.raises(NodeFileError, match="no link"):
        put(node, of(1), LAYOUT, BASE, {})
    assert (node.adapter / "mine").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser writes everywhere")
def test_a_folder_that_cannot_be_written(node: OwnNode) -> None:
    node.folder.chmod(0o500)
    with pytest.raises(ResultsError):
        put(node, of(1), LAYOUT, BASE, {})


def test_who_reads_meanwhile_gets_one_or_the_other(node: OwnNode) -> None:
    put(node, of(0), LAYOUT, BASE, {"number": 0})
    done, looked, seen = Event(), Event(), set[float]()

    def look() -> None:
        while not done.is_set():
            folder = node.adapter.resolve()
            values = set(read_peft(folder)[0].tolist())
            assert len(values) == 1
            seen.update(values)
            looked.set()

    reader = Thread(target=look)
    reader.start()
    for number in range(1, 20):
        put(node, of(number), LAYOUT, BASE, {"number": number})
        # The folder before the last stays: whoever reads may be overtaken once, not twice.
        looked.clear()
        assert looked.wait(60)
    done.set()
    reader.join()
    assert seen


def test_the_last_contact_is_what_was_noted_last(node: OwnNode) -> None:
    assert last_contact(node) is None
    note_contact(node, "query.describe", "done")
    note_contact(node, "evaluate.adopt", "SGL-900")
    found = last_contact(node)
    assert found is not None
    assert (found["kind"], found["outcome"]) == ("evaluate.adopt", "SGL-900")
    (node.folder / "contact.json").write_text("{")
    with pytest.raises(NodeFileError):
        last_contact(node)
