"""Scenes: one coloured shape at one of nine places on a noisy grey gradient, 32 x 32 pixels.

All measures are in pixels, from the picture's top left corner; a pixel's centre lies at its number
plus one half. Shapes, colours, places and backgrounds are closed under what a camera does to them:
what one camera shows of a scene, another shows of a different one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from statistics import NormalDist

import numpy as np

SIDE = 32
"""Width and height of a picture."""

LOW, HIGH = 35, 220
"""Channel values of an object. They add up to 255: a negative swaps them."""

COLOURS: Mapping[str, tuple[int, int, int]] = {
    "red": (HIGH, LOW, LOW),
    "green": (LOW, HIGH, LOW),
    "blue": (LOW, LOW, HIGH),
    "cyan": (LOW, HIGH, HIGH),
    "magenta": (HIGH, LOW, HIGH),
    "yellow": (HIGH, HIGH, LOW),
}
"""Colour -> its red, green and blue."""

SIZES: Mapping[str, float] = {"small": 3.5, "large": 6.0}
"""Size -> radius of the circle around the shape's centre that the shape fits in."""

PLACES: Mapping[str, tuple[float, float]] = {
    f"{row} {column}".strip() or "centre": (x, y)
    for row, y in (("top", 7.0), ("", 16.0), ("bottom", 25.0))
    for column, x in (("left", 7.0), ("", 16.0), ("right", 25.0))
}
"""Place -> x and y of the shape's centre."""

SQUARE = 0.85
"""Half of a square's side, over the radius. Its corners leave the circle a little."""

ARM = 1 / 3
"""Half the width of a cross's arms, over the radius."""

HOLE = 0.5
"""Radius of a ring's hole, over the radius."""

Inside = Callable[[np.ndarray, np.ndarray], np.ndarray]

SHAPES: Mapping[str, Inside] = {
    "circle": lambda x, y: np.hypot(x, y) <= 1,
    "square": lambda x, y: np.maximum(abs(x), abs(y)) <= SQUARE,
    "triangle": lambda x, y: (y <= 0.5) & (math.sqrt(3) * abs(x) - y <= 1),
    "diamond": lambda x, y: abs(x) + abs(y) <= 1,
    "cross": lambda x, y: (np.minimum(abs(x), abs(y)) <= ARM) & (np.maximum(abs(x), abs(y)) <= 1),
    "ring": lambda x, y: (np.hypot(x, y) <= 1) & (np.hypot(x, y) >= HOLE),
}
"""Shape -> whether points are inside; x and y from its centre, over its radius."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What is in a picture: keys of ``SIZES``, ``COLOURS``, ``SHAPES`` and ``PLACES``."""

    size: str
    colour: str
    shape: str
    place: str


SCENES = tuple(Scene(*parts) for parts in product(SIZES, COLOURS, SHAPES, PLACES))
"""Every scene. Elsewhere a scene is its number in here."""

SHAPE = (len(SIZES), len(COLOURS), len(SHAPES), len(PLACES))
"""``SCENES`` as a grid."""

IN_GROUP = 4
"""Scenes of a hard group: one object at two places, in two colours."""

GREY = (95.0, 160.0)
"""Range of the background's middle; around half of 255, so that a negative's is alike."""

SLOPE = 35.0
"""Most that the background gains or loses from its middle to an edge, along each axis."""

NOISE = 8.0
"""Standard deviation of the background's noise, the same in all three channels."""

SAMPLES = 8
"""Points along each axis of a pixel that say how much of it a shape covers."""


def render(numbers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pictures of some scenes, each on a background of its own.

    Args:
        numbers: [n] places in ``SCENES``.
        rng: source of the backgrounds.

    Returns:
        [n, 32, 32, 3] uint8.
    """
    sizes, colours, shapes, places = np.unravel_index(numbers, SHAPE)
    covered = _COVERED[sizes, shapes, places][..., None]
    grey = _backgrounds(len(numbers), rng)[..., None]
    paint = np.array(list(COLOURS.values()), np.float32)[colours][:, None, None]
    made: np.ndarray = (grey + covered * (paint - grey) + np.float32(0.5)).astype(np.uint8)
    return made


def hard_groups(rng: np.random.Generator) -> np.ndarray:
    """Scenes that are easily taken for one another, in groups; none is in two of them.

    For each shape and size the colours are paired at random and so are the places, one of which is
    left over.

    Returns:
        [144, 4] places in ``SCENES``; each row one object at two places in two colours.
    """
    objects = np.arange(len(SIZES) * len(SHAPES))
    colours = _pairs(len(objects), len(COLOURS), rng)
    places = _pairs(len(objects), len(PLACES), rng)
    size, shape = np.divmod(objects, len(SHAPES))
    grid = np.broadcast_arrays(
        size[:, None, None, None, None],
        colours[:, :, None, :, None],
        shape[:, None, None, None, None],
        places[:, None, :, None, :],
    )
    groups = np.ravel_multi_index(grid, SHAPE).reshape(-1, IN_GROUP)
    return rng.permutation(groups)


def _pairs(rows: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """[rows, count // 2, 2] numbers below count, each at most once in a row."""
    orders = rng.permuted(np.tile(np.arange(count), (rows, 1)), axis=1)
    return orders[:, : count // 2 * 2].reshape(rows, -1, 2)


def skip(count: int, rng: np.random.Generator) -> None:
    """Leave a source of backgrounds as it is after so many pictures, none of which is drawn."""
    _draws(count, rng)


def _draws(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All that is random in backgrounds: [count] middles, [2, count, 1] slopes, a byte a pixel."""
    middle = rng.uniform(*GREY, count).astype(np.float32)
    slopes = rng.uniform(-SLOPE, SLOPE, (2, count, 1)).astype(np.float32)
    # A byte picks one of 256 quantiles: much faster than to draw a normal number for each pixel.
    return middle, slopes, rng.integers(0, 256, (count, SIDE, SIDE), np.uint8)


def _backgrounds(count: int, rng: np.random.Generator) -> np.ndarray:
    """[count, 32, 32] float32 grey gradients with noise."""
    middle, slopes, noise = _draws(count, rng)
    down, across = slopes * np.linspace(-1, 1, SIDE, dtype=np.float32)
    grey: np.ndarray = _QUANTILES[noise] + (middle[:, None] + down)[:, :, None] + across[:, None]
    return grey.clip(0, 255, out=grey)


def _coverage() -> np.ndarray:
    """[sizes, shapes, places, 32, 32] float32, how much of each pixel a shape covers."""
    points = (np.arange(SIDE * SAMPLES) + 0.5) / SAMPLES
    masks = [
        inside((points[None, :] - x) / radius, (points[:, None] - y) / radius)
        for radius, inside, (x, y) in product(SIZES.values(), SHAPES.values(), PLACES.values())
    ]
    fine = np.array(masks).reshape(-1, SIDE, SAMPLES, SIDE, SAMPLES)
    shape = (len(SIZES), len(SHAPES), len(PLACES), SIDE, SIDE)
    covered: np.ndarray = fine.mean(axis=(2, 4), dtype=np.float32).reshape(shape)
    return covered


_COVERED = _coverage()
_QUANTILES = np.array(
    [NormalDist(0, NOISE).inv_cdf((byte + 0.5) / 256) for byte in range(256)], np.float32
)
