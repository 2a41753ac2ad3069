"""What is wrong with a camera: how it is mounted, its colours and its optics.

A camera applies them in that order to what an upright camera with true colours and a clean lens
would show. Cameras contradict one another, and the picture alone does not tell which is which.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

Transform = Callable[[np.ndarray], np.ndarray]
"""[n, height, width, 3] uint8 to the same, height and width equal."""


def _turn(quarters: int) -> Transform:
    """Counter-clockwise."""
    return lambda pictures: np.rot90(pictures, quarters, axes=(1, 2))


def _channels(*order: int) -> Transform:
    """Red, green and blue of what is shown, as places in what is there."""
    return lambda pictures: pictures[..., list(order)]


def _levels(factor: float, offset: float) -> Transform:
    """Every channel value times a factor plus an offset, rounded."""
    table = (np.arange(256) * factor + offset + 0.5).astype(np.uint8)
    return lambda pictures: table[pictures]


def _same(pictures: np.ndarray) -> np.ndarray:
    return pictures


def _blurred(pictures: np.ndarray) -> np.ndarray:
    """Each pixel the binomial mean of 5 x 5 around it; edges are continued outwards."""
    padded = np.pad(pictures.astype(np.uint32), ((0, 0), (2, 2), (2, 2), (0, 0)), "edge")
    rows = _binomial(padded.swapaxes(0, 1)).swapaxes(0, 1)
    both = _binomial(rows.swapaxes(0, 2)).swapaxes(0, 2)
    return ((both + 128) // 256).astype(np.uint8)


def _binomial(values: np.ndarray) -> np.ndarray:
    """Sums along the first axis with weights 1 4 6 4 1."""
    a, b, c, d, e = (values[shift : len(values) - 4 + shift] for shift in range(5))
    sums: np.ndarray = a + e + 4 * (b + d) + 6 * c
    return sums


GEOMETRY: Mapping[str, Transform] = {
    "upright": _same,
    "upside_down": _turn(2),
    "mirrored": lambda pictures: pictures[:, :, ::-1],
    "quarter_left": _turn(1),
    "quarter_right": _turn(-1),
    "flipped": lambda pictures: pictures[:, ::-1],
}
"""How the picture lies; ``flipped`` is top to bottom, ``mirrored`` left to right."""

COLOUR: Mapping[str, Transform] = {
    "true": _same,
    "red_blue": _channels(2, 1, 0),
    "red_green": _channels(1, 0, 2),
    "green_blue": _channels(0, 2, 1),
    "rotated": _channels(2, 0, 1),
    "negative": _levels(-1.0, 255.0),
}
"""What happens to colours; ``rotated`` shows red as green, green as blue and blue as red."""

OPTICS: Mapping[str, Transform] = {
    "clean": _same,
    "dark": _levels(0.3, 0.0),
    "blurred": _blurred,
    "washed_out": _levels(0.3, 165.0),
}
"""What happens to light."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One camera: keys of ``GEOMETRY``, ``COLOUR`` and ``OPTICS``."""

    geometry: str
    colour: str
    optics: str


CONDITIONS = tuple(Condition(*parts) for parts in product(GEOMETRY, COLOUR, OPTICS))
"""All 144."""

PLAIN = Condition("upright", "true", "clean")
"""The camera that the backbone was trained on: nothing is wrong with it."""


def seen_by(condition: Condition, pictures: np.ndarray) -> np.ndarray:
    """What a camera shows.

    Args:
        condition: of the camera.
        pictures: [n, side, side, 3] uint8.

    Returns:
        [n, side, side, 3] uint8, an array of its own.
    """
    turned = GEOMETRY[condition.geometry](pictures)
    coloured = COLOUR[condition.colour](turned)
    return np.array(OPTICS[condition.optics](coloured), order="C")
