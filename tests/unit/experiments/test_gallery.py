"""What is shown of a client: the first ones, their own pictures, the highest scores."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from flwr.serverapp import Grid
from flwr.superlink.grid import InMemoryGrid
from PIL import Image

from sglora_fed.config import compose
from sglora_fed.experiments.gallery import (
    SIDE,
    best_texts,
    exhibits,
    first_clients,
    is_simulated,
    png,
    right_texts,
    shown_methods,
)
from sglora_fed.tasks.types import Example, Task


def retrieval(*pairs: tuple[str, str]) -> Task:
    test = tuple(Example(item, caption) for item, caption in pairs)
    return Task("c", "words", {}, (), test, kind="retrieval", modality="image")


LABELLED = Task(
    "c", "words", {"a": "now", "b": "later"}, (), (Example("call", "a"), Example("milk", "b"))
)


def test_the_first_clients_of_each_split_by_name_are_shown() -> None:
    names = {"x": ("x2", "x0", "x1"), "y": ("y7",), "z": ("z1", "z10", "z2")}
    tasks = [replace(LABELLED, id=n, split=split) for split, some in names.items() for n in some]
    assert first_clients(tasks) == set()  # texts
    tasks = [replace(task, modality="image") for task in tasks]
    assert first_clients(tasks) == {"x0", "x1", "y7", "z1", "z10"}


def test_the_best_captions_are_those_with_the_highest_scores() -> None:
    task = retrieval(*((f"{n}.png", f"caption {n % 7}") for n in range(9)))
    for seed in range(20):
        scores = torch.from_numpy(np.random.default_rng(seed).permutation(9).astype(np.float32))
        highest = {
            text: max(float(scores[n]) for n in range(9) if f"caption {n % 7}" == text)
            for text in {f"caption {n}" for n in range(7)}
        }
        expected = sorted(highest, key=highest.__getitem__, reverse=True)[:3]
        assert list(best_texts(task, scores)) == expected


def test_the_best_label_is_a_text_and_not_a_key() -> None:
    assert best_texts(LABELLED, torch.tensor([0.1, 0.3])) == ("later",)
    assert right_texts(LABELLED) == ("now",)


def test_all_captions_of_a_picture_are_right() -> None:
    task = retrieval(("a", "one"), ("b", "two"), ("a", "three"), ("a", "one"))
    assert right_texts(task) == ("one", "three")


def test_small_pictures_are_kept_pixel_by_pixel(tmp_path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 24, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for item in (pixels, str(tmp_path / "a.png")):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png(item)))), pixels)


def test_large_pictures_keep_their_shape_only() -> None:
    assert Image.open(io.BytesIO(png(np.zeros((300, 600, 3), np.uint8)))).size == (SIDE, SIDE // 2)


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        (("zero_shot", "topk", "functional"), ["zero_shot", "functional"]),
        (
            ("oracle", "functional", "shared_lora", "zero_shot", "shuffled"),
            ["zero_shot", "shared_lora", "functional", "oracle"],
        ),
    ],
)
def test_methods_that_were_not_measured_are_not_shown(measured, expected) -> None:
    assert shown_methods(compose(), measured) == expected


class Remote(Grid):
    """A grid whose nodes are somewhere else."""

    create_message = get_node_ids = push_messages = pull_messages = None  # type: ignore[assignment]
    send_and_receive = set_run = run = None  # type: ignore[assignment]


def test_nothing_is_shown_of_nodes_elsewhere() -> None:
    class Federation:
        grid = Remote()

    assert not is_simulated(Remote())
    assert is_simulated(InMemoryGrid.__new__(InMemoryGrid))
    # Nothing else is even looked at.
    assert exhibits(Federation(), None, None) == []  # type: ignore[arg-type]
