"""Generators by name, and on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from sglora_fed.config.schema import GENERATORS, GeneratorConfig
from sglora_fed.errors import GeneratorError, GeneratorFileError
from sglora_fed.files import write_atomically
from sglora_fed.generators.base import (
    FederatedGenerator,
    FittedGenerator,
    Generator,
    is_federated,
)
from sglora_fed.seeds import derive_seed
from sglora_fed.tensors import header_of
from sglora_fed.zoo import Zoo, ZooIdentity

Either = FittedGenerator | FederatedGenerator
Factory = Callable[[GeneratorConfig], Either]

METADATA = {"generator", "config", "identity", "sha256"}
MATCHING = ("backbone", "weights_sha256", "encoder", "layout")
"""What must be equal for a generator to serve; its zoo may have another seed or other experts."""


def register_generator(name: str, factory: Factory) -> None:
    """Make a generator of your own known by name, for configuration and results.

    Raises:
        GeneratorError: when the name is taken.
    """
    GENERATORS.add(name, factory)


def generator_names() -> list[str]:
    """All known names."""
    return sorted(GENERATORS)


def make_generator(config: GeneratorConfig, name: str | None = None) -> Either:
    """A generator that has learnt nothing; ``name`` overrides the configured one.

    Raises:
        GeneratorError: for an unknown name, or when the registered class is of neither kind.
    """
    wanted = name or config.name
    made = GENERATORS.get(wanted)(config)
    if not isinstance(made, (FittedGenerator, FederatedGenerator)):
        raise GeneratorError(
            f"{wanted} ({type(made).__name__}) lacks methods: a generator has generate, state and"
            " restore, and either fit or begin, starts and learn"
        )
    return made


def fit_generator(config: GeneratorConfig, name: str, zoo: Zoo, seed: int) -> FittedGenerator:
    """A new generator fitted to a zoo; the same for the same arguments, whoever asks.

    Args:
        config: of the generator.
        name: of the generator.
        zoo: its experts.
        seed: of the run.

    Raises:
        GeneratorError: for an unknown name, or when the zoo alone does not do.
    """
    generator = make_generator(config, name)
    if is_federated(generator) or not isinstance(generator, FittedGenerator):
        raise GeneratorError(
            f"{name} is trained with the experts: run `sglora-fed simulate generator.name={name}`"
            " first, or choose generator=ridge, which needs the zoo alone"
        )
    generator.fit(zoo, derive_seed(seed, "fit", name))
    return generator


def generator_sha256(generator: Generator) -> str:
    """Which generator this is: a hash of its name and all that it has learnt.

    Raises:
        GeneratorError: when it has learnt nothing.
    """
    return _digest(generator.state(), {"generator": generator.name})


def save_generator(
    generator: Generator, config: GeneratorConfig, identity: ZooIdentity, path: Path
) -> None:
    """Write what a generator has learnt as one safetensors file.

    Raises:
        GeneratorError: when it has learnt nothing.
        ResultsError: when the disk is full.
    """
    state = {name: np.ascontiguousarray(array) for name, array in generator.state().items()}
    metadata = {
        "generator": generator.name,
        "config": json.dumps(asdict(config), sort_keys=True),
        "identity": json.dumps(asdict(identity), sort_keys=True),
    }
    metadata["sha256"] = _digest(state, metadata)
    write_atomically(path, save(state, metadata=metadata))


def load_generator(path: Path, identity: ZooIdentity, data: bytes | None = None) -> Generator:
    """Read a generator of either kind for a zoo's backbone, layout and encoder.

    The file's own configuration is used. A generator of your own must be registered first.

    Args:
        path: of the file.
        identity: of the zoo.
        data: the file's content, where it has been read already.

    Raises:
        GeneratorFileError: when the file is damaged or was made for something else.
        GeneratorError: when the generator's name is not registered.
    """
    try:
        state, metadata = _read_whole(path.read_bytes() if data is None else data)
        name = metadata["generator"]
        config, made_for = _parse(metadata)
    except OSError as error:
        raise GeneratorFileError(f"{path} cannot be read: {error.strerror}") from error
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise GeneratorFileError(f"{path} is no generator file: {error}") from error
    _check_identity(path, made_for, identity)
    if broken := [key for key, array in state.items() if not np.isfinite(array).all()]:
        raise GeneratorFileError(f"{path}: {', '.join(sorted(broken))} hold NaN or infinity")
    generator = make_generator(config, name)
    try:
        generator.restore(state)
    except GeneratorError as error:
        raise GeneratorFileError(f"{path}: {error.args[0]}") from error
    return generator


def _digest(state: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    """sha256 of everything in the file, whatever the order in which it is stored."""
    kept = {key: value for key, value in metadata.items() if key != "sha256"}
    arrays = [[k, str(state[k].dtype), list(state[k].shape)] for k in sorted(state)]
    digest = hashlib.sha256(json.dumps([kept, arrays], sort_keys=True).encode())
    for name in sorted(state):
        digest.update(state[name].tobytes())
    return digest.hexdigest()


def _read_whole(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays and metadata of a file that is as it was written."""
    _, metadata = header_of(BytesIO(data), len(data))
    if set(metadata) != METADATA:
        raise ValueError(f"its metadata are {sorted(metadata)}; need {sorted(METADATA)}")
    state = load(data)
    if _digest(state, metadata) != metadata["sha256"]:
        raise ValueError("its content has another sha256 than it says")
    return state, metadata


def _parse(metadata: Mapping[str, str]) -> tuple[GeneratorConfig, ZooIdentity]:
    config = GeneratorConfig(**json.loads(metadata["config"]))
    if problems := config.problems():
        raise ValueError("; ".join(problems))
    return config, ZooIdentity(**json.loads(metadata["identity"]))


def _check_identity(path: Path, made_for: ZooIdentity, identity: ZooIdentity) -> None:
    different = [name for name in MATCHING if getattr(made_for, name) != getattr(identity, name)]
    if different:
        raise GeneratorFileError(
            f"{path} was made for another {', '.join(different)}; fit the generator again"
        )
