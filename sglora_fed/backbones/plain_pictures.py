"""CLIP's preprocessing with Pillow and NumPy alone, for the checkpoints that have the usual one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FILE = "preprocessor_config.json"

STEPS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")
"""What is done to a picture, in this order."""

OLDER = {"do_rescale": True, "rescale_factor": 1 / 255}
"""What files of before there was a choice do not say; sizes are plain numbers in them."""


@dataclass(frozen=True)
class Preprocessing:
    """The shorter side scaled, the middle cut out, values scaled and normalised.

    Attributes:
        shorter: pixels of the shorter side.
        side: of the middle square; at most the shorter side.
        resample: Pillow's number of a filter.
        factor: on values from 0 to 255.
        mean, std: of each colour, after that.
    """

    shorter: int
    side: int
    resample: int
    factor: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def middle(self, picture: np.ndarray) -> np.ndarray:
        """[side, side, 3] uint8 of a picture [height, width, 3] uint8."""
        height, width = picture.shape[:2]
        longer = int(self.shorter * max(height, width) / min(height, width))
        size = (self.shorter, longer) if width <= height else (longer, self.shorter)
        scaled = np.asarray(Image.fromarray(picture).resize(size, self.resample))
        top, left = (scaled.shape[0] - self.side) // 2, (scaled.shape[1] - self.side) // 2
        return scaled[top : top + self.side, left : left + self.side].copy()

    def values(self, middles: np.ndarray) -> np.ndarray:
        """[n, side, side, 3] float32, what the model gets of [n, side, side, 3] uint8."""
        scaled = (middles.astype(np.float64) * self.factor).astype(np.float32)
        mean, std = (np.array(numbers, np.float32) for numbers in (self.mean, self.std))
        made: np.ndarray = (scaled - mean) / std
        return made


def preprocessing(folder: Path, side: int) -> Preprocessing | None:
    """A checkpoint's own preprocessing.

    Args:
        folder: of the checkpoint.
        side: of the pictures that its model takes.

    Returns:
        None where the file does not say all of it, or says more.
    """
    try:
        told = dict(json.loads((folder / FILE).read_bytes()))
        return _usual(OLDER | told, side)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _usual(told: dict[str, Any], side: int) -> Preprocessing | None:
    size, crop = told["size"], told["crop_size"]
    size = {"shortest_edge": size} if isinstance(size, int) else size
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
    if not all(told[step] is True for step in STEPS) or told.get("do_pad"):
        return None
    if set(size) != {"shortest_edge"} or crop != {"height": side, "width": side}:
        return None
    if size["shortest_edge"] < side or not len(told["image_mean"]) == len(told["image_std"]) == 3:
        return None
    return Preprocessing(
        shorter=int(size["shortest_edge"]),
        side=side,
        resample=int(told["resample"]),
        factor=float(told["rescale_factor"]),
        mean=tuple(map(float, told["image_mean"])),  # type: ignore[arg-type]  # of length 3
        std=tuple(map(float, told["image_std"])),  # type: ignore[arg-type]
    )
