"""All experts' data in one place: the map from descriptions to adapters, by ordinary descent.

It is the parametrisation of `functional`, adapter = offset + (x - centre) W, trained on the mean
loss of all experts at once, from the shared LoRA on. Nobody's data stays where it is, and nothing
is smoothed: what a federation loses shows against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from sglora_fed.adapters.batched import adapted
from sglora_fed.adapters.data import Prepared, batch_indices, prepare
from sglora_fed.adapters.training import task_losses
from sglora_fed.seeds import derive_seed
from sglora_fed.tasks import load_family
from study_cameras_world import World

MAX_NORM = 1.0
"""Of the gradient; without a bound such a training can collapse."""

LAST_RATE = 0.1
"""As in the federated rounds: the rate falls evenly to this share of the first."""


@dataclass(frozen=True)
class Descent:
    """How one place trains.

    Attributes:
        lr: of AdamW.
        steps: each over all experts, a batch of each.
        decay: weight decay of the map.
    """

    lr: float
    steps: int
    decay: float

    @property
    def name(self) -> str:
        return f"lr {self.lr:g}, {self.steps} steps, decay {self.decay:g}"


GRID = (
    *(Descent(lr, 200, 0.1) for lr in (1e-4, 3e-4, 1e-3, 3e-3)),
    *(Descent(lr, 800, 0.1) for lr in (1e-3, 3e-3)),
    *(Descent(lr, 2400, 0.1) for lr in (1e-3, 3e-3, 1e-2)),
    *(Descent(3e-3, 2400, decay) for decay in (1.0, 5.0)),
    Descent(3e-3, 5000, 1.0),
)
"""What is tried on a seed of the design; 200 steps are those of the federated rounds."""


def central(world: World, how: Descent) -> np.ndarray:
    """[n, D] adapters for the clients, from all experts' data in one place."""
    wordings, device = world.zoo.wordings[:], world.encoder.device
    centre = wordings.mean(axis=(0, 1))
    scale = np.sqrt(((wordings - centre) ** 2).sum(axis=-1).mean())
    inputs = torch.from_numpy((wordings - centre) / scale).to(device)
    offset = torch.from_numpy(world.shared.copy()).to(device).requires_grad_()
    weights = torch.zeros(inputs.shape[-1], len(offset), device=device, requires_grad=True)
    parts, seed = expert_parts(world), derive_seed(world.seed, "central")
    plans = [
        batch_indices(part.lengths, world.config.adapter.train.batch_size, how.steps, seed + row)
        for row, part in enumerate(parts)
    ]
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(
        [{"params": [weights], "weight_decay": how.decay}, {"params": [offset], "weight_decay": 0}],
        how.lr,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, partial(_rate, how.steps))
    for step in range(how.steps):
        said = rng.integers(wordings.shape[1], size=len(parts))
        vectors = offset + inputs[np.arange(len(parts)), said] @ weights
        optimiser.zero_grad(set_to_none=True)
        losses = _losses(world, vectors, parts, [plan[step] for plan in plans])
        torch.autograd.backward(losses.mean())
        torch.nn.utils.clip_grad_norm_([weights, offset], MAX_NORM)
        optimiser.step()
        schedule.step()
    asked = torch.from_numpy((world.said - centre) / scale).to(device)
    made: np.ndarray = (offset + asked @ weights).detach().cpu().numpy()
    return made


def expert_parts(world: World) -> list[Prepared]:
    """What the zoo's experts train on, in its order."""
    tasks = {task.id: task for task in load_family(world.config.family).of_role("expert")}
    return [prepare(world.encoder, tasks[name], tasks[name].train) for name in world.zoo.ids]


def best_weights(world: World, parts: Sequence[Prepared], lr: float, steps: int) -> np.ndarray:
    """[n, D] for each client the weighted sum of the experts' adapters that suits its own pairs.

    Weights of any sign, which sum to one, found by descent from the plain mean.

    Args:
        world: whose zoo and clients.
        parts: what the clients learn from, alike in size.
        lr: of Adam.
        steps: of the descent.
    """
    device, count = world.encoder.device, len(world.zoo.ids)
    means = torch.from_numpy(world.experts).to(device)
    deviations, mean = means - means.mean(dim=0), means.mean(dim=0)
    weights = torch.zeros(len(parts), count, device=device, requires_grad=True)
    size = world.config.adapter.train.batch_size
    plans = [
        batch_indices(part.lengths, size, steps, derive_seed(world.seed, "weights", task.id))
        for part, task in zip(parts, world.clients, strict=True)
    ]
    optimiser = torch.optim.Adam([weights], lr)
    for step in range(steps):
        optimiser.zero_grad(set_to_none=True)
        rows = [plan[step] for plan in plans]
        losses = _losses(world, mean + weights @ deviations, parts, rows)
        torch.autograd.backward(losses.sum())
        optimiser.step()
    made: np.ndarray = (mean + weights @ deviations).detach().cpu().numpy()
    return made


def _losses(
    world: World, vectors: Tensor, parts: Sequence[Prepared], rows: Sequence[np.ndarray]
) -> Tensor:
    with adapted(world.encoder.model, world.layout, vectors):
        return task_losses(world.encoder, parts, rows)


def _rate(steps: int, step: int) -> float:
    return 1 - (1 - LAST_RATE) * step / steps
