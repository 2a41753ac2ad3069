"""The strip shows the first cameras of a finished run, whatever was picked for them."""

from __future__ import annotations

import importlib.util
import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from sglora_fed.experiments.finish import write_results
from tests.unit.results.planted import FACTS, planted
from tests.unit.results.test_gallery import CAMERA, picture

# By its path: an installed package is called benchmarks too.
PATH = Path(__file__).parents[3] / "benchmarks" / "draw_strip.py"
SPEC = importlib.util.spec_from_file_location("draw_strip", PATH)
draw_strip = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(draw_strip)

GALLERY = [
    replace(CAMERA, client=f"{split}-{number}", split=split, picture=picture(colour))
    for split, colours in {
        "new_element": ("black", "black"),
        "new_words": ("yellow", "cyan"),
        "new_combination": ("blue", "magenta", "cyan"),
    }.items()
    for number, colour in enumerate(colours)
]


def test_two_cameras_of_known_conditions_and_one_of_new_words_are_chosen() -> None:
    names = [one.client for one in draw_strip.chosen(GALLERY)]
    assert names == ["new_combination-0", "new_combination-1", "new_words-0"]


def test_the_command_draws_them(tmp_path, monkeypatch) -> None:
    results = write_results(tmp_path / "run", planted(12), FACTS, "name: trial\n", GALLERY)
    out = tmp_path / "strip.png"
    monkeypatch.setattr(sys, "argv", ["draw_strip", str(results), "--out", str(out)])
    draw_strip.main()
    pixels = np.asarray(Image.open(io.BytesIO(out.read_bytes())).convert("RGB")).reshape(-1, 3)
    for colour, shown in (
        ((0, 0, 255), True),
        ((255, 0, 255), True),
        ((255, 255, 0), True),
        ((0, 255, 255), False),
    ):
        assert ((pixels == colour).all(axis=1).sum() > 5000) == shown
