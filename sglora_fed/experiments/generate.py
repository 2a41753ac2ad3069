"""One adapter for a description, from a zoo on disk and what runs have kept beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sglora_fed.adapters.layout import Layout, check_vectors
from sglora_fed.adapters.peft_io import write_peft
from sglora_fed.adapters.start import norm_bound
from sglora_fed.backbones import base_with, description_reader, load_describer
from sglora_fed.backbones.types import Describer
from sglora_fed.config import RunConfig
from sglora_fed.config.schema import PrivacyConfig
from sglora_fed.errors import BackboneInputError, ZooForeignError
from sglora_fed.experiments.makers import agreed
from sglora_fed.experiments.words import check_known
from sglora_fed.federation.readings import run_catalogue
from sglora_fed.generators import Generated, Generator
from sglora_fed.generators.export import Export
from sglora_fed.kept.generators import confidence_for, generator_for
from sglora_fed.kept.zoos import trusted_zoo
from sglora_fed.tasks.visible import is_visible
from sglora_fed.zoo import Zoo, ZooIdentity, ZooStore


@dataclass(frozen=True)
class Trust:
    """How far to trust an adapter.

    Attributes:
        similarity: cosine of the nearest expert's description with the given one.
        entropy: of the experts' weights for the given one, in nats.
        confidence: that the given one's own adapter is better than the fall-back; None where no run
            has found out.
        read_as: the catalogue's entry that the adapter is for; None: for the description as it is.
    """

    similarity: float
    entropy: float
    confidence: float | None
    read_as: str | None


def write_adapter(config: RunConfig, store: ZooStore, description: str, out: Path) -> Trust:
    """Write a PEFT adapter for a description.

    Args:
        config: names the generator and the backbone's weights.
        store: of the zoo.
        description: what the adapter should be for.
        out: folder to write.

    Raises:
        ZooForeignError: when the zoo's descriptions were encoded by other weights.
        VocabularyError: when the model knows too few of the words.
        GeneratorError: when the generator needs a run that was not made.
    """
    identity = store.identity
    embedding = _embedding(config, store.path, identity, description)
    generator = generator_for(config, store)
    zoo, seed = trusted_zoo(store), identity.seed
    adapters, own, entry = _made(config, generator, embedding, seed, zoo=zoo)
    confidence = _confidence(config, store, own)
    base = base_with(config.backbone, identity.weights_sha256)
    write_peft(adapters[0, 0], Layout.from_dict(identity.layout), base, out)
    return _trust(own, confidence, entry)


def write_alone(config: RunConfig, export: Export, description: str, out: Path) -> Trust:
    """Write a PEFT adapter for a description by an exported generator, without zoo or server.

    Args:
        config: names the backbone's weights.
        export: of the generator.
        description: what the adapter should be for; it goes nowhere.
        out: folder to write.

    Raises:
        ZooForeignError: when the experts' descriptions were encoded by other weights.
        VocabularyError: when the model knows too few of the words.
        AdapterValueError: when the adapter is beyond the bound.
    """
    identity = export.about.identity
    embedding = _embedding(config, export.folder, identity, description)
    adapters, own, entry = _made(config, export.generator, embedding, identity.seed, export=export)
    check_vectors(adapters, export.layout, norm_bound(export.layout))
    base = base_with(config.backbone, identity.weights_sha256)
    write_peft(adapters[0, 0], export.layout, base, out)
    return _trust(own, None, entry)


def _embedding(
    config: RunConfig, where: Path, identity: ZooIdentity, description: str
) -> np.ndarray:
    """[1, d] by the very encoder that the experts' descriptions were encoded by."""
    if not is_visible(description):
        raise BackboneInputError("the description is empty")
    describer = describer_of(config, where, identity)
    check_known("the description", description_reader(config.backbone).read([description]))
    return np.asarray(describer.encode([description]))


def _made(
    config: RunConfig,
    generator: Generator,
    embedding: np.ndarray,
    seed: int,
    *,
    zoo: Zoo | None = None,
    export: Export | None = None,
) -> tuple[np.ndarray, Generated, str | None]:
    """[1, 1, D] an adapter, what is made of the description itself, and the entry that it is for.

    Nobody tries several here, so where descriptions are read in several ways the nearest entry is
    taken (docs/decisions/0017-readings.md). Nothing leaves, so no mechanism counts.
    """
    own = generator.generate(embedding, 1, seed)
    alone = replace(config, privacy=PrivacyConfig(catalogue=config.privacy.catalogue))
    readings = agreed(alone, generator, zoo, export).readings
    if readings is None:
        return own.adapters, own, None
    place = int(readings.snap.nearest(embedding[0], 1)[0])
    made = generator.generate(readings.snap.embeddings[[place]], 1, seed)
    return made.adapters, own, run_catalogue(config).descriptions[place]


def _trust(own: Generated, confidence: float | None, entry: str | None) -> Trust:
    return Trust(float(own.similarity[0]), float(own.entropy[0]), confidence, entry)


def describer_of(config: RunConfig, where: Path, identity: ZooIdentity) -> Describer:
    """The configured description encoder, if it is that of a zoo.

    Raises:
        ZooForeignError: when the zoo's descriptions were encoded by other weights.
    """
    describer = load_describer(config.backbone)
    if describer.fingerprint != identity.encoder:
        raise ZooForeignError(
            f"{where} holds descriptions encoded by {identity.encoder};"
            f" backbone.path and backbone.describer give {describer.fingerprint}"
        )
    return describer


def _confidence(config: RunConfig, store: ZooStore, made: Generated) -> float | None:
    kept = confidence_for(config, store)
    return float(kept[0].of(made, kept[1])[0]) if kept else None
