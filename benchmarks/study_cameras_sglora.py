"""The paper's generator: its settings, its twins without randomness, and what it reconstructs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from sglora_fed.adapters.data import Prepared, prepare
from sglora_fed.adapters.layout import Layout
from sglora_fed.generators import fit_generator, make_generator
from sglora_fed.generators.sglora import SemanticVae, SgLora
from sglora_fed.seeds import derive_seed
from study_cameras_central import best_weights
from study_cameras_world import Cells, World

SETTINGS: Mapping[str, Mapping[str, float | bool]] = {
    "as configured": {},
    **{f"K {k}": {"neighbours": k} for k in (1, 2, 8, 16, 48)},
    **{f"lambda {weight:g}": {"kl_weight": weight} for weight in (0.0, 0.01, 0.1, 10.0)},
    **{f"temperature {tau:g}": {"temperature": tau} for tau in (0.01, 0.2, 1.0)},
    **{f"{steps} steps": {"steps": steps} for steps in (200, 2000, 6000)},
    "own expert left out": {"leave_own_out": True},
}
"""What differs from the configuration."""

DRAWS = 16

SHARES = (0.25, 0.5, 0.75, 0.9)
"""How far a mixture goes from the experts' mean to the client's own adapter."""

WEIGHTS = (0.02, 300)
"""Rate and steps of the search for the best weights of experts."""

HOME = "new_combination"
"""The split on which reconstruction is judged."""

Measured = tuple[dict[str, Cells], dict[str, float]]
"""Cells by method, and further numbers by name."""


class _MeanVae(SemanticVae):
    """Takes z at the mean of its prior."""

    def sample(self, condition: Tensor, noise: Tensor) -> Tensor:
        return super().sample(condition, torch.zeros_like(noise))


class _DecoderAlone(SemanticVae):
    """There is no z: the decoder maps the condition to an adapter."""

    def loss(self, x: Tensor, condition: Tensor, noise: Tensor, kl_weight: float) -> Tensor:
        return torch.mean(((self.sample(condition, noise) - x) ** 2).sum(dim=1))

    def sample(self, condition: Tensor, noise: Tensor) -> Tensor:
        return torch.as_tensor(self.decoder(torch.cat([torch.zeros_like(noise), condition], 1)))


class _Twin(SgLora):
    """The generator with another network of the same sizes."""

    network: type[SemanticVae]

    def _new_vae(self) -> SemanticVae:
        width = self._state["coordinates"].shape[1]
        return self.network(width, self._config.hidden, self._config.latent)


class _Mean(_Twin):
    network = _MeanVae


class _Alone(_Twin):
    network = _DecoderAlone


TWINS: Mapping[str, type[_Twin]] = {
    "z at its prior's mean": _Mean,
    "decoder alone, trained without z": _Alone,
}


def settings(world: World) -> Measured:
    """The generator under each setting, its twins, and the merge of as many neighbours."""
    base, seed = world.config.generator, derive_seed(world.seed, "fit", "sglora")
    found, made = {}, partial(world.made)
    for name, change in SETTINGS.items():
        config = replace(base, **change)  # type: ignore[arg-type]
        found[name] = world.cells(made(fit_generator(config, "sglora", world.zoo, world.seed)))
    for name, kind in TWINS.items():
        twin = kind(base)
        twin.fit(world.zoo, seed)
        found[name] = world.cells(made(twin))
    fitted = fit_generator(base, "sglora", world.zoo, world.seed)
    draws = fitted.generate(world.said, DRAWS, derive_seed(world.seed, "draws")).adapters
    found[f"mean of {DRAWS} draws"] = world.cells(draws.mean(axis=1))
    for count in (1, 2, 4, 8, 16, 48):
        merge = make_generator(replace(base, neighbours=count), "topk")
        merge.fit(world.zoo, seed)  # type: ignore[union-attr]
        found[f"merge of K {count}"] = world.cells(made(merge))
    return found, {}


def reconstruction(world: World) -> Measured:
    """What a perfect reconstruction of a client's own adapter is worth, and how near any comes."""
    parts = [prepare(world.encoder, task, task.train) for task in world.clients]
    own, again = (_as_expert(world, parts, name) for name in ("expert", "again"))
    mean = world.experts.mean(axis=0)
    halves = [_as_expert(world, [_half(part, side) for part in parts], "half") for side in (0, 1)]
    vectors: dict[str, np.ndarray] = {
        "own adapter, trained as an expert": own,
        "own adapter, other batches": again,
        "mean of these two": (own + again) / 2,
        "own adapter of half of the pairs": halves[0],
        "own adapter of the other half": halves[1],
        "own adapter's nearest point in the experts' span": projected(world.experts, own),
        "best weights of the experts, on own pairs": best_weights(world, parts, *WEIGHTS),
        **{
            f"{share:.0%} of the way from the mean": mean + share * (own - mean) for share in SHARES
        },
    }
    for name in ("soup", "topk", "ridge", "sglora", "functional"):
        vectors[name] = world.made(world.generator(name))
    cells = {name: world.cells(some) for name, some in vectors.items()}
    numbers = agreements(world, vectors, own)
    numbers |= _by_heart(world)
    return cells | in_products(world, own), numbers


def _as_expert(world: World, parts: list[Prepared], name: str) -> np.ndarray:
    """[n, D] the clients' adapters if they were experts: the mean of the last checkpoints."""
    train = world.config.adapter.train
    return world.trained(world.alike(world.start), parts, train, name).mean


def _half(part: Prepared, side: int) -> Prepared:
    """The first or the second half of a retrieval task's pairs."""
    middle = len(part) // 2
    some = slice(0, middle) if side == 0 else slice(middle, 2 * middle)
    numbers = np.arange(middle)
    return Prepared(part.items[some], part.texts[some], numbers, numbers, part.kind)


def projected(experts: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows [n, D] moved to the nearest points of the affine span of the experts [E, D]."""
    mean = experts.mean(axis=0, dtype=np.float64)
    basis = np.linalg.svd(experts - mean, full_matrices=False)[2][: len(experts) - 1]
    moved: np.ndarray = (mean + (rows - mean) @ basis.T @ basis).astype(np.float32)
    return moved


def explained(made: np.ndarray, wanted: np.ndarray, mean: np.ndarray) -> float:
    """R^2: 1 - |made - wanted|^2 / |mean - wanted|^2, both summed over clients."""
    return 1 - float(((made - wanted) ** 2).sum() / ((mean - wanted) ** 2).sum())


def agreements(
    world: World, vectors: Mapping[str, np.ndarray], own: np.ndarray
) -> dict[str, float]:
    """R^2 of each against the clients' own adapters, in parameters and in effects."""
    rows, found = world.rows(HOME), {}
    effects: Callable[[np.ndarray], np.ndarray] = partial(products, world.layout)
    mean, effect = world.experts.mean(axis=0), effects(world.experts).mean(axis=0)
    for name, some in vectors.items():
        found[f"{name}: parameters"] = explained(some[rows], own[rows], mean)
        found[f"{name}: effects"] = explained(effects(some[rows]), effects(own[rows]), effect)
    return found


def _by_heart(world: World) -> dict[str, float]:
    """R^2 of `sglora` and `topk` on the experts that they were fitted to."""
    experts, found = world.experts, {}
    for name in ("sglora", "topk"):
        generator = world.generator(name)
        made = generator.generate(world.zoo.embeddings, 1, world.seed).adapters[:, 0]
        found[f"{name}, the experts it knows: parameters"] = explained(
            made, experts, experts.mean(axis=0)
        )
    return found


def products(layout: Layout, vectors: np.ndarray) -> np.ndarray:
    """[n, modules x d_out x d_in] what adapters [n, D] add to the weights: scaled B A."""
    pairs = layout.unpack(torch.from_numpy(np.ascontiguousarray(vectors, np.float32))).values()
    return torch.cat([(layout.scaling * b @ a).flatten(1) for a, b in pairs], dim=1).numpy()


def unfactored(layout: Layout, rows: np.ndarray) -> tuple[Layout, np.ndarray]:
    """Adapters of full rank with the effects [n, modules x d_out x d_in]; A is the identity."""
    width = layout.modules[0].d_in
    wide, start, made = replace(layout, rank=width, alpha=float(width)), 0, []
    for module in layout.modules:
        end = start + module.d_in * module.d_out
        unity = np.broadcast_to(np.eye(width, dtype=np.float32).ravel(), (len(rows), width**2))
        made += [unity, rows[:, start:end]]
        start = end
    return wide, np.ascontiguousarray(np.hstack(made), np.float32)


def in_products(world: World, own: np.ndarray) -> dict[str, Cells]:
    """The merges again, of the experts' products B A in place of their factors."""
    experts = products(world.layout, world.experts)
    zoo = replace(world.zoo, means=experts, variances=np.zeros_like(experts))
    rows = {
        f"{name} of products": world.made(
            fit_generator(world.config.generator, name, zoo, world.seed)
        )
        for name in ("soup", "topk", "ridge")
    }
    rows["own product's nearest point in the experts' span"] = projected(
        experts, products(world.layout, own)
    )
    return {name: world.measured(*unfactored(world.layout, some)) for name, some in rows.items()}
