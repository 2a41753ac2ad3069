"""The LoRA and its training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from sglora_fed.config.schema.options import (
    POSITIVE,
    SOME,
    Group,
    at_least,
    one_of,
    option,
    where,
)


@dataclass(frozen=True)
class TrainConfig(Group):
    """How one adapter is trained."""

    prefix: ClassVar[str] = "adapter.train."

    steps: int = option(20, "optimiser steps of an expert", at_least(1))
    batch_size: int = option(12, "examples per step; a smaller task takes all it has", at_least(1))
    lr: float = option(5e-3, "AdamW learning rate", POSITIVE)
    max_grad_norm: float = option(1.0, "gradient norm above which a step is scaled down", POSITIVE)
    checkpoints: int = option(
        10, "M: the last M steps give the expert's mean and variance", at_least(1)
    )
    patience: int = option(
        0, "looks without a better validation loss before stopping; 0: off", at_least(0)
    )

    def contradictions(self) -> list[str]:
        """More checkpoints than steps."""
        if self.checkpoints <= self.steps:
            return []
        return [
            f"adapter.train.checkpoints={self.checkpoints}: at most adapter.train.steps"
            f" ({self.steps})"
        ]


@dataclass(frozen=True)
class AdapterConfig(Group):
    """The LoRA and its training."""

    prefix: ClassVar[str] = "adapter."

    rank: int = option(4, "r, the inner size of the LoRA", at_least(1))
    alpha: float = option(8.0, "the LoRA term is multiplied by alpha / rank", POSITIVE)
    targets: tuple[str, ...] = option(
        ("value", "output.dense"),
        "ends of the adapted modules' names, as PEFT matches them",
        SOME,
    )
    layers: tuple[int, ...] = option(
        (5,),
        "adapted layers; empty: all",
        where(
            lambda many: len(set(many)) == len(many) and all(i >= 0 for i in many),
            "distinct numbers >= 0",
        ),
    )
    hints: str = option(
        "phrases",
        "the client's own words in the candidate texts: `none`, `whole` (label and words in one"
        " text) or `phrases` (a text for each phrase, in place of the label)",
        one_of(("none", "whole", "phrases")),
    )
    start: str = option(
        "uniform",
        "the factors A at the start: `uniform`, or `singular`, the directions that each frozen"
        " matrix stretches most",
        one_of(("uniform", "singular")),
    )
    train: TrainConfig = field(default_factory=TrainConfig)
