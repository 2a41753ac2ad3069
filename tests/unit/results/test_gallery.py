"""The gallery on disk: what was written is read, what is damaged is refused."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from PIL import Image

from sglora_fed.errors import ResultsError
from sglora_fed.results.gallery import GALLERY, Exhibit, read_gallery, write_gallery


def picture(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(file, "PNG")
    return file.getvalue()


CAMERA = Exhibit(
    client="camera-1",
    split="new_element",
    sentence="Meine Kamera hängt kopfüber.",
    scene=picture("red"),
    picture=picture("blue"),
    right=("a red square",),
    best={"zero_shot": ("a blue square", "a red square"), "ridge": ("a red square",)},
    shares={"zero_shot": 0.25, "ridge": 1.0},
)
PHOTO = replace(CAMERA, client="phone", split="pets", scene=None)


def test_what_is_written_is_read(tmp_path):
    write_gallery(tmp_path, [CAMERA, PHOTO])
    assert read_gallery(tmp_path) == [CAMERA, PHOTO]


def test_without_clients_there_is_no_file(tmp_path):
    write_gallery(tmp_path, [])
    assert not list(tmp_path.iterdir())
    assert read_gallery(tmp_path) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda one: one.pop("sentence"),
        lambda one: one.update(shares=[1]),
        lambda one: one["shares"].update(topk=0.5),
        lambda one: one.update(picture="bm8="),
        lambda one: one.update(picture="x"),
        lambda one: one.update(right=None),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, damage):
    write_gallery(tmp_path, [CAMERA])
    found = json.loads((tmp_path / GALLERY).read_text())
    damage(found[0])
    (tmp_path / GALLERY).write_text(json.dumps(found))
    with pytest.raises(ResultsError, match=r"gallery\.json is damaged"):
        read_gallery(tmp_path)


@pytest.mark.parametrize("text", ["[", "3", '["a"]', "{"])
def test_what_is_no_gallery_is_refused(tmp_path, text):
    (tmp_path / GALLERY).write_text(text)
    with pytest.raises(ResultsError, match="damaged"):
        read_gallery(tmp_path)
