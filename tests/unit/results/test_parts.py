"""Parts come back as they were kept, and what is another run's is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from sglora_fed.errors import ResultsError
from sglora_fed.results.parts import Part, PartRows, Parts, remove_parts
from sglora_fed.results.rows import Row


def part(client: str) -> Part:
    rows = [Row(client, "new", 0, "soup", metric, 1 / 3) for metric in ("a", "b")]
    return Part(rows, {"soup": [0.5, 0.25]}, {client: [0.1, 1.0]}, {"up": 7}, 1, {"0": 512})


def test_they_come_back(tmp_path: Path) -> None:
    parts = Parts(tmp_path, 3, "this")
    assert parts.get(0) is None
    for number, client in enumerate("xy"):
        parts.add(number, part(client))
    again = Parts(tmp_path, 3, "this")
    assert again.get(1) == part("y")
    rows = PartRows((again,))
    assert list(rows) == list(rows) == [*part("x").rows, *part("y").rows]
    remove_parts(tmp_path)
    assert not list(tmp_path.iterdir())


def test_those_of_another_run_are_removed(tmp_path: Path) -> None:
    Parts(tmp_path, 0, "this").add(0, part("x"))
    Parts(tmp_path, 1, "this").add(0, part("x"))
    assert Parts(tmp_path, 0, "another").get(0) is None
    assert Parts(tmp_path, 1, "this").get(0) is not None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"rows": 3}', '{"rows": "client\\r\\nx"}'])
def test_damage_is_told(tmp_path: Path, text: str) -> None:
    parts = Parts(tmp_path, 0, "this")
    parts.add(0, part("x"))
    (parts.folder / "000000.json").write_text(text)
    with pytest.raises(ResultsError, match="damaged"):
        parts.get(0)
