"""A run's zoo: where it lies and what it must have been made for."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np

from sglora_fed import __version__
from sglora_fed.adapters.layout import Layout
from sglora_fed.backbones import load_backbone, load_describer
from sglora_fed.config import home
from sglora_fed.config.schema import RunConfig
from sglora_fed.errors import ZooDamagedError
from sglora_fed.files import write_atomically
from sglora_fed.kept.facts import task_facts, zoo_facts
from sglora_fed.kept.store import digest, kept_path
from sglora_fed.kept.withdrawal import note_experts
from sglora_fed.zoo import Zoo, ZooIdentity, ZooStore, trusted

VERDICT = "screened"
"""Kind of the files that say whom screening distrusts in a zoo."""

LIBRARIES = ("flwr", "torch", "transformers", "peft", "numpy")


def versions() -> dict[str, str]:
    """This package and the libraries that results depend on -> version."""
    return {"sglora-fed": __version__, **{name: version(name) for name in LIBRARIES}}


def zoo_identity(config: RunConfig, layout: Layout, seed: int) -> ZooIdentity:
    """What a zoo must match to be reused by a run."""
    backbone = load_backbone(config.backbone, config.adapter)
    return ZooIdentity(
        backbone=backbone.id,
        weights_sha256=backbone.weights_sha256,
        encoder=load_describer(config.backbone).fingerprint,
        layout=layout.to_dict(),
        seed=seed,
        config_sha256=digest(zoo_facts(config)),
        tasks_sha256=digest(task_facts(config)),
        versions=versions(),
    )


def zoo_path(config: RunConfig, layout: Layout, seed: int) -> Path:
    """Where a run keeps its zoo: as configured, else by what it depends on."""
    if config.zoo.path:
        return Path(config.zoo.path).expanduser().absolute()
    facts = [zoo_facts(config), task_facts(config), layout.fingerprint]
    return home() / "zoos" / f"{config.family.name}-{digest(facts)[:20]}-seed{seed}"


def trusted_zoo(store: ZooStore) -> Zoo:
    """The zoo's experts without those that contradict the majority of the nodes.

    Who they are is noted: what is made with them can be found when one is withdrawn.
    """
    zoo, layout = store.load(), Layout.from_dict(store.identity.layout)
    distrusted = _distrusted(zoo, layout)
    chosen = zoo.select(np.setdiff1d(np.arange(len(zoo.ids)), distrusted)) if distrusted else zoo
    note_experts(chosen)
    return chosen


def _distrusted(zoo: Zoo, layout: Layout) -> list[int]:
    """Rows of the experts that contradict: kept from before, or found and kept.

    To screen 100,000 experts takes minutes; their hash is needed anyway.

    Raises:
        ZooDamagedError: when the kept verdict is none.
        ResultsError: when it cannot be kept.
    """
    facts = {"zoo": zoo.sha256, "layout": layout.fingerprint, "versions": versions()}
    path = kept_path(VERDICT, facts, ".json")
    if not path.exists():
        sound = trusted(zoo.embeddings, zoo.means, layout, zoo.owners)
        write_atomically(path, json.dumps(np.flatnonzero(~sound).tolist()).encode())
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ZooDamagedError(f"{path} is damaged ({type(error).__name__}); remove it") from error
    rows = range(len(zoo.ids))
    if not isinstance(found, list) or not all(type(row) is int and row in rows for row in found):
        raise ZooDamagedError(f"{path} names no rows of the zoo; remove it")
    return found


def check_signed(config: RunConfig, store: ZooStore) -> None:
    """Refuse a zoo with experts that nobody with the configured key has signed as it is.

    Raises:
        SigningKeyError: when the key cannot be used.
        ZooSignatureError: when the zoo is not signed, or was changed since.
        RolledBackError: when a newer signature was seen on this machine.
    """
    if config.zoo.key is None or not store.ids():
        return
    from sglora_fed.zoo.signing import check_signature  # who configures no key loads no library

    check_signature(store.signable(), Path(config.zoo.key).expanduser())
