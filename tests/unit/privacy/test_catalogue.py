"""Catalogue: one hash for one list, the nearest entry, and files that are refused."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sglora_fed.errors import CatalogueError
from sglora_fed.privacy.catalogue import (
    MOST,
    Catalogue,
    check_rows,
    nearest,
    read_catalogue,
    write_catalogue,
)

PUBLIC = Catalogue("pets", 2, ("cats asleep", "dogs, \u00e9veill\u00e9s", "a parrot"))


class TestHash:
    def test_is_of_canonical_json(self) -> None:
        """Written out by hand: whoever makes a catalogue elsewhere must get the same."""
        text = (
            '{"descriptions":["cats asleep","dogs, \\u00e9veill\\u00e9s","a parrot"],'
            '"name":"pets","version":2}'
        )
        assert PUBLIC.sha256 == hashlib.sha256(text.encode()).hexdigest()

    @pytest.mark.parametrize(
        "change",
        [
            {"name": "pet"},
            {"version": 3},
            {"descriptions": PUBLIC.descriptions[::-1]},
            {"descriptions": PUBLIC.descriptions[:2]},
        ],
    )
    def test_other_catalogues_have_another(self, change: dict) -> None:
        assert replace(PUBLIC).sha256 == PUBLIC.sha256
        assert replace(PUBLIC, **change).sha256 != PUBLIC.sha256


class TestNearest:
    def test_is_the_largest_cosine(self) -> None:
        rng = np.random.default_rng(0)
        rows = rng.normal(size=(50, 8))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        for vector in rng.normal(size=(40, 8)):
            vector /= np.linalg.norm(vector)
            angles = [float(np.arccos(np.clip(row @ vector, -1, 1))) for row in rows]
            assert nearest(vector, rows) == angles.index(min(angles))

    def test_lengths_within_the_tolerance_decide_nothing(self) -> None:
        rows = np.array([[1.0009, 0.0], [0.999 * np.cos(0.01), 0.999 * np.sin(0.01)]])
        assert nearest(np.array([np.cos(0.009), np.sin(0.009)]), rows) == 1

    def test_the_first_of_equals(self) -> None:
        assert nearest(np.array([1.0, 0.0]), np.array([[0, 1.0], [1.0, 0], [1.0, 0]])) == 1

    @pytest.mark.parametrize(
        "rows",
        [np.eye(3)[:1], np.eye(3) * np.nan, np.zeros((2, 3)), np.eye(3)[0], np.eye(3, dtype=int)],
        ids=["one", "nan", "zeros", "vector", "integers"],
    )
    def test_unfit_embeddings(self, rows: np.ndarray) -> None:
        with pytest.raises(CatalogueError):
            check_rows(rows)

    def test_places_fit_into_two_bytes(self) -> None:
        check_rows(np.ones((MOST, 1)))
        with pytest.raises(CatalogueError, match="65535"):
            check_rows(np.ones((MOST + 1, 1)))


class TestFile:
    def test_comes_back(self, tmp_path: Path) -> None:
        write_catalogue(PUBLIC, tmp_path / "pets.json")
        assert read_catalogue(tmp_path / "pets.json") == PUBLIC

    @pytest.mark.parametrize(
        "facts",
        [
            [],
            {"name": "pets", "version": 1, "descriptions": ["a", "b"]},
            {"schema": 2, "name": "pets", "version": 1, "descriptions": ["a", "b"]},
            {"schema": 1, "name": "pets", "version": 1, "descriptions": ["a", "b"], "more": 1},
            {"schema": 1, "name": "pets", "version": True, "descriptions": ["a", "b"]},
            {"schema": 1, "name": "pets", "version": 0, "descriptions": ["a", "b"]},
            {"schema": 1, "name": "", "version": 1, "descriptions": ["a", "b"]},
            {"schema": 1, "name": 5, "version": 1, "descriptions": ["a", "b"]},
            {"schema": 1, "name": "pets", "version": 1, "descriptions": "ab"},
            {"schema": 1, "name": "pets", "version": 1, "descriptions": ["a", 1]},
            {"schema": 1, "name": "pets", "version": 1, "descriptions": ["a"]},
            {"schema": 1, "name": "pets", "version": 1, "descriptions": ["a", "a"]},
            {"schema": 1, "name": "pets", "version": 1, "descriptions": ["a", " "]},
            {"schema": 1, "name": "pets", "version": 1, "descriptions": ["a", "b\ud800"]},
        ],
    )
    def test_other_content_is_refused(self, facts: object, tmp_path: Path) -> None:
        path = tmp_path / "catalogue.json"
        path.write_text(json.dumps(facts))
        with pytest.raises(CatalogueError):
            read_catalogue(path)

    @pytest.mark.parametrize("data", [b"", b"\xff", b"[" * 100_000, b"{", b"NaN"])
    def test_what_is_no_json_is_refused(self, data: bytes, tmp_path: Path) -> None:
        path = tmp_path / "catalogue.json"
        path.write_bytes(data)
        with pytest.raises(CatalogueError):
            read_catalogue(path)

    def test_a_missing_file_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(CatalogueError, match="cannot be read"):
            read_catalogue(tmp_path / "none.json")
