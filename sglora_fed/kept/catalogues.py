"""The space of a catalogue, kept: to embed all its wordings takes an encoder some seconds."""

from __future__ import annotations

from itertools import accumulate, pairwise

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from sglora_fed.backbones.types import Describer
from sglora_fed.errors import CatalogueError
from sglora_fed.files import write_atomically
from sglora_fed.kept.store import kept_path
from sglora_fed.privacy.catalogue import Catalogue
from sglora_fed.privacy.snapping import RIDGE, Snap, snap_to

KIND, SUFFIX = "catalogue", ".safetensors"


def kept_snap(catalogue: Catalogue, describer: Describer) -> Snap:
    """The space of a catalogue by an encoder: kept from before, or made and kept.

    Raises:
        CatalogueError: when the kept one is damaged, or the catalogue's entries are no use.
        ResultsError: when it cannot be kept.
    """
    facts = {"catalogue": catalogue.sha256, "encoder": describer.fingerprint, "ridge": RIDGE}
    path = kept_path(KIND, facts, SUFFIX)
    if path.exists():
        try:
            return Snap(**load(path.read_bytes()))
        except (OSError, SafetensorError, TypeError) as error:
            raise CatalogueError(f"{path} is damaged ({error}); remove it") from error
    made = snap_to(_embedded(catalogue, describer))
    arrays = {name: np.ascontiguousarray(array) for name, array in vars(made).items()}
    write_atomically(path, save(arrays))
    return made


def _embedded(catalogue: Catalogue, describer: Describer) -> list[np.ndarray]:
    """For each entry [W, d]."""
    entries = catalogue.wordings
    every = np.asarray(describer.encode([text for texts in entries for text in texts]))
    ends = accumulate(map(len, entries), initial=0)
    return [every[start:end] for start, end in pairwise(ends)]
