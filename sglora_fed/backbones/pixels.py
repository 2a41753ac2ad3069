"""Pictures of the model's own size through its preprocessor: values change, places do not."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

VALUES = 256
"""Of one colour of a pixel."""


def value_table(processor: Any, side: int) -> np.ndarray | None:
    """[3, 256] what a preprocessor makes of each value of each colour in a picture of this size.

    It is tried on one picture that has all values, and on a random one, of which the table must say
    the same: exactly what the preprocessor does, several times as fast.

    Args:
        processor: of a checkpoint.
        side: of the pictures that the model takes.

    Returns:
        None for one that does more, or where a picture has fewer pixels than there are values.
    """
    if side * side < VALUES:
        return None
    ramp = np.resize(np.arange(VALUES, dtype=np.uint8), (side, side))
    rng = np.random.default_rng(0)
    drawn = rng.integers(VALUES, size=(side, side, 3), dtype=np.uint8)
    pictures = [Image.fromarray(pixels) for pixels in (np.stack([ramp] * 3, axis=-1), drawn)]
    first, second = (np.asarray(made) for made in processor(pictures)["pixel_values"])
    if first.shape != (3, side, side) or second.shape != first.shape:
        return None
    table: np.ndarray = first.reshape(3, -1)[:, :VALUES]
    return table if np.array_equal(looked_up(table, drawn[None])[0], second) else None


def looked_up(table: np.ndarray, pictures: np.ndarray) -> np.ndarray:
    """[n, 3, side, side] for pictures [n, side, side, 3] uint8."""
    return np.stack([table[colour][pictures[..., colour]] for colour in range(3)], axis=1)
