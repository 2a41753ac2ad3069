"""An exported generator makes what it made before; whatever is not as written is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from sglora_fed.config.schema import GeneratorConfig
from sglora_fed.errors import ExportError, GeneratorFileError, ZooSignatureError
from sglora_fed.generators import export, fit_generator
from sglora_fed.generators.export import (
    CATALOGUE,
    GENERATOR,
    About,
    export_manifest,
    read_export,
    signable_export,
    write_export,
)
from sglora_fed.privacy.snapping import Snap, snap_to
from sglora_fed.zoo import Zoo, ZooIdentity, signing
from sglora_fed.zoo.signing import sign

CONFIG = GeneratorConfig(neighbours=3)


@pytest.fixture
def zoo(make_zoo: Callable[..., Zoo]) -> Zoo:
    return make_zoo(5)


def space(zoo: Zoo) -> Snap:
    """The experts' wordings as a catalogue."""
    return snap_to(list(zoo.wordings))


@pytest.fixture
def about(zoo: Zoo, identity: ZooIdentity) -> About:
    experts = tuple(sorted(zoo.fingerprints().values()))
    return About("cameras", "package:cameras", None, identity, experts, "c" * 64)


@pytest.fixture
def folder(tmp_path: Path, zoo: Zoo, about: About) -> Path:
    generator = fit_generator(CONFIG, "ridge", zoo, 0)
    write_export(tmp_path / "out", generator, CONFIG, about, space(zoo))
    return tmp_path / "out"


def test_it_makes_the_same_adapters(folder: Path, zoo: Zoo, about: About) -> None:
    found = read_export(folder)
    assert found.about == about
    assert found.dim == zoo.embeddings.shape[1]
    assert found.layout.size == zoo.size
    assert found.snap is not None
    for name, array in vars(space(zoo)).items():
        np.testing.assert_array_equal(getattr(found.snap, name), array.astype(np.float32))
    np.testing.assert_array_equal(
        found.generator.generate(zoo.embeddings, 1, 0).adapters,
        fit_generator(CONFIG, "ridge", zoo, 0).generate(zoo.embeddings, 1, 0).adapters,
    )


def test_without_a_catalogue_there_is_no_space(tmp_path: Path, zoo: Zoo, about: About) -> None:
    generator = fit_generator(CONFIG, "ridge", zoo, 0)
    write_export(tmp_path, generator, CONFIG, replace(about, catalogue_sha256=""), None)
    assert read_export(tmp_path).snap is None
    assert not (tmp_path / CATALOGUE).exists()


def test_another_generator_has_another_hash(folder: Path, zoo: Zoo, about: About) -> None:
    before = read_export(folder).sha256
    write_export(folder, fit_generator(CONFIG, "soup", zoo, 0), CONFIG, about, space(zoo))
    assert read_export(folder).sha256 != before


@pytest.mark.parametrize("last", [False, True])
def test_what_is_put_there_after_the_signature_was_checked_is_not_used(
    folder: Path, zoo: Zoo, about: About, monkeypatch: pytest.MonkeyPatch, last: bool
) -> None:
    """Between two looks at a folder somebody else may write there: at its worst in these places."""

    def replaced(*arguments: Any) -> Any:
        found = late(*arguments)
        write_export(folder, fit_generator(CONFIG, "soup", zoo, 0), CONFIG, about, space(zoo))
        return found

    private = Ed25519PrivateKey.generate()
    pem, plain = Encoding.PEM, NoEncryption()
    key, own = folder / "key.pub", folder / "key"
    own.write_bytes(private.private_bytes(pem, PrivateFormat.PKCS8, plain))
    key.write_bytes(private.public_key().public_bytes(pem, PublicFormat.SubjectPublicKeyInfo))
    sign([signable_export(folder, export_manifest(folder))], own)
    place = (export, "_files") if last else (signing, "check_signature")
    late = getattr(*place)
    monkeypatch.setattr(*place, replaced)
    if not last:
        with pytest.raises(ExportError, match="sha256"):
            read_export(folder, key)
        return
    assert read_export(folder, key).generator.name == "ridge"
    with pytest.raises(ZooSignatureError):
        read_export(folder, key)


@pytest.mark.parametrize("name", [GENERATOR, CATALOGUE, "manifest.json"])
def test_a_missing_or_damaged_file_is_refused(folder: Path, name: str) -> None:
    path = folder / name
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ExportError):
        read_export(folder)
    path.unlink()
    with pytest.raises(ExportError, match="cannot be read"):
        read_export(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("schema", 1),
        ("family", 5),
        ("experts", [5]),
        ("experts", None),
        ("identity", {}),
        ("identity", None),
        ("files", {}),
        ("files", []),
        ("files", {"../out/generator.safetensors": ""}),
        ("more", 1),
    ],
)
def test_another_manifest_is_refused(folder: Path, name: str, value: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    with pytest.raises(ExportError):
        read_export(folder)


@pytest.mark.parametrize("text", ["", "null", "[]", "{", "[" * 100_000])
def test_what_is_no_manifest_is_refused(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(ExportError):
        read_export(folder)


def test_a_generator_for_another_backbone_is_refused(folder: Path) -> None:
    path = folder / "manifest.json"
    values = json.loads(path.read_text())
    values["identity"]["backbone"] = "another"
    path.write_text(json.dumps(values))
    with pytest.raises(GeneratorFileError, match="backbone"):
        read_export(folder)
