"""The family `cameras`: retrieval tasks of wrongly mounted cameras, splits fixed by the seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace
from functools import lru_cache, partial

import numpy as np

from sglora_fed.config.schema import FamilyConfig
from sglora_fed.errors import TaskError
from sglora_fed.seeds import derive_seed
from sglora_fed.tasks.cameras.captions import CAPTIONS
from sglora_fed.tasks.cameras.conditions import CONDITIONS, PLAIN, Condition, seen_by
from sglora_fed.tasks.cameras.other_author import OTHER
from sglora_fed.tasks.cameras.scenes import SCENES, hard_groups, render, skip
from sglora_fed.tasks.cameras.wording import OWNERS, sentences
from sglora_fed.tasks.drawn import Drawn
from sglora_fed.tasks.types import EXPERT_SPLIT, Example, Planned, Role, Task, TaskFamily

RECENT = 64
"""Tasks whose pictures are in memory; those of others are drawn again."""

WAYS = 8
"""Sentences for each camera: a description and its paraphrases."""

MOST_TEST = 576
"""Captions that hard groups hold: a place is left over for each object."""


View = Callable[[Condition, np.ndarray], np.ndarray]
"""What becomes of [n, side, side, 3] pictures of a camera's condition."""


def cameras_family(config: FamilyConfig) -> TaskFamily:
    """Experts and unseen clients of all splits.

    One geometry and one colour fault are kept from the experts. ``new_combination``: conditions
    whose elements experts have, never together. ``new_words``: the same cameras, their pictures
    included, in another author's words. ``new_element``: a geometry or colour that no expert has.
    Clients' conditions do not depend on the number of experts, and more experts are those of fewer
    and further ones. No client is plain: there an adapter has nothing to do. Several clients may
    have a camera of one condition, each in its own words and before its own scenes; the first ones
    do not depend on how many follow.

    Args:
        config: sizes and seed.

    Raises:
        TaskError: when there are fewer conditions than tasks asked for, fewer captions than a test
            needs, or experts who leave an element out.
    """
    return _family(config, seen_by)


def unspoilt_family(config: FamilyConfig) -> TaskFamily:
    """The same tasks, each picture as it is before the camera does anything to it.

    Raises:
        TaskError: as for the family.
    """
    return _family(config, lambda _, pictures: pictures)


def _family(config: FamilyConfig, view: View) -> TaskFamily:
    if config.test_per_client > MOST_TEST:
        raise TaskError(
            f"family.test_per_client={config.test_per_client}: hard groups hold {MOST_TEST} scenes"
        )
    rng = np.random.default_rng(derive_seed(config.seed, "family", "cameras"))
    known, foreign = _conditions(rng)
    unseen = _first(known, config.clients_per_split, "new_combination")
    foreign = _first(foreign, config.clients_per_split, "new_element")
    clients, strangers = (some * config.clients_per_camera for some in (unseen, foreign))
    experts = _experts([c for c in (*known, PLAIN) if c not in unseen], config.experts)
    _check_elements(experts, unseen)
    combined = _cameras("new_combination", clients, "client", "new_combination", config, view)
    return TaskFamily(
        "cameras",
        Planned(
            (
                *_cameras("camera-expert", experts, "expert", EXPERT_SPLIT, config, view),
                *combined,
                *_cameras("new_element", strangers, "client", "new_element", config, view),
                *(_Reworded(f"new_words-{n:03d}", camera) for n, camera in enumerate(combined)),
            )
        ),
    )


def _conditions(rng: np.random.Generator) -> tuple[list[Condition], list[Condition]]:
    """Conditions of elements that experts may have, and those with one that they may not.

    What is held out is a fault; the second list takes a held-out geometry and colour in turns.
    """
    geometry, colour = (
        str(rng.choice(sorted({astuple(c)[axis] for c in CONDITIONS} - {astuple(PLAIN)[axis]})))
        for axis in (0, 1)
    )
    order = [CONDITIONS[i] for i in rng.permutation(len(CONDITIONS)) if CONDITIONS[i] != PLAIN]
    turned = [c for c in order if c.geometry == geometry and c.colour != colour]
    coloured = [c for c in order if c.geometry != geometry and c.colour == colour]
    known = [c for c in order if c.geometry != geometry and c.colour != colour]
    return known, [c for pair in zip(turned, coloured, strict=True) for c in pair]


def _first(conditions: Sequence[Condition], count: int, split: str) -> list[Condition]:
    if count > len(conditions):
        raise TaskError(
            f"{split}: {len(conditions)} conditions; family.clients_per_split is {count}"
        )
    return list(conditions[:count])


def _experts(conditions: list[Condition], count: int) -> list[Condition]:
    """Conditions whose elements come as evenly as possible: the rarest next."""
    if count > len(conditions):
        raise TaskError(
            f"family.experts={count}: {len(conditions)} conditions are left beside the clients';"
            " ask for fewer, or for fewer family.clients_per_split"
        )
    chosen: list[Condition] = []
    seen: Counter[str] = Counter()
    while len(chosen) < count:
        rarest = min(conditions, key=lambda c: sum(seen[part] for part in astuple(c)))
        conditions.remove(rarest)
        chosen.append(rarest)
        seen.update(astuple(rarest))
    return chosen


def _check_elements(experts: Sequence[Condition], clients: Sequence[Condition]) -> None:
    seen = {part for condition in experts for part in astuple(condition)}
    if missing := sorted({part for c in clients for part in astuple(c)} - seen):
        raise TaskError(
            f"family.experts={len(experts)}: no expert has {', '.join(missing)}, which clients of"
            " new_combination have; take more experts"
        )


@dataclass(frozen=True, eq=False, slots=True)
class _Camera:
    """One task's camera, from which its words and pictures are drawn: the same each time.

    Attributes:
        id: of the task.
        condition: of the camera.
        role: of the task.
        split: of the task.
        config: of the family.
        view: what becomes of pictures.
    """

    id: str
    condition: Condition
    role: Role
    split: str
    config: FamilyConfig
    view: View

    @property
    def trains_on(self) -> int:
        """The same number for all."""
        return self.config.train_per_client

    def task(self) -> Task:
        """Its words, and pictures that are drawn when they are looked at."""
        rng = _rng("camera", self.id, self.config)
        description, *paraphrases = sentences(OWNERS, self.condition, WAYS, rng)
        return Task(
            id=self.id,
            description=description,
            labels={},
            train=Drawn(self.trains_on, lambda: _train(self)),
            test=Drawn(self._tested, lambda: _test(self)),
            role=self.role,
            split=self.split,
            paraphrases=tuple(paraphrases),
            kind="retrieval",
            modality="image",
        )

    def train(self) -> tuple[Example, ...]:
        """The same whatever the owners' words are."""
        train, _, rng = self._numbers()
        return _examples(train, rng, partial(self.view, self.condition))

    def test(self) -> tuple[Example, ...]:
        """As for training; their backgrounds are drawn after those."""
        train, test, rng = self._numbers()
        skip(len(train), rng)
        return _examples(test, rng, partial(self.view, self.condition))

    def _numbers(self) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
        """Scenes for training and for testing, and the source of their backgrounds."""
        rng = _rng("camera pictures", self.id, self.config)
        train = _captions(self.trains_on, rng)
        return train, hard_groups(rng).ravel()[: self._tested], rng

    @property
    def _tested(self) -> int:
        """An expert is never tested."""
        return self.config.test_per_client if self.role == "client" else 0


@dataclass(frozen=True, eq=False, slots=True)
class _Reworded:
    """A camera in another author's words: nothing else is to make a difference.

    Attributes:
        id: of the task.
        camera: whose pictures it has.
    """

    id: str
    camera: _Camera

    @property
    def role(self) -> Role:
        """As of the camera's own task."""
        return self.camera.role

    @property
    def trains_on(self) -> int:
        """As its pictures."""
        return self.camera.trains_on

    def task(self) -> Task:
        """The camera's task, said otherwise."""
        rng = _rng("camera", self.id, self.camera.config)
        description, *others = sentences(OTHER, self.camera.condition, WAYS, rng)
        return replace(
            self.camera.task(),
            id=self.id,
            split="new_words",
            description=description,
            paraphrases=tuple(others),
        )


_train = lru_cache(maxsize=RECENT)(_Camera.train)
_test = lru_cache(maxsize=RECENT)(_Camera.test)


def _cameras(
    prefix: str,
    conditions: Sequence[Condition],
    role: Role,
    split: str,
    config: FamilyConfig,
    view: View,
) -> list[_Camera]:
    return [
        _Camera(f"{prefix}-{number:03d}", condition, role, split, config, view)
        for number, condition in enumerate(conditions)
    ]


def _rng(purpose: str, name: str, config: FamilyConfig) -> np.random.Generator:
    return np.random.default_rng(derive_seed(config.seed, purpose, name))


def _captions(count: int, rng: np.random.Generator) -> np.ndarray:
    """Scenes to train on; none comes again before all have: a batch has few of them twice."""
    rounds = -(-count // len(SCENES))
    return np.concatenate([rng.permutation(len(SCENES)) for _ in range(rounds)])[:count]


def _examples(
    numbers: np.ndarray, rng: np.random.Generator, view: Callable[[np.ndarray], np.ndarray]
) -> tuple[Example, ...]:
    pictures = view(render(numbers, rng))
    pictures.flags.writeable = False
    return tuple(
        Example(picture, CAPTIONS[number])
        for picture, number in zip(pictures, numbers, strict=True)
    )
