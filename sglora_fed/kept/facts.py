"""What each kept thing is a function of: nothing that matters is left out, no path is in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sglora_fed import __version__
from sglora_fed.adapters.layout import Layout
from sglora_fed.backbones import load_backbone, load_describer
from sglora_fed.config.plugins import plugins_sha256
from sglora_fed.config.schema import IN_CLEAR, SHARED_METHOD, RunConfig
from sglora_fed.generators import make_generator, settings_of
from sglora_fed.privacy.families import catalogue_of
from sglora_fed.tasks import known_tasks_sha256
from sglora_fed.zoo import Zoo

SHARED = (
    *("shared_rounds", "shared_steps", "shared_clients", "shared_momentum"),
    *("examples_per_expert", "respelt"),
)
ROUNDS = ("generator_rounds", "generator_steps", "generator_clients")
"""Settings of the federation that what it trains depends on."""

ELSEWHERE = ("path", "clients_per_split", "clients_per_camera", "test_per_client")
"""Settings of a family that say nothing of its experts."""


def code_facts() -> dict[str, str]:
    """Which programs make things: another version may make them otherwise."""
    libraries = {name: version(name) for name in ("torch", "transformers")}
    return {"sglora-fed": __version__, "plugins": plugins_sha256(), **libraries}


def expert_facts(config: RunConfig) -> dict[str, Any]:
    """Of the experts' training, but for their tasks and the seed."""
    backbone, describer = load_backbone(config.backbone, config.adapter), config.backbone
    return {
        "code": code_facts(),
        "backbone": [backbone.id, backbone.weights_sha256, backbone.scale],
        "describer": load_describer(describer).weights_sha256,
        "adapter": asdict(config.adapter),
    } | private_facts(config)


def zoo_facts(config: RunConfig) -> dict[str, Any]:
    """Of a zoo's experts: their training, and where their words are a catalogue's, which."""
    privacy, facts = config.privacy, expert_facts(config)
    if privacy.experts == IN_CLEAR:
        return facts
    told = Path(privacy.catalogue).expanduser() if privacy.catalogue else None
    catalogue = catalogue_of(config.family.name, told).sha256
    return facts | {"words": [catalogue, privacy.experts_epsilon]}


def private_facts(config: RunConfig) -> dict[str, Any]:
    """Of the noise in experts' training, where there is any: it covers all rounds together."""
    training = config.privacy.training
    if training.epsilon is None:
        return {}
    rounds = ("shared_rounds", "shared_steps", "generator_rounds", "generator_steps")
    return {"privacy": asdict(training), "noise": _federation(config, rounds)}


def rounds_facts(config: RunConfig) -> dict[str, Any]:
    """Of the rounds of the shared LoRA and the generator."""
    return _federation(config, (*SHARED, *ROUNDS))


def task_facts(config: RunConfig) -> str | dict[str, Any]:
    """A hash of the experts' tasks, or where only the nodes have them the family's settings.

    There each node's own hashes tell what has changed (:mod:`sglora_fed.federation.enrol`).
    """
    family = asdict(config.family)
    unknown = {name: value for name, value in family.items() if name not in ELSEWHERE}
    return known_tasks_sha256(config.family) or unknown


def shared_facts(config: RunConfig, layout: Layout, zoo: Zoo, seed: int) -> dict[str, Any]:
    """Of the shared LoRA that a zoo's experts train."""
    return {
        "experts": expert_facts(config),
        "layout": layout.fingerprint,
        "zoo": zoo.sha256,
        "seed": seed,
        "rounds": _federation(config, SHARED),
    }


def generator_facts(
    config: RunConfig, name: str, layout: Layout, zoo: Zoo, seed: int
) -> dict[str, Any]:
    """Of a generator: its own settings, and for one that learns in rounds those of the rounds."""
    settings = settings_of(make_generator(config.generator, name))
    values = asdict(config.generator)
    return {
        "generator": name,
        "settings": {key: values[key] for key in settings},
        "start": shared_facts(config, layout, zoo, seed),
        "rounds": _federation(config, ROUNDS),
    }


def confidence_facts(config: RunConfig, layout: Layout, zoo: Zoo, seed: int) -> dict[str, Any]:
    """Of the confidence in the configured generator's adapters."""
    return {
        "generator": generator_facts(config, config.generator.name, layout, zoo, seed),
        "fallback": SHARED_METHOD in config.experiment.methods,
    }


def _federation(config: RunConfig, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(config.federation, name) for name in names}
