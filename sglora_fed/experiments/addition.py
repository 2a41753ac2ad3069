"""An expert that was trained elsewhere becomes part of a zoo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch

from sglora_fed.adapters.layout import Layout, check_vectors
from sglora_fed.adapters.peft_io import read_peft
from sglora_fed.adapters.start import norm_bound
from sglora_fed.backbones import description_reader
from sglora_fed.config import RunConfig
from sglora_fed.errors import AdapterFileError, QuotaError
from sglora_fed.experiments.generate import describer_of
from sglora_fed.experiments.words import check_known
from sglora_fed.federation.wordings import WORDINGS
from sglora_fed.zoo import Zoo, ZooStore


@dataclass(frozen=True)
class Newcomer:
    """An expert as its owner hands it in.

    Attributes:
        name: in the zoo.
        checkpoints: PEFT folders of its last steps, of a training that began at the federation's
            start (:func:`~sglora_fed.adapters.start.federation_start`): the factors of another
            start cannot be averaged with the others'.
        descriptions: of its task, at least one wording.
        owner: who answers for it, and has one voice however many experts it brings.
        examples: that it was trained on.
    """

    name: str
    checkpoints: tuple[Path, ...]
    descriptions: tuple[str, ...]
    owner: str
    examples: int


def add_expert(config: RunConfig, store: ZooStore, one: Newcomer) -> None:
    """Add an expert to a zoo on disk.

    Args:
        config: names the description encoder's weights, and how many experts an owner may have.
        store: of the zoo.
        one: the expert.

    Raises:
        QuotaError: when its owner has as many as one may have.
        ZooForeignError: when the zoo's descriptions were encoded by other weights.
        ZooDamagedError: for a name that is taken, or is none.
        AdapterFileError, AdapterValueError: for a checkpoint of another layout, or unusable.
        VocabularyError: when the model knows too few of the words.
    """
    most = config.federation.experts_per_node
    if (count := list(store.owners().values()).count(one.owner)) >= most:
        raise QuotaError(f"{one.owner} has {count} experts; at most {most}")
    layout = Layout.from_dict(store.identity.layout)
    steps = np.stack([_vector(folder, layout) for folder in one.checkpoints])
    check_vectors(steps, layout, norm_bound(layout))
    store.add(
        Zoo(
            (one.name,),
            _embedded(config, store, one.descriptions)[None],
            steps.mean(axis=0, dtype=np.float64).astype(np.float32)[None],
            steps.var(axis=0, dtype=np.float64).astype(np.float32)[None],
            np.array([one.examples], np.int64),
            (one.owner,),
        )
    )


def _vector(folder: Path, layout: Layout) -> np.ndarray:
    """[D] float32 in the zoo's order of modules."""
    vector, found = read_peft(folder)
    theirs, ours = ({m.name: m for m in one.modules} for one in (found, layout))
    if (theirs, found.rank, found.alpha) != (ours, layout.rank, layout.alpha):
        raise AdapterFileError(
            f"{folder} has {len(theirs)} modules of rank {found.rank} and alpha {found.alpha:g};"
            f" the zoo has {len(ours)} of rank {layout.rank} and alpha {layout.alpha:g}, or others"
        )
    factors = found.unpack(torch.from_numpy(vector)[None])
    return layout.pack({name: (a[0], b[0]) for name, (a, b) in factors.items()}).numpy()


def _embedded(config: RunConfig, store: ZooStore, descriptions: Sequence[str]) -> np.ndarray:
    """[W, d] as many wordings as every expert has."""
    describer = describer_of(config, store.path, store.identity)
    check_known("the descriptions", description_reader(config.backbone).read(list(descriptions)))
    return np.asarray(describer.encode(list(islice(cycle(descriptions), WORDINGS))))
