"""What is compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import ClassVar

from sglora_fed.config.schema.generator import GENERATORS
from sglora_fed.config.schema.options import SOME, Group, option
from sglora_fed.config.schema.tuning import PRIVATE_METHODS, TuningConfig

NO_ADAPTER_METHODS = ("zero_shot", "described")
TRAINED_METHODS = tuple(
    item.name for item in fields(TuningConfig) if item.name not in PRIVATE_METHODS
)
SHARED_METHOD = "shared_lora"
POLICY_METHOD = "policy"


def _methods(names: Sequence[str]) -> str:
    """Some methods, each known and named once."""
    trained = (*TRAINED_METHODS, *PRIVATE_METHODS)
    known = [*NO_ADAPTER_METHODS, *GENERATORS, SHARED_METHOD, *trained, POLICY_METHOD]
    unknown = [name for name in names if name not in known]
    return f"{unknown} must be of {', '.join(known)}" if unknown else SOME(names)


@dataclass(frozen=True)
class ExperimentConfig(Group):
    """What is compared."""

    prefix: ClassVar[str] = "experiment."

    methods: tuple[str, ...] = option(
        (
            *NO_ADAPTER_METHODS,
            *("soup", "nearest", "topk", "ridge", "sglora", "functional"),
            SHARED_METHOD,
            *TRAINED_METHODS,
        ),
        "methods in the table; generators by their names. `policy` adopts where the client's own"
        " unpaired items and captions say so (retrieval), or the experts' comparisons (labels): for"
        " these a generator that learns in rounds is trained twice",
        _methods,
    )
    tuning: TuningConfig = field(default_factory=TuningConfig)
    controls: bool = option(True, "also deliver adapters made for descriptions unlike a client's")

    def contradictions(self) -> list[str]:
        """What starts from the shared LoRA needs it."""
        started = [name for name in self.methods if name.startswith(("shared_", "dp_shared_"))]
        if not started or SHARED_METHOD in self.methods:
            return []
        return [f"experiment.methods has {started}, which start from {SHARED_METHOD}: add it"]
