"""Kept generators that were trained in the federation, and how sure to be of their adapters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from sglora_fed.adapters.layout import Layout
from sglora_fed.adapters.start import configured_start
from sglora_fed.config import home
from sglora_fed.config.schema import SHARED_METHOD, GeneratorConfig, RunConfig
from sglora_fed.errors import GeneratorError, GeneratorFileError
from sglora_fed.files import write_atomically
from sglora_fed.generators import (
    Generator,
    fit_generator,
    is_federated,
    load_generator,
    make_generator,
    save_generator,
)
from sglora_fed.generators.confidence import Confidence
from sglora_fed.kept.adapters import kept_shared
from sglora_fed.kept.facts import confidence_facts, generator_facts, shared_facts
from sglora_fed.kept.store import Facts, keep_facts, kept_path, kept_versions
from sglora_fed.kept.zoos import trusted_zoo
from sglora_fed.zoo import ZooIdentity, ZooStore

GENERATOR, CONFIDENCE = "generator", "confidence"
SAVED, TOLD = ".safetensors", ".json"


def kept_generator(facts: Facts, identity: ZooIdentity) -> Generator | None:
    """The generator that all experts of these facts trained, or None.

    Raises:
        GeneratorFileError: when it is damaged.
    """
    path = kept_path(GENERATOR, facts, SAVED)
    return load_generator(path, identity) if path.exists() else None


def keep_generator(
    generator: Generator,
    config: GeneratorConfig,
    identity: ZooIdentity,
    facts: Facts,
    absent: Sequence[str],
) -> None:
    """Keep a trained generator; what was made without somebody does not stand in for the whole.

    Raises:
        ResultsError: when the disk is full.
    """
    keep_facts(facts)
    save_generator(generator, config, identity, kept_path(GENERATOR, facts, SAVED, absent))


def generator_for(config: RunConfig, store: ZooStore) -> Generator:
    """The configured generator for a zoo on disk, without a federation.

    One that was trained while some nodes were away will do where there is no whole one.

    Raises:
        GeneratorError: for one that learns in rounds when no run has trained it so.
    """
    zoo, seed = trusted_zoo(store), store.identity.seed
    name = config.generator.name
    if not is_federated(make_generator(config.generator, name)):
        return fit_generator(config.generator, name, zoo, seed)
    layout = Layout.from_dict(store.identity.layout)
    facts = generator_facts(config, name, layout, zoo, seed)
    if not (paths := kept_versions(GENERATOR, facts, SAVED)):
        raise GeneratorError(
            f"{name} is trained with the experts, and no run has done so with this zoo and these"
            f" settings: give those of the run that did, run `sglora-fed simulate generator={name}`"
            " first, or choose generator=ridge, which needs the zoo alone"
        )
    return load_generator(paths[0], store.identity)


def kept_confidence(facts: Facts) -> Confidence | None:
    """What experts have told of a generator's adapters, or None when nobody was asked.

    Raises:
        GeneratorFileError: when the file is damaged.
    """
    path = kept_path(CONFIDENCE, facts, TOLD)
    return _read(path) if path.exists() else None


def confidence_for(config: RunConfig, store: ZooStore) -> tuple[Confidence, np.ndarray] | None:
    """What earlier runs found out about the configured generator, and the fall-back [D].

    Returns:
        None when no run with these settings and experts has asked them.

    Raises:
        GeneratorFileError, AdapterFileError: when a file is damaged.
    """
    # Its name is a digest of the backbone's facts too, and those take the model to be loaded.
    if not (home() / "kept" / CONFIDENCE).is_dir():
        return None
    zoo, seed = trusted_zoo(store), store.identity.seed
    layout = Layout.from_dict(store.identity.layout)
    found = kept_confidence(confidence_facts(config, layout, zoo, seed))
    fallback: np.ndarray | None = configured_start(config, layout, seed)[0]
    if SHARED_METHOD in config.experiment.methods:
        fallback = kept_shared(shared_facts(config, layout, zoo, seed), layout)
    return None if found is None or fallback is None else (found, fallback)


def keep_confidence(confidence: Confidence, facts: Facts) -> None:
    """Keep what the experts have told.

    Raises:
        ResultsError: when the disk is full.
    """
    keep_facts(facts)
    values = {f.name: np.asarray(getattr(confidence, f.name)).tolist() for f in fields(confidence)}
    write_atomically(kept_path(CONFIDENCE, facts, TOLD), json.dumps(values).encode())


def _read(path: Path) -> Confidence:
    try:
        values = dict(json.loads(path.read_text(encoding="utf-8")))
        return Confidence(**{name: _numbers(value) for name, value in values.items()})
    except (OSError, ValueError, KeyError, TypeError, OverflowError, GeneratorError) as error:
        raise GeneratorFileError(
            f"{path} is no confidence file ({type(error).__name__}); remove it"
        ) from error


def _numbers(value: Any) -> Any:
    return np.array(value, np.float64) if isinstance(value, list) else float(value)
