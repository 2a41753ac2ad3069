"""Generators: description embeddings in, adapters out."""

from sglora_fed.generators.base import (
    FederatedGenerator,
    FittedGenerator,
    Generated,
    Generator,
    is_federated,
    settings_of,
)
from sglora_fed.generators.prior import semantic_prior
from sglora_fed.generators.registry import (
    fit_generator,
    generator_names,
    generator_sha256,
    load_generator,
    make_generator,
    register_generator,
    save_generator,
)

__all__ = [
    "FederatedGenerator",
    "FittedGenerator",
    "Generated",
    "Generator",
    "fit_generator",
    "generator_names",
    "generator_sha256",
    "is_federated",
    "load_generator",
    "make_generator",
    "register_generator",
    "save_generator",
    "semantic_prior",
    "settings_of",
]
