"""What left a node with noise: the same bytes again, from no other start."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from sglora_fed.adapters.training import Trained
from sglora_fed.errors import AdapterFileError, BudgetError, ResultsError
from sglora_fed.kept.released import Release, release_once

STARTS = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SGLORA_FED_HOME", str(tmp_path))
    return tmp_path


class Noise:
    """Makes other numbers each time, and counts for whom."""

    def __init__(self) -> None:
        self.made: list[int] = []
        self._rng = np.random.default_rng(0)

    def __call__(self, rows: Sequence[int]) -> Trained:
        self.made += rows
        return Trained(*(self._rng.normal(size=(len(rows), 4)).astype(np.float32) for _ in "abc"))


def releases(rows: Sequence[int], number: int = 1, shift: float = 0) -> list[Release]:
    return [Release({"task": row, "place": ["a", number]}, STARTS[row] + shift) for row in rows]


def test_what_was_released_is_not_made_again() -> None:
    noise = Noise()
    first = release_once(releases([0, 1]), noise)
    again = release_once(releases([1, 2, 0]), noise)
    assert noise.made == [0, 1, 1]
    for name in ("final", "mean", "variance"):
        np.testing.assert_array_equal(getattr(again, name)[[2, 0]], getattr(first, name))


def test_another_round_is_another_release() -> None:
    noise = Noise()
    one, other = (release_once(releases([0], number), noise).final for number in (1, 2))
    assert (one != other).all()


def test_a_round_that_was_answered_has_no_other_start() -> None:
    noise = Noise()
    release_once(releases([0]), noise)
    with pytest.raises(BudgetError):
        release_once(releases([0], shift=1), noise)
    assert noise.made == [0]


def test_who_comes_second_gets_what_the_first_released(home: Path) -> None:
    noise = Noise()

    def beaten(rows: Sequence[int]) -> Trained:
        release_once(releases([0]), noise)
        return noise(rows)

    found = release_once(releases([0]), beaten).final
    np.testing.assert_array_equal(found, release_once(releases([0]), noise).final)
    assert noise.made == [0, 0]
    assert [path.suffix for path in (home / "released").iterdir()] == [".safetensors"]


def test_a_damaged_release_is_not_made_anew(home: Path) -> None:
    noise = Noise()
    release_once(releases([0]), noise)
    (path,) = (home / "released").iterdir()
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(AdapterFileError):
        release_once(releases([0]), noise)
    assert noise.made == [0]


def test_nothing_is_released_that_could_not_be_kept(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "released").write_text("in the way", encoding="utf-8")
    with pytest.raises(ResultsError):
        release_once(releases([0]), Noise())
