"""How clients fine-tune: each method that trains on the client has a rate and steps of its own."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from sglora_fed.config.schema.options import POSITIVE, Group, at_least, option

PRIVATE_METHODS = ("dp_oracle", "dp_shared_full")
"""Methods in which the client protects its own examples from whoever sees its adapter."""


@dataclass(frozen=True)
class FineTuning(Group):
    """How one method trains; everything else as ``adapter.train`` says."""

    lr: float = option(5e-3, "learning rate, of AdamW or DP-SGD", POSITIVE)
    steps: int = option(20, "optimiser steps", at_least(1))


@dataclass(frozen=True)
class TuningConfig(Group):
    """What was chosen for each method on held-out experts of the embedded family.

    ``benchmarks/tune_baselines.py`` chooses; its grid is in ``benchmarks/results/``.
    """

    local_1shot: FineTuning = field(default=FineTuning(0.001, 10))
    local_5shot: FineTuning = field(default=FineTuning(0.0005, 80))
    generated_5shot: FineTuning = field(default=FineTuning(0.0005, 10))
    shared_5shot: FineTuning = field(default=FineTuning(0.0005, 10))
    oracle: FineTuning = field(default=FineTuning(0.0005, 160))
    shared_full: FineTuning = field(default=FineTuning(0.001, 80))
    dp_oracle: FineTuning = field(default=FineTuning(1.0, 60))
    dp_shared_full: FineTuning = field(default=FineTuning(1.0, 60))

    def problems(self) -> list[str]:
        """All mistakes, each with the name of its method."""
        return [
            f"experiment.tuning.{item.name}.{problem}"
            for item in fields(self)
            for problem in getattr(self, item.name).problems()
        ]
