"""The space of a catalogue, kept: to embed all its wordings takes an encoder some seconds.

Those of embedded families come with the package, in half precision.
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from sglora_fed.backbones.types import Describer
from sglora_fed.errors import CatalogueError
from sglora_fed.files import write_atomically
from sglora_fed.kept.store import Facts, digest, kept_path
from sglora_fed.privacy.catalogue import Catalogue
from sglora_fed.privacy.snapping import RIDGE, Snap, snap_to, unit

KIND, SUFFIX = "catalogue", ".safetensors"

SPACES = Path(__file__).parents[1] / "privacy" / "spaces"
"""Made by ``benchmarks/make_spaces.py``."""


def kept_snap(catalogue: Catalogue, describer: Describer) -> Snap:
    """The space of a catalogue by an encoder: of the package, kept from before, or made and kept.

    Raises:
        CatalogueError: when the kept one is damaged, or the catalogue's entries are no use.
        ResultsError: when it cannot be kept.
    """
    facts = space_facts(catalogue, describer)
    if (path := space_file(facts)).exists():
        return _read(path)
    if (path := kept_path(KIND, facts, SUFFIX)).exists():
        return _read(path)
    made = made_snap(catalogue, describer)
    arrays = {name: np.ascontiguousarray(array) for name, array in vars(made).items()}
    write_atomically(path, save(arrays))
    return made


def space_facts(catalogue: Catalogue, describer: Describer) -> Facts:
    """What a space is a function of."""
    return {"catalogue": catalogue.sha256, "encoder": describer.fingerprint, "ridge": RIDGE}


def space_file(facts: Facts) -> Path:
    """Where the package has a space, or would have it."""
    return SPACES / f"{digest(facts)[:16]}{SUFFIX}"


def made_snap(catalogue: Catalogue, describer: Describer) -> Snap:
    """The space, of its wordings."""
    return snap_to(_embedded(catalogue, describer))


def _read(path: Path) -> Snap:
    """In double precision, rows of norm 1 whatever precision they were written in."""
    try:
        found = {name: array.astype(np.float64) for name, array in load(path.read_bytes()).items()}
        rows = {name: unit(found.pop(name)) for name in ("embeddings", "rows")}
        return Snap(**rows, **found)
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise CatalogueError(f"{path} is damaged ({error}); remove it") from error


def _embedded(catalogue: Catalogue, describer: Describer) -> list[np.ndarray]:
    """For each entry [W, d]."""
    entries = catalogue.wordings
    every = np.asarray(describer.encode([text for texts in entries for text in texts]))
    ends = accumulate(map(len, entries), initial=0)
    return [every[start:end] for start, end in pairwise(ends)]
