"""Configuration: typed, frozen, composed by one function."""

from sglora_fed.config.compose import (
    compose,
    config_folder,
    config_sha256,
    config_yaml,
    home,
)
from sglora_fed.config.schema import RunConfig

__all__ = [
    "RunConfig",
    "compose",
    "config_folder",
    "config_sha256",
    "config_yaml",
    "home",
]
