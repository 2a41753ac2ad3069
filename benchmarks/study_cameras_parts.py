"""The parts of the cameras' study: what is measured under which conditions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from sglora_fed.config.schema import FineTuning
from study_cameras_central import GRID, Descent, central
from study_cameras_liar import OneLiar
from study_cameras_sglora import Measured, reconstruction, settings
from study_cameras_world import Cells, Grids, World, honest_grid, unit
from study_replies import JUNK

FITTED = ("soup", "nearest", "topk", "adapter_soup", "ridge", "sglora")

STRONG = FineTuning(0.0025, 300)
"""The best on held-out experts; the main job has a third of the steps, to stay short."""

CENTRAL = tuple(
    Descent(lr=3e-3, steps=steps, decay=decay)
    for steps, decay in ((200, 0.1), (2400, 1.0), (5000, 1.0))
)
"""The best of ``GRID`` on seed 0 with as many steps as the federated rounds have, and with more."""

ROUNDS = (5, 10, 40)

READINGS = (1, 2, 4, 8, 16)

PENALTIES = (0.005, 0.1, 0.3, 1.0)

Measure = Callable[[World], Measured]


@dataclass(frozen=True)
class Job:
    """One run of a part.

    Attributes:
        measure: what is measured.
        overrides: of the run.
        grids: the nodes.
    """

    measure: Measure
    overrides: tuple[str, ...] = ()
    grids: Grids = honest_grid


def all_methods(world: World) -> Measured:
    """Everything that the main job compares, and fine-tuning with three times the steps."""
    found = {"zero_shot": world.cells(None)}
    found |= {name: world.cells(world.made(world.generator(name))) for name in FITTED}
    found["shared_lora"] = world.cells(world.alike(world.shared))
    found["functional"] = world.cells(world.made(world.functional))
    found["shuffled"] = world.cells(world.made(world.functional, world.shuffled))
    tuning = world.config.experiment.tuning
    for name in ("local_5shot", "shared_5shot", "generated_5shot", "oracle", "shared_full"):
        found[name] = world.cells(world.tuned(name, getattr(tuning, name)))
    found["generated_full"] = world.cells(world.tuned_from_generated(tuning.shared_full))
    for name in ("oracle", "shared_full"):
        found[f"{name}, 300 steps"] = world.cells(world.tuned(name, STRONG))
    return found, distrusted(world)


def shared_alone(world: World) -> Measured:
    """The shared LoRA."""
    return {"shared_lora": world.cells(world.alike(world.shared))}, {}


CURVES = ("topk", "ridge", "sglora", "functional")
"""Generators that learning curves show."""


def generated(world: World) -> Measured:
    """What needs no training on the client."""
    found = {name: world.cells(world.made(world.generator(name))) for name in CURVES}
    found["shared_lora"] = world.cells(world.alike(world.shared))
    return found, distrusted(world)


def distrusted(world: World) -> dict[str, float]:
    """How many experts are not believed."""
    return {"distrusted": float(len(world.store.ids()) - len(world.zoo.ids))}


def generated_and_tuned(world: World) -> Measured:
    """The same, and fine-tuning on as many pairs."""
    found, numbers = generated(world)
    found["oracle"] = world.cells(world.tuned("oracle", world.config.experiment.tuning.oracle))
    return found, numbers


def rounds(world: World) -> Measured:
    """`functional` after fewer and more rounds; the rate falls over all of them."""
    return _functional(world, "federation.generator_rounds", ROUNDS), {}


def penalties(world: World) -> Measured:
    """`functional` with larger penalties of its smoother."""
    return _functional(world, "generator.smoothing", PENALTIES), {}


def _functional(world: World, option: str, values: Sequence[float]) -> dict[str, Cells]:
    """It alone, for each value of an option; experts and shared LoRA are the same."""
    runs = {f"{value:g}": world.with_overrides(f"{option}={value:g}") for value in values}
    return {name: run.cells(run.made(run.functional)) for name, run in runs.items()}


def descriptions(world: World) -> Measured:
    """Adapters for descriptions that are not the client's."""
    mean = unit(world.zoo.embeddings.mean(axis=0))
    asked = {
        "own": world.said,
        "shuffled": world.shuffled,
        "junk": np.tile(world.embed([JUNK]), (len(world.said), 1)),
        "mean": np.tile(mean, (len(world.said), 1)),
    }
    found = {
        f"{name}, {kind}": world.cells(world.made(world.generator(name), rows))
        for name in ("functional", "topk", "ridge", "sglora")
        for kind, rows in asked.items()
    }
    return found, {}


def readings(world: World) -> Measured:
    """What several readings of a description are worth, and somebody else's in as many."""
    found = {}
    for count in READINGS:
        run = world.with_overrides(f"generator.readings={count}")
        for name in CURVES:
            found[f"{name}, {count}"] = run.cells(run.made(world.generator(name)))
        found[f"shuffled, {count}"] = run.cells(run.made(world.functional, world.shuffled))
    return found, {}


def lied(world: World) -> Measured:
    """What comes of a federation with a liar, and merges that believe it."""
    found, numbers = generated(world)
    for name in ("topk", "ridge"):
        made = world.made(world.generator(name, everybody=True))
        found[f"{name}, all believed"] = world.cells(made)
    return found, numbers


def in_one_place(how: Descent, world: World) -> Measured:
    """All data in one place."""
    return {"central": world.cells(central(world, how))}, {}


MAIN = "as configured"
"""The main job itself: also the middle of each curve."""

EVERYBODY = "federation.generator_clients=96"
"""All experts take part in each round, also of more than the configured 48."""

PARTS: Mapping[str, Mapping[str, Job]] = {
    "methods": {
        MAIN: Job(all_methods),
        "shared LoRA, 26 rounds of all experts": Job(
            shared_alone, ("federation.shared_rounds=26", "federation.shared_clients=48")
        ),
    },
    "central": {how.name: Job(partial(in_one_place, how)) for how in CENTRAL},
    "experts": {
        **{
            f"{count}": Job(generated, (f"family.experts={count}", EVERYBODY))
            for count in (12, 24, 74)
        },
        **{
            f"{count}, 4 clients": Job(
                generated,
                (f"family.experts={count}", "family.clients_per_split=4", EVERYBODY),
            )
            for count in (48, 96)
        },
    },
    "rounds": {MAIN: Job(rounds)},
    "penalty": {MAIN: Job(penalties)},
    "pairs": {
        f"{count}": Job(generated_and_tuned, (f"family.train_per_client={count}",))
        for count in (32, 64, 128, 512, 1024)
    },
    "rank": {
        f"{rank}": Job(generated_and_tuned, (f"adapter.rank={rank}", f"adapter.alpha={2 * rank}"))
        for rank in (1, 2, 4)
    },
    "descriptions": {MAIN: Job(descriptions)},
    "readings": {MAIN: Job(readings)},
    "liar": {
        "lies from its enrolment on": Job(lied, (), partial(OneLiar, True)),
        "enrols honestly, lies in the rounds": Job(lied, (), partial(OneLiar, False)),
    },
    "sglora": {MAIN: Job(settings)},
    "reconstruction": {MAIN: Job(reconstruction)},
}
"""Part -> run -> what to do."""

TUNING: Mapping[str, Job] = {how.name: Job(partial(in_one_place, how)) for how in GRID}
"""What is tried for the training in one place, on a seed of the design."""
