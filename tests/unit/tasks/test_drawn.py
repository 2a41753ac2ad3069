"""Drawn examples are those of a tuple, and are made when they are looked at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sglora_fed.config.schema import FamilyConfig
from sglora_fed.tasks.cameras.family import RECENT, cameras_family
from sglora_fed.tasks.drawn import Drawn
from sglora_fed.tasks.types import Example

SMALL = FamilyConfig(
    name="cameras", experts=24, clients_per_split=2, train_per_client=3, test_per_client=8
)


def test_they_are_those_of_a_tuple() -> None:
    made, asked = tuple(Example(f"text {n}", "a") for n in range(4)), []

    def draw() -> tuple[Example, ...]:
        asked.append(1)
        return made

    drawn = Drawn(4, draw)
    assert len(drawn) == 4
    assert bool(drawn)
    assert not asked
    assert drawn[2] == made[2]
    assert drawn[1:3] == made[1:3]
    assert tuple(drawn) == made == drawn
    assert hash(drawn) == hash(made)
    assert drawn != made[:3]
    assert not Drawn(0, tuple)


def test_pictures_are_the_same_when_they_are_drawn_again() -> None:
    family = cameras_family(replace(SMALL, clients_per_camera=12))
    first = [[e.key for e in (*task.train, *task.test)] for task in family.tasks]
    assert len(family.tasks) > RECENT  # those of the first are gone
    assert [[e.key for e in (*task.train, *task.test)] for task in family.tasks] == first


def test_more_clients_of_a_camera_follow_those_of_fewer() -> None:
    few, many = (
        cameras_family(replace(SMALL, clients_per_camera=count)).of_role("client")
        for count in (1, 3)
    )
    assert len(many) == 3 * len(few)
    by_name = {task.id: task for task in many}
    assert all(by_name[task.id] == task for task in few)
    own = [task for task in many if task.split == "new_combination"]
    assert len({task.id for task in own}) == 6
    # The same condition, before other scenes.
    assert not np.array_equal(own[0].test[0].item, own[2].test[0].item)
