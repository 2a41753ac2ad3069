"""Generators on disk: what comes back is the same, what is foreign is refused."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from sglora_fed.config.schema import GeneratorConfig
from sglora_fed.errors import GeneratorError, GeneratorFileError, ResultsError
from sglora_fed.generators import load_generator, make_generator, registry, save_generator
from sglora_fed.zoo import Zoo, ZooIdentity
from tests.unit.generators.fitting import NAMES, fitted

MakeZoo = Callable[..., Zoo]
Settings = Callable[..., GeneratorConfig]
Descriptions = Callable[..., np.ndarray]


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
