"""What protects the examples that adapters are trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sglora_fed.config.schema.options import POSITIVE, Group, one_of, option, where

EXAMPLE, EXPERT = "example", "expert"


@dataclass(frozen=True)
class TrainingPrivacyConfig(Group):
    """What protects training examples: noise that their own node adds while it trains on them."""

    prefix: ClassVar[str] = "privacy.training."

    epsilon: float | None = option(
        None,
        "of an expert's training examples, over all that its node sends in a run; null: off",
        POSITIVE,
    )
    unit: str = option(
        EXAMPLE,
        "whom epsilon protects: one training `example` (DP-SGD), or a whole `expert` (its updates"
        " are clipped and get noise)",
        one_of((EXAMPLE, EXPERT)),
    )
    delta: float | None = option(
        None,
        "failure probability; null: 1 / (10 n) of n examples, 1e-6 for experts",
        where(lambda value: 0 < value < 1, "must lie between 0 and 1"),
    )
    clip: float = option(
        1.0, "norm to which an example's gradient, or an expert's update, is scaled down", POSITIVE
    )
    lr: float = option(2.2, "rate of DP-SGD, in place of `adapter.train.lr`", POSITIVE)
    sharpness: float = option(
        0.25,
        "factor on scores in the loss of DP-SGD: below 1, gradients of single examples agree more",
        POSITIVE,
    )
    freeze_a: bool = option(True, "DP-SGD trains the factors B alone (FFA-LoRA)")
    own_epsilon: float | None = option(
        None,
        "of a client's own examples, when it fine-tunes by `dp_oracle` or `dp_shared_full`; null:"
        " as for experts",
        POSITIVE,
    )
