"""Generators by name, and on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from sglora_fed.config.schema import GENERATORS, GeneratorConfig
from sglora_fed.errors import GeneratorError, GeneratorFileError
from sglora_fed.files import write_atomically
from sglora_fed.generators.base import Generator
from sglora_fed.generators.merges import Merge
from sglora_fed.generators.ridge import Ridge
from sglora_fed.generators.sglora import SgLora
from sglora_fed.zoo import ZooIdentity

Factory = Callable[[GeneratorConfig], Generator]

_FACTORIES: dict[str, Factory] = {
    "soup": partial(Merge, "soup"),
    "nearest": partial(Merge, "nearest"),
    "topk": partial(Merge, "topk"),
    "ridge": Ridge,
    "sglora": SgLora,
}


def register_generator(name: str, factory: Factory) -> None:
    """Make a generator of your own known by name, for configuration and results.

    Raises:
        GeneratorError: when the name is taken.
    """
    if name in _FACTORIES:
        raise GeneratorError(f"the name {name!r} is taken; there are {generator_names()}")
    _FACTORIES[name] = factory
    GENERATORS.append(name)


def generator_names() -> list[str]:
    """All known names."""
    return sorted(_FACTORIES)


def make_generator(config: GeneratorConfig, name: str | None = None) -> Generator:
    """An unfitted generator; ``name`` overrides the configured one.

    Raises:
        GeneratorError: for an unknown name.
    """
    wanted = name or config.name
    if wanted not in _FACTORIES:
        raise GeneratorError(f"unknown generator {wanted!r}; there are {generator_names()}")
    return _FACTORIES[wanted](config)


def save_generator(
    generator: Generator, config: GeneratorConfig, identity: ZooIdentity, path: Path
) -> None:
    """Write a fitted generator as one safetensors file."""
    state = {name: np.ascontiguousarray(array) for name, array in generator.state().items()}
    metadata = {
        "generator": generator.name,
        "config": json.dumps(asdict(config), sort_keys=True),
        "identity": json.dumps(asdict(identity), sort_keys=True),
    }
    write_atomically(path, save(state, metadata=metadata))


def load_generator(path: Path, identity: ZooIdentity) -> Generator:
    """Read a fitted generator for a zoo's backbone, layout and encoder.

    Raises:
        GeneratorFileError: when the file is damaged or was made for something else.
    """
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        config = GeneratorConfig(**json.loads(metadata["config"]))
        made_for = ZooIdentity(**json.loads(metadata["identity"]))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise GeneratorFileError(f"{path} is no generator file: {type(error).__name__}") from error
    for name in ("backbone", "weights_sha256", "encoder", "layout"):
        if getattr(made_for, name) != getattr(identity, name):
            raise GeneratorFileError(f"{path} was made for another {name}; fit it again")
    generator = make_generator(config, metadata["generator"])
    generator.restore(state)
    return generator
