"""What cameras do to pictures: stated inverses, independent implementations, contradictions."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps
from scipy import ndimage

from sglora_fed.tasks.cameras.conditions import (
    COLOUR,
    CONDITIONS,
    GEOMETRY,
    OPTICS,
    PLAIN,
    Condition,
    seen_by,
)
from sglora_fed.tasks.cameras.scenes import COLOURS, PLACES, SCENES, render

PICTURES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)

PILLOW = {
    "upright": lambda image: image,
    "upside_down": lambda image: image.rotate(180),
    "mirrored": ImageOps.mirror,
    "quarter_left": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "quarter_right": lambda image: image.transpose(Image.Transpose.ROTATE_270),
    "flipped": ImageOps.flip,
}
"""Geometry -> the same by Pillow, whose turns are counter-clockwise."""

INVERSES = {name: name for name in (*GEOMETRY, *COLOUR)} | {
    "quarter_left": "quarter_right",
    "quarter_right": "quarter_left",
}

SHOWN = {
    "true": {},
    "red_blue": {"red": "blue", "blue": "red", "cyan": "yellow", "yellow": "cyan"},
    "red_green": {"red": "green", "green": "red", "cyan": "magenta", "magenta": "cyan"},
    "green_blue": {"green": "blue", "blue": "green", "magenta": "yellow", "yellow": "magenta"},
    "rotated": {
        **{"red": "green", "green": "blue", "blue": "red"},
        **{"yellow": "cyan", "cyan": "magenta", "magenta": "yellow"},
    },
    "negative": {
        **{"red": "cyan", "green": "magenta", "blue": "yellow"},
        **{"cyan": "red", "magenta": "green", "yellow": "blue"},
    },
}
"""Colour fault -> what an object's colour looks like, when it changes."""


@pytest.mark.parametrize("name", GEOMETRY)
def test_geometry_is_what_pillow_makes(name: str) -> None:
    shown = seen_by(Condition(name, "true", "clean"), PICTURES)
    for before, after in zip(PICTURES, shown, strict=True):
        assert np.array_equal(np.asarray(PILLOW[name](Image.fromarray(before))), after)


@pytest.mark.parametrize("name", [n for n in INVERSES if n != "rotated"])
def test_each_is_its_own_or_its_stated_inverse(name: str) -> None:
    group = GEOMETRY if name in GEOMETRY else COLOUR
    assert np.array_equal(group[INVERSES[name]](group[name](PICTURES)), PICTURES)


def test_three_rotations_of_the_channels_are_none() -> None:
    once = COLOUR["rotated"](PICTURES)
    assert not np.array_equal(COLOUR["rotated"](once), PICTURES)
    assert np.array_equal(COLOUR["rotated"](COLOUR["rotated"](once)), PICTURES)


@pytest.mark.parametrize("name", COLOUR)
@pytest.mark.parametrize("colour", COLOURS)
def test_a_colour_is_shown_as_another(name: str, colour: str) -> None:
    picture = np.full((1, 4, 4, 3), COLOURS[colour], np.uint8)
    shown = SHOWN[name].get(colour, colour)
    assert (COLOUR[name](picture) == COLOURS[shown]).all()


@pytest.mark.parametrize(("name", "factor", "offset"), [("dark", 0.3, 0), ("washed_out", 0.3, 165)])
def test_levels_can_be_undone_up_to_rounding(name: str, factor: float, offset: float) -> None:
    shown = OPTICS[name](PICTURES).astype(float)
    assert np.abs((shown - offset) / factor - PICTURES).max() <= 0.5 / factor + 1e-9


def test_blur_is_a_binomial_mean() -> None:
    kernel = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256
    expected = ndimage.convolve(PICTURES.astype(float), kernel[None, :, :, None], mode="nearest")
    assert np.abs(OPTICS["blurred"](PICTURES) - expected).max() <= 0.5


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", GEOMETRY)
def test_places_are_closed_under_geometry(place: str, name: str) -> None:
    number = next(
        n for n, s in enumerate(SCENES) if (s.colour, s.shape, s.place) == ("red", "circle", place)
    )
    shown = seen_by(Condition(name, "true", "clean"), render(np.array([number]), _rng()))[0]
    red = (shown[..., 0] > 200) & (shown[..., 1] < 60)
    y, x = (float(axis.mean()) + 0.5 for axis in np.nonzero(red))
    assert min(np.hypot(x - a, y - b) for a, b in PLACES.values()) < 0.1


def test_plain_changes_nothing_and_no_condition_the_input() -> None:
    before = PICTURES.copy()
    assert np.array_equal(seen_by(PLAIN, PICTURES), PICTURES)
    for condition in CONDITIONS:
        shown = seen_by(condition, PICTURES)
        assert shown.flags.c_contiguous
        assert not np.shares_memory(shown, PICTURES)
        assert shown.dtype == np.uint8
    assert np.array_equal(PICTURES, before)


def test_no_two_conditions_show_the_same() -> None:
    shown = {seen_by(condition, PICTURES).tobytes() for condition in CONDITIONS}
    assert len(CONDITIONS) == len(shown) == 144


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)
