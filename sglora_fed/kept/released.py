"""What a node has let out of an expert's training with noise: the same again, never anew.

Two noisy answers to one request tell more than one. So the answer is on the node's disk before it
is sent, and whoever asks again, after a crash or on purpose, gets the same bytes. The file's name
is a digest of the expert's task, the run and the round; the start that the server sent is in the
file, since from another start the same round would be another release.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load, save

from sglora_fed.adapters.training import Trained
from sglora_fed.config import home
from sglora_fed.errors import AdapterFileError, BudgetError
from sglora_fed.files import write_atomically
from sglora_fed.kept.store import Facts, digest
from sglora_fed.tensors import read_header

FOLDER, SUFFIX = "released", ".safetensors"
"""Below the home folder, apart from what is kept to save time: nobody may make this anew."""

Make = Callable[[Sequence[int]], Trained]
"""Trains the experts in some rows."""


@dataclass(frozen=True)
class Release:
    """One expert's answer in one round.

    Attributes:
        facts: of the expert, the run and the round.
        start: [D] float32 that the server sent.
    """

    facts: Facts
    start: np.ndarray


def release_once(releases: Sequence[Release], make: Make) -> Trained:
    """What was released before, and what is made now and kept before anybody sees it.

    Raises:
        BudgetError: when a round was answered from another start.
        AdapterFileError: for a kept file that is damaged.
        ResultsError: when the disk is full; nothing is released then.
    """
    paths = [_path(one) for one in releases]
    missing = [row for row, path in enumerate(paths) if not path.exists()]
    if missing:
        made = make(missing)
        for place, row in enumerate(missing):
            _keep(paths[row], releases[row], made, place)
    rows = [_recall(path, one) for path, one in zip(paths, releases, strict=True)]
    return Trained(*(np.stack(values) for values in zip(*rows, strict=True)))


def is_kept(release: Release) -> bool:
    """Whether this was released, or is ready to be."""
    return _path(release).exists()


def _path(release: Release) -> Path:
    return home() / FOLDER / f"{digest(release.facts)}{SUFFIX}"


def _keep(path: Path, release: Release, made: Trained, place: int) -> None:
    """On disk under the final name, unless another process was first: then its answer counts."""
    arrays = {name: np.ascontiguousarray(getattr(made, name)[place]) for name in _NAMES}
    arrays["start"] = np.ascontiguousarray(release.start)
    temporary = path.with_name(f".{secrets.token_hex(8)}{SUFFIX}")
    write_atomically(temporary, save(arrays))
    with contextlib.suppress(FileExistsError):
        os.link(temporary, path)
    temporary.unlink()


def _recall(path: Path, release: Release) -> tuple[np.ndarray, ...]:
    size = release.start.size
    expected = dict.fromkeys((*_NAMES, "start"), ("F32", (size,)))
    try:
        header, metadata = read_header(path)
    except (OSError, ValueError) as error:
        raise AdapterFileError(f"{path}: {error}; what it released is unknown") from error
    if header != expected or metadata:
        raise AdapterFileError(f"{path} holds {header | metadata}; need {expected}")
    arrays = load(path.read_bytes())
    if arrays["start"].tobytes() != release.start.tobytes():
        raise BudgetError("a round that was answered is asked for again from another start")
    return tuple(arrays[name] for name in _NAMES)


_NAMES = ("final", "mean", "variance")
