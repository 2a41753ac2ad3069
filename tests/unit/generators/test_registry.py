"""Generators by name and on disk: what comes back is the same, what is foreign is refused."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from sglora_fed.adapters.layout import Layout, ModuleShape
from sglora_fed.config.schema import GENERATORS, GeneratorConfig
from sglora_fed.errors import GeneratorError, GeneratorFileError, ResultsError
from sglora_fed.generators import (
    Generated,
    Generator,
    fit_generator,
    generator_names,
    is_federated,
    load_generator,
    make_generator,
    register_generator,
    registry,
    save_generator,
    settings_of,
)
from sglora_fed.zoo import Zoo, ZooIdentity

MakeZoo = Callable[..., Zoo]
Settings = Callable[..., GeneratorConfig]
Descriptions = Callable[..., np.ndarray]
NAMES = ("soup", "nearest", "adapter_soup", "topk", "ridge", "sglora", "functional")
LAYOUT = Layout((ModuleShape("query", 8, 3),), 1, 2.0)
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


def fitted(name: str, config: GeneratorConfig, zoo: Zoo) -> Generator:
    """Of either kind; a federated one after three rounds towards the experts' own adapters."""
    generator = make_generator(config, name)
    if not is_federated(generator):
        return fit_generator(config, name, zoo, 3)
    rows = np.arange(len(zoo.ids))
    generator.begin(zoo, LAYOUT, zoo.means[0])
    for _ in range(3):
        starts = generator.starts(rows, zoo.wordings[:, 0])
        assert generator.learn(rows, 0.5 * (zoo.means - starts)) == 0
    return generator


# Names


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
    assert settings_of(Constant(settings())) == tuple(asdict(settings()))
    assert set(asdict(settings())) == {"name", *CHANGED}


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


# On disk


@pytest.fixture
def saved(tmp_path: Path, make_zoo: MakeZoo, settings: Settings, identity: ZooIdentity) -> Path:
    path = tmp_path / "sglora.safetensors"
    save_generator(fitted("sglora", settings(), make_zoo()), settings(), identity, path)
    return path


def rewritten(path: Path, change: Callable[[dict[str, Any], dict[str, str]], Any]) -> None:
    """Other arrays or metadata with a digest that fits them, as a forger would write."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    arrays = load(data)
    change(arrays, metadata)
    if "sha256" in metadata:
        metadata["sha256"] = registry._digest(arrays, metadata)
    path.write_bytes(save(arrays, metadata=metadata))


@pytest.mark.parametrize("name", NAMES)
def test_a_loaded_generator_is_the_same(
    make_zoo: MakeZoo,
    settings: Settings,
    descriptions: Descriptions,
    identity: ZooIdentity,
    tmp_path: Path,
    name: str,
) -> None:
    config = settings(neighbours=2, temperature=0.7, ridge=0.5)
    generator = fitted(name, config, make_zoo())
    save_generator(generator, config, identity, tmp_path / "file")
    again = load_generator(tmp_path / "file", replace(identity, seed=99, config_sha256="other"))
    assert again.name == name
    one, two = (g.generate(descriptions(), 3, seed=8) for g in (generator, again))
    for field in asdict(one):
        np.testing.assert_array_equal(getattr(one, field), getattr(two, field))


def test_a_functional_of_no_directions_comes_back(
    make_zoo: MakeZoo,
    settings: Settings,
    descriptions: Descriptions,
    identity: ZooIdentity,
    tmp_path: Path,
) -> None:
    """Descriptions that are all equal tell nothing: one adapter for everybody."""
    zoo = make_zoo()
    alike = replace(zoo, wordings=np.broadcast_to(zoo.wordings[:1], zoo.wordings.shape))
    generator = fitted("functional", settings(), alike)
    save_generator(generator, settings(), identity, tmp_path / "file")
    again = load_generator(tmp_path / "file", identity)
    one, two = (g.generate(descriptions(), 1, 0).adapters for g in (generator, again))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one, np.broadcast_to(one[:1], one.shape))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("backbone", "clip"),
        ("weights_sha256", "0" * 64),
        ("encoder", "other"),
        ("layout", {"modules": [["query", 3, 3]], "rank": 1, "alpha": 2.0}),
    ],
)
def test_a_foreign_generator_is_refused_by_field(
    saved: Path, identity: ZooIdentity, field: str, value: Any
) -> None:
    with pytest.raises(GeneratorFileError, match=rf"SGL-601.*another {field}"):
        load_generator(saved, replace(identity, **{field: value}))


def test_every_truncation_is_refused(saved: Path, identity: ZooIdentity) -> None:
    data = saved.read_bytes()
    (header,) = struct.unpack("<Q", data[:8])
    for length in (0, 1, 7, 8, 9, 8 + header // 2, 7 + header, 8 + header, len(data) - 1):
        saved.write_bytes(data[:length])
        with pytest.raises(GeneratorFileError, match="SGL-601"):
            load_generator(saved, identity)


@pytest.mark.parametrize("data", [b"", b"no tensors", b"{}", b"\xff" * 400, b"\0" * 400])
def test_other_files_are_refused(tmp_path: Path, identity: ZooIdentity, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(GeneratorFileError, match="SGL-601"):
        load_generator(tmp_path / "file", identity)


def test_a_missing_file_and_a_folder(tmp_path: Path, identity: ZooIdentity) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(GeneratorFileError, match="SGL-601"):
            load_generator(path, identity)


def test_flipped_bits_anywhere_are_refused(saved: Path, identity: ZooIdentity) -> None:
    data = saved.read_bytes()
    places = np.random.default_rng(0).integers(0, len(data), 60)
    for place in (*range(0, 60, 3), *places.tolist(), len(data) - 1):
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        saved.write_bytes(bytes(flipped))
        with pytest.raises(GeneratorFileError, match="SGL-601"):
            load_generator(saved, identity)


LIES: list[Callable[[dict[str, Any], dict[str, str]], Any]] = [
    lambda a, m: a.pop("embeddings"),
    lambda a, m: a.pop("directions"),
    lambda a, m: a.pop("vae.prior.0.weight"),
    lambda a, m: a.update(further=np.zeros(3, np.float32)),
    lambda a, m: a.update(embeddings=a["embeddings"][0].copy()),
    lambda a, m: a.update(directions=a["directions"][:-1].copy()),
    lambda a, m: a.update(directions=a["directions"] * np.float32(np.nan)),
    lambda a, m: m.pop("config"),
    lambda a, m: m.pop("identity"),
    lambda a, m: m.pop("generator"),
    lambda a, m: m.clear(),
    lambda a, m: m.update(config="5"),
    lambda a, m: m.update(config="{"),
    lambda a, m: m.update(config='{"unknown": 1}'),
    lambda a, m: m.update(config='{"neighbours": "many"}'),
    lambda a, m: m.update(config='{"hidden": 1000000000}'),
    lambda a, m: m.update(identity="[]"),
    lambda a, m: m.update(identity="[" * 50_000),
]


@pytest.mark.parametrize("lie", LIES)
def test_a_file_that_lies_is_refused(
    saved: Path,
    identity: ZooIdentity,
    lie: Callable[[dict[str, Any], dict[str, str]], Any],
) -> None:
    rewritten(saved, lie)
    with pytest.raises(GeneratorFileError, match="SGL-601"):
        load_generator(saved, identity)


def test_an_unregistered_generator_is_named(saved: Path, identity: ZooIdentity) -> None:
    rewritten(saved, lambda a, m: m.update(generator="somebodys"))
    with pytest.raises((GeneratorError, GeneratorFileError), match=r"SGL-60\d"):
        load_generator(saved, identity)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_unfitted_is_written(
    settings: Settings, identity: ZooIdentity, tmp_path: Path, name: str
) -> None:
    with pytest.raises(GeneratorError, match=r"not been (fitted|trained)"):
        save_generator(make_generator(settings(), name), settings(), identity, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_full_disk(
    make_zoo: MakeZoo,
    settings: Settings,
    identity: ZooIdentity,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_space(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    generator = fitted("ridge", settings(), make_zoo())
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(ResultsError, match="No space left"):
        save_generator(generator, settings(), identity, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []
