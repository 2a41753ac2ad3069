"""The frozen dual encoder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from sglora_fed.config.schema.options import POSITIVE, Group, one_of, option, where
from sglora_fed.errors import ConfigError
from sglora_fed.registry import Registry

BACKBONES = Registry(
    "backbone",
    ConfigError,
    {
        "minilm": "sglora_fed.backbones.minilm:configured",
        "clip": "sglora_fed.backbones.clip:configured",
    },
)
"""``register_backbone`` adds to them."""

ITEMS: dict[str, str] = {"minilm": "text", "clip": "image"}
"""Backbone -> the modality of its items, known without importing it."""


@dataclass(frozen=True)
class BackboneConfig(Group):
    """The frozen dual encoder."""

    prefix: ClassVar[str] = "backbone."

    name: str = option(
        "minilm",
        "`minilm` (text-text), `clip` (image-text), or a registered one",
        one_of(BACKBONES),
    )
    path: str | None = option(
        None,
        "checkpoint folder, or for `clip` a hub id or `package:cameras`, which ships with"
        " sglora-fed; null: the default",
    )
    revision: str | None = option(None, "hub revision; null: the pinned one")
    sha256: str | None = option(
        None,
        "expected hash of model.safetensors; null: the pinned one",
        where(lambda value: bool(re.fullmatch("[0-9a-f]{64}", value)), "must be 64 digits 0-9a-f"),
    )
    scale: float | None = option(None, "factor on cosines; null: the backbone's own", POSITIVE)
    device: str = option("cpu", "`cpu`, `cuda` or `auto`", one_of(("cpu", "cuda", "auto")))

    describer: str = option(
        "minilm",
        "what embeds descriptions: `minilm`, or `clip`, the text tower of the backbone",
        one_of(("minilm", "clip")),
    )

    def contradictions(self) -> list[str]:
        """A checkpoint that nobody named, and a text tower that is not there."""
        found = []
        if self.name == "clip" and not self.path:
            found.append("backbone.path=None: backbone=clip needs a checkpoint folder or hub id")
        if self.describer == "clip" and self.name != "clip":
            found.append(
                f"backbone.describer='clip': backbone={self.name} has no text tower of CLIP;"
                " need backbone=clip, or minilm"
            )
        return found
