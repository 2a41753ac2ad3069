"""Captions: one for each scene, read back as that scene."""

from __future__ import annotations

import pytest

from sglora_fed.errors import TaskError
from sglora_fed.tasks.cameras.captions import CAPTIONS, WORDS, caption, parse
from sglora_fed.tasks.cameras.scenes import SCENES, Scene


def test_round_trip() -> None:
    assert [parse(text) for text in CAPTIONS] == list(SCENES)
    assert len(set(CAPTIONS)) == len(SCENES)


def test_they_read_like_english() -> None:
    assert caption(Scene("small", "red", "circle", "top left")) == (
        "a small red circle at the top left"
    )
    assert caption(Scene("large", "cyan", "ring", "centre")) == "a large cyan ring in the centre"
    assert {word for text in CAPTIONS for word in text.split()} == set(WORDS)


@pytest.mark.parametrize(
    "text",
    ["", "a red circle at the top", "a small red circle at the centre", "small red circle", "x"],
)
def test_what_is_no_caption_is_refused(text: str) -> None:
    with pytest.raises(TaskError, match="no caption"):
        parse(text)
