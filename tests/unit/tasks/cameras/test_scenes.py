"""The renderer against closed forms: areas, centres, colours at known pixels, backgrounds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sglora_fed.tasks.cameras.scenes import (
    COLOURS,
    GREY,
    HIGH,
    IN_GROUP,
    LOW,
    NOISE,
    PLACES,
    SCENES,
    SHAPES,
    SIDE,
    SIZES,
    SLOPE,
    hard_groups,
    render,
    skip,
)

AREAS = {
    "circle": math.pi,
    "square": (2 * 0.85) ** 2,
    "triangle": 3 * math.sqrt(3) / 4,  # equilateral in the unit circle
    "diamond": 2.0,
    "cross": 2 * (2 * 2 / 3) - (2 / 3) ** 2,
    "ring": math.pi * (1 - 0.5**2),
}
"""Shape -> its area at radius 1."""

X, Y = np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5)


def drawn(number: int, pictures: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """[32, 32] the share of the object in each pixel, and the pictures that tell it.

    The background is grey, so the difference of a high and a low channel is the object's alone.
    """
    made = render(np.full(pictures, number), np.random.default_rng(number)).astype(float)
    paint = np.array(COLOURS[SCENES[number].colour])
    high, low = made[..., paint == HIGH].mean(axis=-1), made[..., paint == LOW].mean(axis=-1)
    return (high - low).mean(axis=0) / (HIGH - LOW), made


@pytest.mark.parametrize("number", range(0, len(SCENES), 7))
def test_area_and_centre_are_the_shapes_own(number: int) -> None:
    scene = SCENES[number]
    share, _ = drawn(number)
    radius, (x, y) = SIZES[scene.size], PLACES[scene.place]
    assert share.sum() == pytest.approx(AREAS[scene.shape] * radius**2, rel=0.04)
    centre = (share * X).sum() / share.sum(), (share * Y).sum() / share.sum()
    assert centre == pytest.approx((x, y), abs=0.1)


def test_every_scene_has_a_picture_of_its_own() -> None:
    assert len(SCENES) == len(set(SCENES)) == 2 * 6 * 6 * 9
    assert set(AREAS) == set(SHAPES)
    shares = np.array([drawn(number, 20)[0] for number in range(len(SHAPES) * len(PLACES))])
    apart = np.abs(shares[:, None] - shares[None]).sum(axis=(2, 3))
    assert apart[~np.eye(len(shares), dtype=bool)].min() > 5  # pixels


@pytest.mark.parametrize("colour", COLOURS)
def test_inside_is_the_colour_and_outside_is_grey(colour: str) -> None:
    number = next(n for n, s in enumerate(SCENES) if (s.colour, s.shape) == (colour, "square"))
    _, pictures = drawn(number)
    x, y = (int(place) for place in PLACES[SCENES[number].place])
    assert (pictures[:, y, x] == COLOURS[colour]).all()
    far = pictures[:, -4:, -4:]
    assert (far == far[..., :1]).all()


def test_colours_are_closed_under_swaps_and_negatives() -> None:
    values = set(COLOURS.values())
    assert {tuple(255 - channel for channel in paint) for paint in values} == values
    assert {(blue, red, green) for red, green, blue in values} == values
    assert {(green, red, blue) for red, green, blue in values} == values


def test_backgrounds_are_planes_with_noise() -> None:
    made = render(np.zeros(300, int), np.random.default_rng(0)).astype(float)
    away = np.hypot(X - 7, Y - 7) > 6  # scene 0 is at the top left
    plane = np.stack([np.ones(away.sum()), X[away] / 16 - 1, Y[away] / 16 - 1], axis=1)
    grey = made[:, away][:, :, 0]
    fit, *_ = np.linalg.lstsq(plane, grey.T, rcond=None)
    assert (grey.T - plane @ fit).std() == pytest.approx(NOISE, rel=0.02)
    low, high = GREY
    assert fit[0].min() > low - 3
    assert fit[0].max() < high + 3
    assert fit[0].mean() == pytest.approx((low + high) / 2, abs=4)
    assert np.abs(fit[1:]).max() < SLOPE + 4
    assert fit[1:].mean(axis=1) == pytest.approx([0, 0], abs=4)


def test_pictures_are_a_function_of_scene_and_seed() -> None:
    numbers = np.array([5, 9, 5])
    first, again = (render(numbers, np.random.default_rng(3)) for _ in range(2))
    assert first.shape == (3, SIDE, SIDE, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first[0], first[2])


def test_what_is_skipped_draws_as_much_as_what_is_rendered() -> None:
    drawn, skipped = (np.random.default_rng(3) for _ in range(2))
    render(np.arange(7), drawn)
    skip(7, skipped)
    assert drawn.bit_generator.state == skipped.bit_generator.state


def test_hard_groups_are_one_object_at_two_places_in_two_colours() -> None:
    groups = hard_groups(np.random.default_rng(1))
    assert len(np.unique(groups)) == groups.size == 576
    assert groups.shape[1] == IN_GROUP
    for group in groups:
        scenes = [SCENES[number] for number in group]
        assert len({(scene.size, scene.shape) for scene in scenes}) == 1
        assert len({scene.place for scene in scenes}) == 2
        assert len({scene.colour for scene in scenes}) == 2
    other = hard_groups(np.random.default_rng(2))
    assert not np.array_equal(groups, other)
