"""Results come back from disk, or are refused with the reason."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from sglora_fed.errors import ResultsError
from sglora_fed.results.files import read_rows, read_summary, write_rows, write_summary
from sglora_fed.results.rows import Row
from sglora_fed.results.summary import summarise
from tests.unit.results.planted import FACTS, planted


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    found = tmp_path_factory.mktemp("run")
    write_rows(found, planted(12), "name: trial\n")
    write_summary(found, summarise(planted(12), FACTS))
    return found


def test_results_come_back_from_disk(folder):
    assert list(read_rows(folder)) == planted(12)
    assert read_summary(folder) == json.loads(json.dumps(summarise(planted(12), FACTS)))


def test_a_line_end_in_a_name_comes_back(tmp_path):
    rows = [Row("a\r\nb\r", "combo\n", 0, "soup", "accuracy", 0.5)]
    write_rows(tmp_path, rows, "")
    assert list(read_rows(tmp_path)) == rows


def test_rows_are_read_one_after_the_other(tmp_path):
    """A hundred thousand clients' fit in no memory."""
    write_rows(tmp_path, (replace(planted(1)[0], client=str(n)) for n in range(20_000)), "")
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_rows(tmp_path)) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("summary.json", None, "No such file"),
        ("summary.json", lambda text: text[:200], "not JSON"),
        ("summary.json", lambda text: b"[]", "schema None"),
        ("summary.json", lambda text: text.replace(b'"schema": 2', b'"schema": 9'), "schema 9"),
        ("summary.json", lambda text: b'{"schema": 2}', "without run, counts"),
        ("clients.csv", None, "No such file"),
        ("clients.csv", lambda text: text[:-3], "damaged after 48 rows"),
        ("clients.csv", lambda text: text + b"\xff", "not UTF-8"),
    ],
)
def test_damaged_results_are_refused_with_the_reason(folder, tmp_path, name, change, message):
    for other in ("summary.json", "clients.csv"):
        text = (folder / other).read_bytes()
        if other != name:
            (tmp_path / other).write_bytes(text)
        elif change is not None:
            (tmp_path / other).write_bytes(change(text))
    with pytest.raises(ResultsError, match=message):
        read_summary(tmp_path), list(read_rows(tmp_path))
