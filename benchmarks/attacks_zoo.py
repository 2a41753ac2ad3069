"""What a generated adapter tells of the experts' pairs, of the experts, and what a round tells.

    python benchmarks/attacks_zoo.py [--experts 12] [--pairs 64] [--rounds 10] [--shadows 16]

Seventeen federations of the same cameras, each with a random half of every expert's pairs: one is
attacked, the others are the attacker's shadows. Writes ``results/attacks-zoo.json``. Five minutes
on one core at these sizes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

import machine
from sglora_fed.adapters.batched import adapted
from sglora_fed.adapters.data import Prepared, prepare
from sglora_fed.adapters.layout import Layout
from sglora_fed.adapters.start import federation_start
from sglora_fed.adapters.training import train_adapters
from sglora_fed.backbones import load_backbone, load_describer
from sglora_fed.backbones.types import DualEncoder
from sglora_fed.config import RunConfig, compose
from sglora_fed.federation.layouts import run_layout
from sglora_fed.federation.rounds import rate_of_round
from sglora_fed.generators.functional import Functional
from sglora_fed.privacy.attacks import (
    Separation,
    alignment,
    calibrated,
    expert_in_zoo,
    explained,
    lira,
    logits,
    rmia,
    separation,
)
from sglora_fed.seeds import derive_seed
from sglora_fed.tasks import load_family
from sglora_fed.tasks.cameras.captions import CAPTIONS
from sglora_fed.tasks.types import Task
from sglora_fed.zoo import Zoo

POPULATION = 32
"""Pairs of each expert that no model sees: RMIA compares with them."""

TOGETHER = 64
"""Single gradients in one backward pass."""


@dataclass(frozen=True)
class World:
    """What all federations share.

    Attributes:
        config: of the run.
        encoder: the frozen backbone.
        layout: of the adapters.
        tasks: the experts.
        wordings: [E, W, d] of their descriptions.
        pools: for each expert its pairs: those that may be seen, then the population.
        captions: [C, dim] unit embeddings of all captions.
        pairs: of each expert that one federation sees; twice as many may be seen.
    """

    config: RunConfig
    encoder: DualEncoder
    layout: Layout
    tasks: tuple[Task, ...]
    wordings: np.ndarray
    pools: tuple[Prepared, ...]
    captions: torch.Tensor
    pairs: int

    def zoo(self, rows: Sequence[int]) -> Zoo:
        """Some experts, before they have learnt anything."""
        empty = np.zeros((len(rows), self.layout.size), np.float32)
        examples = np.full(len(rows), self.pairs)
        names = tuple(self.tasks[row].id for row in rows)
        return Zoo(names, self.wordings[list(rows)], empty, empty, examples)


def world(experts: int, pairs: int) -> World:
    """Cameras whose experts have twice the pairs and a population."""
    sizes = [f"family.experts={experts}", f"family.train_per_client={2 * pairs + POPULATION}"]
    config = compose([*sizes, "family.clients_per_split=1", "family.test_per_client=4"])
    encoder = load_backbone(config.backbone, config.adapter)
    tasks = load_family(config.family).of_role("expert")
    describer = load_describer(config.backbone)
    wordings = [describer.encode([task.description, *task.paraphrases]) for task in tasks]
    prepared = encoder.prepare_texts(list(CAPTIONS))
    with torch.no_grad():
        captions = encoder.encode_texts(prepared, 1)
    pools = tuple(prepare(encoder, task, task.train) for task in tasks)
    layout = run_layout(config)
    return World(config, encoder, layout, tuple(tasks), np.stack(wordings), pools, captions, pairs)


def some(pool: Prepared, rows: np.ndarray) -> Prepared:
    """Some pairs of a pool."""
    items, texts = [pool.items[i] for i in rows], [pool.texts[i] for i in rows]
    numbers = np.arange(len(rows))
    return Prepared(items, texts, numbers, numbers, pool.kind)


@dataclass(frozen=True)
class Trained:
    """Federations after their rounds, the first of them the attacked one.

    Attributes:
        generators: one each.
        starts: [E, D] the attacked one's experts before the last round.
        updates: [E, D] what they sent in it.
    """

    generators: list[Functional]
    starts: np.ndarray
    updates: np.ndarray


def train(one: World, members: np.ndarray, rounds: int) -> Trained:
    """Train a generator for each federation, all in the same batches.

    Args:
        one: the world.
        members: [M, E, 2 n] bool: which federation sees which pair.
        rounds: of ``federation.generator_steps`` steps.
    """
    count, experts = members.shape[:2]
    rows, start = np.arange(experts), federation_start(one.layout, 0)[0]
    parts = [some(one.pools[e], np.flatnonzero(own[e])) for own in members for e in rows]
    generators = [Functional(one.config.generator) for _ in range(count)]
    for generator in generators:
        generator.begin(one.zoo(rows.tolist()), one.layout, start)
    federation = replace(one.config.federation, generator_rounds=rounds)
    for number in range(1, rounds + 1):
        said = one.wordings[rows, number % one.wordings.shape[1]]
        starts = np.concatenate([generator.starts(rows, said) for generator in generators])
        rate = rate_of_round(number, federation) * one.config.adapter.train.lr
        settings = replace(
            one.config.adapter.train, steps=federation.generator_steps, lr=rate, checkpoints=1
        )
        seeds = [derive_seed(0, "round", number, place) for place in range(len(parts))]
        made = train_adapters(one.encoder, one.layout, starts, parts, settings, seeds).final
        updates = (made - starts).reshape(count, experts, -1)
        for generator, update in zip(generators, updates, strict=True):
            generator.learn(rows, update)
        print(f"round {number} of {rounds}", flush=True)
    return Trained(generators, starts[:experts], updates[0])


def scores(one: World, adapters: np.ndarray, pools: Sequence[Prepared]) -> np.ndarray:
    """[n, rows] log-probability of each pair's caption among all, under its expert's adapter."""
    found = []
    for adapter, pool in zip(adapters, pools, strict=True):
        vector = torch.from_numpy(adapter[None]).to(one.encoder.device)
        with torch.no_grad(), adapted(one.encoder.model, one.layout, vector):
            items = one.encoder.encode_items(pool.items, 1)
        logs = torch.log_softmax(one.encoder.scale * items @ one.captions.T, dim=1)
        right = (own_captions(one, pool) @ one.captions.T).argmax(dim=1)
        found.append(logs[torch.arange(len(right)), right].cpu().numpy())
    return np.stack(found)


def own_captions(one: World, pool: Prepared) -> torch.Tensor:
    """[n, dim] of the pairs' own captions."""
    with torch.no_grad():
        return one.encoder.encode_texts(pool.texts, 1)


def gradients(one: World, start: np.ndarray, pool: Prepared) -> np.ndarray:
    """[n, D] of each pair's own loss against all captions, at the start of a round."""
    found = []
    right = (own_captions(one, pool) @ one.captions.T).argmax(dim=1)
    for first in range(0, len(pool), TOGETHER):
        items = pool.items[first : first + TOGETHER]
        copies = torch.from_numpy(start).expand(len(items), -1).clone().requires_grad_(True)
        with adapted(one.encoder.model, one.layout, copies.to(one.encoder.device)):
            encoded = one.encoder.encode_items(items, len(items))
            logs = torch.log_softmax(one.encoder.scale * encoded @ one.captions.T, dim=1)
            loss = -logs[torch.arange(len(items)), right[first : first + TOGETHER]].sum()
            found.append(torch.autograd.grad(loss, copies)[0].cpu().numpy())
    return np.concatenate(found)


def membership(one: World, trained: Trained, members: np.ndarray) -> Iterator[dict[str, Any]]:
    """Pairs of experts, through what the generator makes of their descriptions."""
    visible = 2 * one.pairs
    descriptions = one.zoo(range(len(one.tasks))).embeddings
    rows = np.arange(len(one.tasks))
    logs = np.stack(
        [scores(one, g.starts(rows, descriptions), one.pools) for g in trained.generators]
    )
    seen = logs[:, :, :visible].reshape(len(logs), -1)
    others = logs[:, :, visible:].reshape(len(logs), -1)
    inside = members.reshape(len(members), -1)
    target, shadows, known = seen[0], seen[1:], inside[1:]
    tried = {
        "loss": target,
        "calibrated": calibrated(logits(target), logits(shadows), known),
        "RMIA": rmia(target, shadows, known, others[0], others[1:]),
        "LiRA": lira(logits(target), logits(shadows), known),
    }
    for name, found in tried.items():
        apart = separation(found[inside[0]], found[~inside[0]])
        yield line(f"a generated adapter: {name}", apart)


def from_update(one: World, trained: Trained, members: np.ndarray) -> Iterator[dict[str, Any]]:
    """Pairs of experts, through what they sent in the last round."""
    visible = np.arange(2 * one.pairs)
    tried: dict[str, list[np.ndarray]] = {"cosine with a pair's step": [], "sum of steps": []}
    for expert, pool in enumerate(one.pools):
        steps = gradients(one, trained.starts[expert], some(pool, visible))
        update = trained.updates[expert]
        tried["cosine with a pair's step"].append(alignment(update, steps))
        tried["sum of steps"].append(explained(update, steps))
    ends = scores(
        one, trained.starts + trained.updates, [some(pool, visible) for pool in one.pools]
    )
    tried["loss after the round"] = list(ends)
    for name, rows in tried.items():
        found, inside = np.concatenate(rows), members[0].ravel()
        yield line(f"an update: {name}", separation(found[inside], found[~inside]))


def experts_in_zoo(one: World, rounds: int) -> dict[str, Any]:
    """Half of the experts train a generator; all have an adapter of their own."""
    everybody = np.arange(len(one.tasks))
    inside = np.random.default_rng(1).permutation(everybody) < len(everybody) // 2
    rows = everybody[inside]
    half = replace(
        one,
        tasks=tuple(one.tasks[row] for row in rows),
        wordings=one.wordings[rows],
        pools=tuple(one.pools[row] for row in rows),
    )
    members = np.zeros((1, len(rows), 2 * one.pairs), bool)
    members[:, :, : one.pairs] = True
    generator = train(half, members, rounds).generators[0]
    parts = [some(pool, np.arange(one.pairs)) for pool in one.pools]
    start = federation_start(one.layout, 0)
    seeds = [derive_seed(0, "own", row) for row in range(len(everybody))]
    # As many steps as in the rounds.
    steps = rounds * one.config.federation.generator_steps
    settings = replace(one.config.adapter.train, steps=steps, checkpoints=1)
    own = train_adapters(one.encoder, one.layout, start, parts, settings, seeds)
    made = generator.starts(everybody, one.zoo(everybody.tolist()).embeddings)
    return line("a generated adapter: was the expert there", expert_in_zoo(made, own.final, inside))


def line(attack: str, found: Separation) -> dict[str, Any]:
    """A line of the table."""
    return {
        "attack": attack,
        "auc": round(found.auc, 4),
        "standard_error": round(found.standard_error, 4),
        **{f"tpr at {rate:g}": round(tpr, 4) for rate, tpr in found.tpr_at.items()},
        "members": found.positives,
        "others": found.negatives,
    }


def draw_members(experts: int, pairs: int, shadows: int) -> np.ndarray:
    """[1 + shadows, E, 2 n] bool: each sees half of an expert's pairs.

    Every other shadow sees what the one before has not: each pair is in half of the shadows.
    """
    count = 1 + shadows // 2
    half = np.broadcast_to(np.arange(2 * pairs) < pairs, (count, experts, 2 * pairs))
    drawn = np.random.default_rng(0).permuted(half, axis=2)
    return np.concatenate([drawn, ~drawn[1:]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experts", type=int, default=12)
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--shadows", type=int, default=16)
    asked = parser.parse_args()
    one = world(asked.experts, asked.pairs)
    members = draw_members(asked.experts, asked.pairs, asked.shadows)
    trained = train(one, members, asked.rounds)
    rows = [*membership(one, trained, members), *from_update(one, trained, members)]
    rows.append(experts_in_zoo(one, asked.rounds))
    for found in rows:
        print(found)
    machine.write(
        "attacks-zoo", {**machine.facts("sglora-fed", "torch"), **vars(asked), "rows": rows}
    )


if __name__ == "__main__":
    main()
