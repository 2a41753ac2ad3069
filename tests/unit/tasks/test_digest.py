"""What a task holds, as a hash: pictures count by their content, wherever they lie."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sglora_fed.tasks.digest import examples_sha256, tasks_sha256
from sglora_fed.tasks.types import Example, Task

PIXELS = np.arange(3072, dtype=np.uint8).reshape(32, 32, 3)


def task(item: np.ndarray, label: str = "a cat") -> Task:
    examples = (Example(item, label),)
    return Task("t", "say it", {}, examples, (), "expert", kind="retrieval", modality="image")


def test_equal_pictures_have_equal_hashes() -> None:
    one, same = task(PIXELS), task(PIXELS.copy())
    assert examples_sha256(one, one.train) == examples_sha256(same, same.train)
    assert tasks_sha256([one]) == tasks_sha256([same])


@pytest.mark.parametrize(
    "other", [task(PIXELS[::-1]), task(PIXELS.reshape(16, 64, 3)), task(PIXELS, "a dog")]
)
def test_other_pictures_and_captions_have_others(other: Task) -> None:
    assert examples_sha256(other, other.train) != examples_sha256(task(PIXELS), task(PIXELS).train)


def test_words_count_for_tasks() -> None:
    assert tasks_sha256([replace(task(PIXELS), description="x")]) != tasks_sha256([task(PIXELS)])
