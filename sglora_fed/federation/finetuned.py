"""Methods that train on the client: what each one starts from, learns from, and how it trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from sglora_fed.adapters.data import few_shot
from sglora_fed.config.schema import FineTuning, RunConfig, TrainConfig
from sglora_fed.tasks.types import Example, Task

Start = Literal["untrained", "shared", "generated"]
"""The LoRA that every expert starts from, the shared LoRA, or the adapter made for the client."""


@dataclass(frozen=True)
class Method:
    """One way to fine-tune.

    Attributes:
        start: where training begins.
        shots: examples of each class that the client has; None: all of its own.
    """

    start: Start
    shots: int | None


FINE_TUNED: Mapping[str, Method] = {
    "local_1shot": Method("untrained", 1),
    "local_5shot": Method("untrained", 5),
    "generated_5shot": Method("generated", 5),
    "shared_5shot": Method("shared", 5),
    "oracle": Method("untrained", None),
    "shared_full": Method("shared", None),
}
"""Method name -> what it is."""


PRIVATELY_TUNED: Mapping[str, Method] = {
    "dp_oracle": Method("untrained", None),
    "dp_shared_full": Method("shared", None),
}
"""The same with noise on the client's own gradients."""

METHODS: Mapping[str, Method] = {**FINE_TUNED, **PRIVATELY_TUNED}


def examples_of(name: str, task: Task, seed: int) -> tuple[Example, ...]:
    """What a client learns from by a method; ``seed`` draws the few of each class."""
    shots = METHODS[name].shots
    return tuple(task.train) if shots is None else few_shot(task, shots, seed)


def training_of(tuned: FineTuning, config: RunConfig) -> TrainConfig:
    """How a client trains with a rate and a number of steps."""
    train = config.adapter.train
    return replace(train, lr=tuned.lr, steps=tuned.steps, checkpoints=1)
