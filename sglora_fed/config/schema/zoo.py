"""The experts on disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sglora_fed.config.schema.options import Group, option


@dataclass(frozen=True)
class ZooConfig(Group):
    """The experts on disk."""

    prefix: ClassVar[str] = "zoo."

    path: str | None = option(None, "folder; null: by configuration under the home folder")
    key: str | None = option(
        None,
        "PEM file of the public key that must have signed the zoo before it is used; null: none",
    )
