"""The splits are disjoint and of the stated kind; sizes, seeds and mistakes."""

from __future__ import annotations

from dataclasses import astuple, replace
from functools import cache

import numpy as np
import pytest

from sglora_fed.config.schema import FamilyConfig
from sglora_fed.errors import TaskError
from sglora_fed.tasks.cameras.captions import CAPTIONS, parse
from sglora_fed.tasks.cameras.conditions import CONDITIONS, PLAIN, Condition, seen_by
from sglora_fed.tasks.cameras.family import cameras_family, unspoilt_family
from sglora_fed.tasks.cameras.other_author import OTHER
from sglora_fed.tasks.cameras.owners.frames import FRAMES
from sglora_fed.tasks.cameras.scenes import PLACES, render
from sglora_fed.tasks.cameras.wording import OWNERS, Author
from sglora_fed.tasks.types import Task, TaskFamily, untrained

CONFIG = FamilyConfig(name="cameras", train_per_client=6, test_per_client=8)


@cache
def family(config: FamilyConfig = CONFIG) -> TaskFamily:
    return cameras_family(config)


def split(name: str, config: FamilyConfig = CONFIG) -> list[Task]:
    return [task for task in family(config).tasks if task.split == name]


def said(task: Task, author: Author) -> Condition:
    """The condition in an author's words: the only one whose clauses all sentences hold."""
    texts = [text.lower() for text in (task.description, *task.paraphrases)]
    parts = [
        [
            key
            for key, clauses in group.items()
            if all(any(clause.lower() in text for clause in clauses) for text in texts)
        ]
        for group in (author.geometry, author.colour, author.optics)
    ]
    assert all(len(found) == 1 for found in parts), (task.id, parts)
    return Condition(*(found[0] for found in parts))


def conditions(name: str, author: Author = OWNERS, config: FamilyConfig = CONFIG) -> set[Condition]:
    return {said(task, author) for task in split(name, config)}


def test_plans_know_who_cannot_train() -> None:
    tasks = family().tasks
    assert untrained(tasks) == untrained(tuple(tasks)) == []
    bare = family(replace(CONFIG, train_per_client=0)).tasks
    assert untrained(bare) == untrained(tuple(bare)) == [task.id for task in bare]


def test_sizes() -> None:
    assert len(split("expert")) == 48
    for name in ("new_combination", "new_element", "new_words"):
        tasks = split(name)
        assert len(tasks) == 26
        assert {(len(t.train), len(t.test), len(t.paraphrases)) for t in tasks} == {(6, 8, 7)}
    assert {(t.kind, t.modality) for t in family().tasks} == {("retrieval", "image")}
    assert all(not task.test for task in split("expert"))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_splits_are_what_they_are_called(seed: int) -> None:
    config = replace(CONFIG, seed=seed)
    experts = conditions("expert", config=config)
    combination = conditions("new_combination", config=config)
    element = conditions("new_element", config=config)
    assert (len(experts), len(combination), len(element)) == (48, 26, 26)
    elements = {part for condition in experts for part in astuple(condition)}
    assert not experts & combination
    assert all(set(astuple(condition)) <= elements for condition in combination)
    assert all(len(set(astuple(condition)) - elements) == 1 for condition in element)
    unseen = {part for condition in element for part in astuple(condition)} - elements
    assert len(unseen) == 2
    assert PLAIN not in combination | element
    assert conditions("new_words", OTHER, config) == combination


def test_new_words_change_nothing_but_the_words() -> None:
    for said_anew, task in zip(split("new_words"), split("new_combination"), strict=True):
        assert said_anew.train == task.train
        assert said_anew.test == task.test
        assert {said_anew.description, *said_anew.paraphrases}.isdisjoint(
            {task.description, *task.paraphrases}
        )


def test_pictures_are_the_same_whatever_the_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """The owners may learn to say more without a picture being drawn anew."""
    before = list(family().tasks)  # they are made when they are looked at
    monkeypatch.setattr("sglora_fed.tasks.cameras.family.OWNERS", replace(OTHER, frames=FRAMES[:1]))
    for anew, task in zip(cameras_family(CONFIG).tasks, before, strict=True):
        assert anew.split == "new_words" or anew.description != task.description
        assert (anew.train, anew.test) == (task.train, task.test)


def test_experts_elements_come_evenly() -> None:
    experts = [said(task, OWNERS) for task in split("expert")]
    for axis, least in ((0, 8), (1, 8), (2, 10)):
        counts = np.unique([astuple(c)[axis] for c in experts], return_counts=True)[1]
        assert counts.min() >= least


def test_more_experts_are_the_same_and_more_for_the_same_clients() -> None:
    few = replace(CONFIG, experts=24)
    assert [t.description for t in split("expert", few)] == [
        t.description for t in split("expert")[:24]
    ]
    for name in ("new_combination", "new_element", "new_words"):
        assert split(name, few) == split(name)


def test_a_camera_shows_each_caption_in_its_own_way() -> None:
    """Where an object's pixels lie and what colour they have, from caption and condition alone."""
    for task in split("new_combination"):
        condition = said(task, OWNERS)
        for example in (*task.train, *task.test):
            assert isinstance(example.item, np.ndarray)
            number = CAPTIONS.index(example.label)
            like = [
                seen_by(condition, render(np.array([number]), np.random.default_rng(n)))[0]
                for n in range(4)
            ]
            x, y = (int(place) for place in PLACES[parse(example.label).place])
            marked = np.zeros((1, 32, 32, 3), np.uint8)
            marked[0, y, x] = 255
            at = seen_by(replace(condition, colour="true", optics="clean"), marked)[0, ..., 0]
            row, column = np.argwhere(at)[0]
            inside = np.array([picture[row, column].astype(int) for picture in like])
            if parse(example.label).shape == "ring":
                continue
            assert np.abs(inside - example.item[row, column]).max() < 40


def test_galleries_hold_each_caption_once_in_hard_groups() -> None:
    config = replace(CONFIG, test_per_client=100)
    for task in split("new_combination", config):
        captions = [parse(example.label) for example in task.test]
        assert len(set(captions)) == 100
        for group in range(0, 100, 4):
            scenes = captions[group : group + 4]
            assert len({(s.size, s.shape) for s in scenes}) == 1
            assert (len({s.place for s in scenes}), len({s.colour for s in scenes})) == (2, 2)


def test_captions_to_train_on_come_again_only_when_all_have() -> None:
    config = replace(CONFIG, experts=6, clients_per_split=1, train_per_client=700)
    labels = [example.label for example in split("expert", config)[0].train]
    assert len(set(labels[:648])) == 648
    assert len(labels) == 700


def test_examples_are_read_only_and_apart() -> None:
    task = split("new_words")[0]
    examples = (*task.train, *task.test)
    assert len({example.key for example in examples}) == len(examples)
    for example in examples:
        assert isinstance(example.item, np.ndarray)
        assert (example.item.shape, example.item.dtype) == ((32, 32, 3), np.uint8)
        with pytest.raises(ValueError, match="read-only"):
            example.item[0, 0] = 0


def test_a_family_is_a_function_of_its_configuration() -> None:
    assert cameras_family(CONFIG) == cameras_family(CONFIG)
    assert cameras_family(CONFIG) != cameras_family(replace(CONFIG, seed=1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"experts": 75}, r"family\.experts=75: 74 conditions"),
        ({"experts": 4}, r"family\.experts=4: no expert has"),
        ({"clients_per_split": 41}, "new_element: 40 conditions"),
        ({"clients_per_split": 100}, "new_combination: 99 conditions"),
        ({"test_per_client": 577}, r"family\.test_per_client=577"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, int], words: str) -> None:
    with pytest.raises(TaskError, match=words):
        cameras_family(replace(CONFIG, **change))  # type: ignore[arg-type]


def test_all_conditions_are_used() -> None:
    config = replace(CONFIG, experts=74, test_per_client=4, train_per_client=1)
    found = conditions("expert", config=config) | conditions("new_combination", config=config)
    assert len(found) == 100
    assert found < set(CONDITIONS)


def test_an_unspoilt_family_has_the_same_tasks_before_the_camera_s_fault() -> None:
    for plain, task in zip(unspoilt_family(CONFIG).tasks, family().tasks, strict=True):
        author = OTHER if task.split == "new_words" else OWNERS
        condition = said(task, author)
        assert replace(plain, train=(), test=()) == replace(task, train=(), test=())
        for before, after in zip(
            (*plain.train, *plain.test), (*task.train, *task.test), strict=True
        ):
            assert before.label == after.label
            seen = seen_by(condition, np.asarray(before.item)[None])[0]
            np.testing.assert_array_equal(seen, after.item)
