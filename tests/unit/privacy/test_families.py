"""Catalogues of the embedded families: each thing once, the same everywhere."""

from __future__ import annotations

from math import comb
from pathlib import Path

import pytest

from sglora_fed.errors import CatalogueError
from sglora_fed.privacy.catalogue import Catalogue, write_catalogue
from sglora_fed.privacy.families import catalogue_of
from sglora_fed.tasks.assistant.content import load_topics
from sglora_fed.tasks.cameras.conditions import COLOUR, CONDITIONS, GEOMETRY, OPTICS
from sglora_fed.tasks.cameras.wording import OWNERS


def test_every_camera_is_described_once_and_rightly() -> None:
    """Each entry holds a clause of its own elements and of no other."""
    entries = catalogue_of("cameras").descriptions
    assert len(entries) == 144
    for entry, condition in zip(entries, CONDITIONS, strict=True):
        for axis, kinds in (("geometry", GEOMETRY), ("colour", COLOUR), ("optics", OPTICS)):
            clauses = getattr(OWNERS, axis)
            said = {kind for kind in kinds if any(text in entry for text in clauses[kind])}
            assert said == {getattr(condition, axis)}


def test_every_rule_names_three_topics() -> None:
    entries, topics = catalogue_of("assistant").descriptions, load_topics()
    assert len(entries) == comb(len(topics), 3) == 364
    named = [{t.key for t in topics if t.names[0] in entry} for entry in entries]
    assert len(set(map(frozenset, named))) == 364
    assert min(map(len, named)) == 3


@pytest.mark.parametrize("family", ["cameras", "assistant"])
def test_the_same_each_time(family: str) -> None:
    assert catalogue_of(family).sha256 == catalogue_of(family).sha256
    assert catalogue_of(family).name == family


def test_a_file_takes_its_place(tmp_path: Path) -> None:
    own = Catalogue("own", 3, ("cats", "dogs"))
    write_catalogue(own, tmp_path / "own.json")
    assert catalogue_of("cameras", tmp_path / "own.json") == own
    assert catalogue_of("local", tmp_path / "own.json") == own


def test_other_families_need_a_file() -> None:
    with pytest.raises(CatalogueError, match="give a file"):
        catalogue_of("local")
