"""Generators by name: those that we bring, and a user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sglora_fed.adapters.layout import Layout
from sglora_fed.config.schema import GENERATORS, GeneratorConfig
from sglora_fed.errors import GeneratorError
from sglora_fed.generators import (
    Generated,
    fit_generator,
    generator_names,
    is_federated,
    load_generator,
    make_generator,
    register_generator,
    save_generator,
    settings_of,
)
from sglora_fed.zoo import Zoo, ZooIdentity
from tests.unit.generators.fitting import NAMES, fitted

MakeZoo = Callable[..., Zoo]
Settings = Callable[..., GeneratorConfig]
Descriptions = Callable[..., np.ndarray]
CHANGED: dict[str, Any] = {
    "neighbours": 2,
    "temperature": 0.7,
    "ridge": 0.5,
    "smoothing": 0.9,
    "latent": 3,
    "hidden": 12,
    "steps": 5,
    "lr": 0.02,
    "kl_weight": 0.1,
    "leave_own_out": True,
    "basis": 2,
}
"""Another value for every setting."""


class Constant:
    """A user's generator: the same number everywhere."""

    name = "constant"

    def __init__(self, config: GeneratorConfig) -> None:
        self._value = np.zeros(1, np.float32)

    def fit(self, zoo: Zoo, seed: int) -> None:
        self._value = zoo.means[:1, 0]

    def generate(self, descriptions: np.ndarray, samples: int, seed: int) -> Generated:
        count = len(descriptions)
        adapters = np.full((count, samples, 11), self._value[0], np.float32)
        return Generated(adapters, np.ones(count), np.zeros(count))

    def state(self) -> Mapping[str, np.ndarray]:
        return {"value": self._value}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._value = state["value"]


@pytest.fixture
def clean_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is registered here is forgotten afterwards."""
    monkeypatch.setattr(GENERATORS, "_factories", dict(GENERATORS._factories))


class Memory:
    """A user's federated generator: everybody's own adapter, the nearest one's for others."""

    name = "memory"

    def __init__(self, config: GeneratorConfig) -> None:
        self._state: dict[str, np.ndarray] = {}

    def begin(self, zoo: Zoo, layout: Layout, start: np.ndarray) -> None:
        own = np.tile(start.astype(np.float32), (len(zoo.ids), 1))
        self._state = {"embeddings": zoo.embeddings, "own": own}

    def starts(self, rows: np.ndarray, descriptions: np.ndarray) -> np.ndarray:
        own: np.ndarray = self._state["own"][rows]
        return own

    def learn(self, rows: np.ndarray, updates: np.ndarray) -> int:
        self._state["own"][rows] += updates
        return 0

    def generate(self, descriptions: np.ndarray, samples: int, seed: int) -> Generated:
        cosines = descriptions @ self._state["embeddings"].T
        adapters = self._state["own"][cosines.argmax(axis=1)]
        return Generated(
            np.repeat(adapters[:, None], samples, axis=1),
            cosines.max(axis=1),
            np.zeros(len(descriptions)),
        )

    def state(self) -> Mapping[str, np.ndarray]:
        return self._state

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._state = dict(state)


def test_the_methods_of_the_paper_and_ridge_are_known() -> None:
    assert set(NAMES) <= set(generator_names())
    assert set(generator_names()) == set(GENERATORS)


@pytest.mark.parametrize("name", NAMES)
def test_the_configured_name_or_the_one_asked_for(settings: Settings, name: str) -> None:
    assert make_generator(settings(name=name)).name == name
    assert make_generator(settings(name="soup"), name).name == name


def test_an_unknown_name_is_refused_with_the_known_ones(settings: Settings) -> None:
    with pytest.raises(GeneratorError, match=r"SGL-600.*'tpok'.*'topk'"):
        make_generator(settings(), "tpok")


@pytest.mark.usefixtures("clean_registry")
def test_a_users_generator(
    make_zoo: MakeZoo, settings: Settings, identity: ZooIdentity, tmp_path: Path
) -> None:
    register_generator("constant", Constant)
    config, zoo = settings(name="constant"), make_zoo()
    assert config.problems() == []
    generator = fitted("constant", config, zoo)
    save_generator(generator, config, identity, tmp_path / "own")
    again = load_generator(tmp_path / "own", identity).generate(zoo.embeddings, 2, 0)
    np.testing.assert_array_equal(again.adapters, zoo.means[0, 0])
    with pytest.raises(GeneratorError, match="'constant' is taken"):
        register_generator("constant", Constant)


@pytest.mark.usefixtures("clean_registry")
def test_a_users_federated_generator(
    make_zoo: MakeZoo, settings: Settings, identity: ZooIdentity, tmp_path: Path
) -> None:
    """Everybody ends 7/8 of the way from the start to its own adapter."""
    register_generator("memory", Memory)
    config, zoo = settings(name="memory"), make_zoo()
    generator = fitted("memory", config, zoo)
    assert is_federated(generator)
    save_generator(generator, config, identity, tmp_path / "own")
    again = load_generator(tmp_path / "own", identity).generate(zoo.embeddings, 1, 0)
    wanted = zoo.means[0] / 8 + zoo.means * 7 / 8
    np.testing.assert_allclose(again.adapters[:, 0], wanted, atol=1e-5)
    with pytest.raises(GeneratorError, match=r"generator\.name=memory"):
        fit_generator(config, "memory", zoo, 0)


@pytest.mark.usefixtures("clean_registry")
def test_a_class_of_neither_kind_is_refused(settings: Settings) -> None:
    class Half(Constant):
        fit = None  # type: ignore[assignment]

    register_generator("half", Half)
    with pytest.raises(GeneratorError, match=r"Half.*begin, starts and learn"):
        make_generator(settings(), "half")


# Settings


def learnt(name: str, config: GeneratorConfig, zoo: Zoo, queries: np.ndarray) -> list[np.ndarray]:
    return list(vars(fitted(name, config, zoo).generate(queries, 1, 5)).values())


@pytest.mark.parametrize("name", NAMES)
def test_a_generator_depends_on_the_settings_that_it_names_and_on_no_others(
    make_zoo: MakeZoo, settings: Settings, descriptions: Descriptions, name: str
) -> None:
    zoo, queries, config = make_zoo(), descriptions(), settings()
    before = learnt(name, config, zoo, queries)
    for field, value in CHANGED.items():
        after = learnt(name, replace(config, **{field: value}), zoo, queries)
        same = all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
        assert same == (field not in settings_of(make_generator(config, name))), field


def test_one_that_names_no_settings_depends_on_all(settings: Settings) -> None:
    assert set(settings_of(Constant(settings()))) == {"name", *CHANGED}
    # In how many ways a description is read is no matter of what a generator has learnt.
    assert set(asdict(settings())) == {"name", "readings", *CHANGED}


def test_settings_that_are_none_are_refused(settings: Settings) -> None:
    constant = Constant(settings())
    constant.settings = ("ridge", "neighbors")  # type: ignore[attr-defined]
    with pytest.raises(GeneratorError, match=r"constant name \['neighbors'\]"):
        settings_of(constant)


@pytest.mark.usefixtures("clean_registry")
def test_built_in_names_are_taken() -> None:
    with pytest.raises(GeneratorError, match="'ridge' is taken"):
        register_generator("ridge", Constant)


@pytest.mark.parametrize("name", NAMES)
def test_confidence_is_the_same_for_every_generator(
    make_zoo: MakeZoo, settings: Settings, descriptions: Descriptions, name: str
) -> None:
    zoo, queries = make_zoo(), descriptions()
    found = fitted(name, settings(), zoo).generate(queries, 1, 0)
    other = fitted("topk", settings(), zoo).generate(queries, 1, 0)
    np.testing.assert_array_equal(found.similarity, other.similarity)
    np.testing.assert_array_equal(found.entropy, other.entropy)


# Requests


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("change", "samples"),
    [
        (lambda q: q[0], 1),
        (lambda q: q[:, :5], 1),
        (lambda q: np.hstack([q, q]), 1),
        (lambda q: q[None], 1),
        (lambda q: q * np.nan, 1),
        (lambda q: np.where(np.eye(4, 6) > 0, np.inf, q), 1),
        (lambda q: q * 0, 1),
        (lambda q: q * 2, 1),
        (lambda q: q, 0),
        (lambda q: q, -1),
    ],
    ids=["row", "short", "long", "deep", "nan", "inf", "zero", "double", "none", "negative"],
)
def test_unusable_requests_are_refused(
    make_zoo: MakeZoo,
    settings: Settings,
    descriptions: Descriptions,
    name: str,
    change: Callable[[np.ndarray], np.ndarray],
    samples: int,
) -> None:
    generator = fitted(name, settings(), make_zoo())
    with pytest.raises(GeneratorError, match="SGL-600"):
        generator.generate(change(descriptions()), samples, 0)


@pytest.mark.parametrize("name", NAMES)
def test_no_description_gives_no_adapter(make_zoo: MakeZoo, settings: Settings, name: str) -> None:
    found = fitted(name, settings(), make_zoo()).generate(np.empty((0, 6), np.float32), 2, 0)
    assert found.adapters.shape == (0, 2, 11)
    assert found.similarity.shape == found.entropy.shape == (0,)
