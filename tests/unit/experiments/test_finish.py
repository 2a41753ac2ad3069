"""The end of a run: what is written, in which order, and what stays when it cannot be."""

from __future__ import annotations

import errno
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

import sglora_fed.files
from sglora_fed.errors import ResultsError
from sglora_fed.experiments.finish import write_results
from tests.unit.results.planted import FACTS, planted


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_results(tmp_path_factory.mktemp("run"), planted(12), FACTS, "name: trial\n")


def test_a_run_leaves_everything_in_its_folder(folder):
    assert folder.is_absolute()
    assert {path.name for path in folder.iterdir()} == {
        "summary.json",
        "clients.csv",
        "config.yaml",
        "report.html",
        "figures",
    }


def test_a_full_disk_leaves_the_older_run_whole(folder, monkeypatch):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sglora_fed.files.os, "fsync", full)
    with pytest.raises(ResultsError, match="No space left"):
        write_results(folder, planted(30), FACTS, "name: other\n")
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    "facts",
    [
        replace(FACTS, seconds=math.nan),
        replace(FACTS, confidence={"a": (math.inf, 0.0, 0.5)}),
        replace(FACTS, seconds_by_stage={"fit": math.nan}),
    ],
)
def test_measurements_are_kept_when_the_summary_cannot_be_written(tmp_path, facts):
    with pytest.raises(ResultsError, match="finite"):
        write_results(tmp_path, planted(12), facts, "name: trial\n")
    assert len((tmp_path / "clients.csv").read_text().splitlines()) == 1 + 4 * 12
    assert not (tmp_path / "summary.json").exists()
