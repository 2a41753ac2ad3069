"""Snapping: the entry that a description is about, however it is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sglora_fed.backbones import load_describer
from sglora_fed.config import compose
from sglora_fed.errors import CatalogueError, PrivacyError
from sglora_fed.kept.catalogues import SPACES, kept_snap, made_snap, space_facts, space_file
from sglora_fed.privacy.catalogue import Catalogue
from sglora_fed.privacy.families import catalogue_of
from sglora_fed.privacy.snapping import snap_to

DIM, ENTRIES, WAYS = 16, 6, 8


def said(rng: np.random.Generator, meanings: np.ndarray, count: int) -> np.ndarray:
    """[k, W, d]: what is meant is small beside how it is said, in four other directions."""
    manner = rng.normal(size=(len(meanings), count, 4)) @ np.eye(DIM)[-4:] * 3
    rows = meanings[:, None] + manner + 0.05 * rng.normal(size=(len(meanings), count, DIM))
    return np.asarray(rows / np.linalg.norm(rows, axis=2, keepdims=True))


def test_the_manner_of_speaking_counts_for_less_than_what_is_meant() -> None:
    rng = np.random.default_rng(0)
    meanings = np.eye(DIM)[:ENTRIES]
    known, new = said(rng, meanings, WAYS), said(rng, meanings, 50)
    snap = snap_to(list(known))
    truths = np.repeat(np.arange(ENTRIES), 50)
    queries = new.reshape(-1, DIM)
    snapped = np.array([(snap.rows @ snap.down(row)).argmax() for row in queries])
    plain = (queries @ snap.embeddings.T).argmax(axis=1)
    assert (snapped == truths).mean() > 0.9
    assert (plain == truths).mean() < 0.8


def test_with_one_wording_each_it_is_the_nearest() -> None:
    rows = np.linalg.qr(np.random.default_rng(1).normal(size=(DIM, DIM)))[0][:ENTRIES]
    snap = snap_to([row[None] for row in rows])
    for place, row in enumerate(rows):
        assert (snap.rows @ snap.down(row)).argmax() == place
    np.testing.assert_allclose(snap.embeddings, rows, atol=1e-12)


def test_a_description_without_direction_is_no_special_case() -> None:
    rows = np.eye(4)[:2]
    snap = snap_to([row[None] for row in rows])
    middle = snap.mean / np.linalg.norm(snap.mean)
    assert np.linalg.norm(snap.down(middle)) == pytest.approx(1)
    with pytest.raises(PrivacyError):
        snap.down(np.zeros(4))


@pytest.mark.parametrize(
    "wordings",
    [
        [np.eye(3)[:1], np.zeros((1, 3))],
        [np.eye(3)[:1]],
        [np.stack([np.eye(3)[0], -np.eye(3)[0]])] * 2,
    ],
)
def test_entries_that_are_no_use(wordings: list[np.ndarray]) -> None:
    with pytest.raises(CatalogueError):
        snap_to(wordings)


class Counting:
    """An encoder that counts how often it is asked."""

    fingerprint, dim = "counting", 4

    def __init__(self) -> None:
        self.asked = 0

    def encode(self, texts: list[str]) -> np.ndarray:
        self.asked += 1
        return np.eye(4)[: len(texts)]


def test_the_space_of_a_catalogue_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SGLORA_FED_HOME", str(tmp_path))
    encoder, catalogue = Counting(), Catalogue("own", 1, ("a", "b"), (("c",), ()))
    first, again = (kept_snap(catalogue, encoder) for _ in range(2))  # type: ignore[arg-type]
    assert encoder.asked == 1
    np.testing.assert_array_equal(first.rows, again.rows)
    (path,) = (tmp_path / "kept" / "catalogue").iterdir()
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(CatalogueError, match="remove"):
        kept_snap(catalogue, encoder)  # type: ignore[arg-type]


def test_the_space_in_the_package_is_that_of_the_list_and_the_encoder_as_they_are() -> None:
    """Whoever changes either makes it anew: ``python benchmarks/make_spaces.py``."""
    catalogue, describer = catalogue_of("cameras"), load_describer(compose([]).backbone)
    path = space_file(space_facts(catalogue, describer))
    assert sorted(SPACES.glob("*.safetensors")) == [path]
    assert path.stat().st_size < 600_000
    found, made = kept_snap(catalogue, describer), made_snap(catalogue, describer)
    for name, array in vars(made).items():
        scale = np.abs(array).max()
        np.testing.assert_allclose(getattr(found, name), array, atol=1e-3 * scale, err_msg=name)
    for row in made.embeddings[::7]:
        assert found.nearest(row, 4).tolist() == made.nearest(row, 4).tolist()
