"""Clients on the page and in a figure: whole, safe, the right texts marked and no others."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from sglora_fed.report.gallery import by_split, draw_gallery
from sglora_fed.report.page import write_report
from sglora_fed.results.gallery import Exhibit
from tests.unit.report.test_page import Page
from tests.unit.results.test_gallery import CAMERA, PHOTO


def written(run, folder, *exhibits: Exhibit) -> str:
    summary, rows = run
    return write_report(folder, summary, rows, exhibits).read_text()


@pytest.fixture(scope="module")
def html(run, tmp_path_factory) -> str:
    return written(run, tmp_path_factory.mktemp("run"), CAMERA, PHOTO)


def test_the_page_has_each_client_s_words_and_pictures(html):
    page = Page(html)
    assert "“Meine Kamera hängt kopfüber.”" in page.text
    assert all(place.startswith("data:image/png;base64,") for place in page.loads)
    shown = {base64.b64decode(place.partition(",")[2]) for place in page.loads}
    assert {CAMERA.scene, CAMERA.picture} <= shown


def test_right_texts_are_marked_and_no_others(html):
    answers = html[html.index("<section") : html.rindex("</section")]
    found = re.findall(r"<li( class=\"right\")?>([^<&]*)", answers)
    expected = [("a blue square", False), ("a red square", True), ("a red square", True)]
    assert [(text, bool(mark)) for mark, text in found] == 2 * expected
    assert answers.count("✓") == 4


def test_every_picture_says_what_it_shows(html):
    images = re.findall(r"<img [^>]*alt=\"([^\"]*)\"", html)
    assert len(images) == html.count("<img ")
    assert any("a red square" in text for text in images)


def test_words_from_outside_are_text(run, tmp_path):
    hostile = '<script>alert("x")</script>'
    best = dict.fromkeys(PHOTO.shares, (hostile,))
    one = replace(PHOTO, sentence=hostile, client=hostile, split=hostile, best=best)
    html = written(run, tmp_path, replace(one, right=(hostile,)))
    assert "<script" not in html
    assert Page(html).text.count(hostile) == 3 + 2


def test_without_clients_the_page_says_nothing_of_them(run, tmp_path):
    html = written(run, tmp_path)
    assert "<section" not in html
    assert not (tmp_path / "figures" / "gallery.png").exists()


def test_splits_come_in_reading_order():
    first = replace(CAMERA, split="new_combination")
    assert by_split([PHOTO, CAMERA, first]) == [
        ("new_combination", [first]),
        ("new_element", [CAMERA]),
        ("pets", [PHOTO]),
    ]


def test_the_figure_shows_the_pictures_as_they_are():
    drawn = Image.open(io.BytesIO(draw_gallery([CAMERA])["gallery.png"]))
    pixels = np.asarray(drawn.convert("RGB")).reshape(-1, 3)
    for colour in ((255, 0, 0), (0, 0, 255)):
        assert (pixels == colour).all(axis=1).sum() > 5000


@pytest.mark.parametrize("words", [r"$\frac$ and $x", "word " * 200, "Ω \N{PILE OF POO} \x07"])
def test_the_figure_takes_any_words(words):
    best = {"zero_shot": (words,), "ridge": ()}
    one = replace(PHOTO, sentence=words, split=words, right=(words,), best=best)
    assert draw_gallery([one])["gallery.png"].startswith(b"\x89PNG")
