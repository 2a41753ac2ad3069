"""Overrides that mean the same in every process of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from sglora_fed.config import compose
from sglora_fed.config.overrides import quoted, with_absolute_paths

AWKWARD = "a=b, [c] 'd' #e &f {g} $h (i) \"j\" k\\l\\ münchen"
"""Letters that mean something in the grammar of overrides, or in a shell."""


TEXTS = [AWKWARD, "", "null", "3", "a'", "a\\'", "\\", "x,y", "${name}", "\\${a}"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_quoted_text_is_read_as_it_was(text: str) -> None:
    assert compose([f"zoo.path={quoted(text)}"]).zoo.path == text


def test_relative_paths_mean_the_same_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "it's a [place]"
    (here / "model").mkdir(parents=True)
    monkeypatch.chdir(here)
    overrides = ["zoo.path=my-zoo", "backbone.path=model", "seeds=[2]"]
    sent = with_absolute_paths(compose(overrides), overrides)
    monkeypatch.chdir(tmp_path)
    there = compose(sent)
    assert there.zoo.path == str(here / "my-zoo")
    assert there.backbone.path == str(here / "model")
    assert there.seeds == (2,)


def test_a_path_below_the_home_is_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "tasks").mkdir()
    overrides = ["family=local", "family.path='~/tasks'", "zoo.path='~/zoo'"]
    there = compose(with_absolute_paths(compose(overrides), overrides))
    assert there.family.path == str(tmp_path / "tasks")
    assert there.zoo.path == str(tmp_path / "zoo")


def test_a_hub_id_and_absolute_paths_stay_as_they_are(tmp_path: Path) -> None:
    overrides = ["backbone=clip", "backbone.path=someone/some-clip", f"zoo.path={tmp_path}"]
    assert with_absolute_paths(compose(overrides), overrides) == overrides
