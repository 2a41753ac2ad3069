"""What turns a description embedding into an adapter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sglora_fed.config.schema.options import POSITIVE, Group, at_least, one_of, option, where
from sglora_fed.errors import GeneratorError
from sglora_fed.registry import Registry

GENERATORS = Registry(
    "generator",
    GeneratorError,
    {
        "soup": "sglora_fed.generators.merges:soup",
        "nearest": "sglora_fed.generators.merges:nearest",
        "adapter_soup": "sglora_fed.generators.merges:adapter_soup",
        "topk": "sglora_fed.generators.merges:topk",
        "ridge": "sglora_fed.generators.ridge:Ridge",
        "sglora": "sglora_fed.generators.sglora:SgLora",
        "functional": "sglora_fed.generators.functional:Functional",
    },
)
"""``register_generator`` adds to them."""

MOST_READINGS = 64
"""A client tries each on its own pictures, and how many there are is the server's choice."""


@dataclass(frozen=True)
class GeneratorConfig(Group):
    """What turns a description embedding into an adapter."""

    prefix: ClassVar[str] = "generator."

    name: str = option(
        "functional", "the generator whose adapters clients adopt", one_of(GENERATORS)
    )
    readings: int = option(
        1,
        "adapters that a client gets and chooses among: for its own description, and for the"
        " entries of the catalogue that are nearest to it, where the family brings one or"
        " `privacy.catalogue` names it; not with `subset`, which has `privacy.replies`",
        where(
            lambda value: 1 <= value <= MOST_READINGS, f"must be a number from 1 to {MOST_READINGS}"
        ),
    )
    neighbours: int = option(
        4, "K: nearest experts in the weights of `adapter_soup`, `topk` and `sglora`", at_least(1)
    )
    temperature: float = option(0.05, "tau of the softmax over similarities", POSITIVE)
    ridge: float = option(0.02, "`ridge`: the penalty", POSITIVE)
    smoothing: float = option(0.3, "`functional`: the penalty of its smoother", POSITIVE)
    latent: int = option(16, "`sglora`: size of z", at_least(1))
    hidden: int = option(256, "`sglora`: width of the hidden layers", at_least(1))
    steps: int = option(600, "`sglora`: Adam steps", at_least(1))
    lr: float = option(1e-3, "`sglora`: learning rate", POSITIVE)
    kl_weight: float = option(1.0, "`sglora`: lambda of the KL term", at_least(0))
    leave_own_out: bool = option(False, "`sglora`: a training expert is left out of its own prior")
    basis: int = option(64, "`sglora`: principal components of the zoo", at_least(1))
