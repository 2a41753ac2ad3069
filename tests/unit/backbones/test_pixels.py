"""A table of values against the preprocessor that it stands for, bit by bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers import CLIPImageProcessorPil

from sglora_fed.backbones.pixels import looked_up, value_table

SIDE = 20


def processor(**changes: Any) -> CLIPImageProcessorPil:
    told: dict[str, Any] = {
        "size": {"shortest_edge": SIDE},
        "crop_size": {"height": SIDE, "width": SIDE},
        "image_mean": [0.1, 0.2, 0.7],
        "image_std": [0.3, 0.5, 0.9],
    }
    return CLIPImageProcessorPil(**(told | changes))


@pytest.mark.parametrize("changes", [{}, {"do_normalize": False}, {"rescale_factor": 0.5}])
def test_a_table_says_exactly_what_the_preprocessor_does(changes: dict[str, Any]) -> None:
    own = processor(**changes)
    table = value_table(own, SIDE)
    assert table is not None
    pictures = np.random.default_rng(1).integers(256, size=(9, SIDE, SIDE, 3), dtype=np.uint8)
    made = own([Image.fromarray(one) for one in pictures])["pixel_values"]
    np.testing.assert_array_equal(looked_up(table, pictures), np.stack(made))


@pytest.mark.parametrize(
    "changes",
    [
        {"size": {"shortest_edge": 2 * SIDE}},  # a part of it, enlarged
        {"crop_size": {"height": SIDE // 2, "width": SIDE // 2}},
    ],
)
def test_what_does_more_has_none(changes: dict[str, Any]) -> None:
    assert value_table(processor(**changes), SIDE) is None


def test_a_picture_of_few_pixels_cannot_have_all_values() -> None:
    small = {"size": {"shortest_edge": 15}, "crop_size": {"height": 15, "width": 15}}
    assert value_table(processor(**small), 15) is None
