"""What a generated adapter tells of the experts' pairs, of the experts, and what a round tells.

    python benchmarks/attacks_zoo.py [--experts 12] [--pairs 64] [--rounds 10] [--shadows 16]
    python benchmarks/attacks_zoo.py --experts 48 --pairs 256 1024 --rounds 20 --epsilon 0 8

Seventeen federations of the same cameras, each with a random half of every expert's pairs: one is
attacked, the others are the attacker's shadows. An eighteenth sees none of these pairs: attacks
that find members there are wrong. With epsilons all train by DP-SGD, as ``experiment=private``
does (0: without noise), from 1,024 pairs on with the settings that ``study_dp.py`` has for so many.
Writes ``results/attacks-zoo.json``, or ``attacks-zoo-private.json``. Five minutes on one core at
the first sizes, hours at the others: ``--device cuda``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch

import machine
from attacks_zoo_table import line, told
from sglora_fed.adapters.batched import adapted
from sglora_fed.adapters.data import Prepared, prepare, prepare_separable
from sglora_fed.adapters.layout import Layout
from sglora_fed.adapters.private import PrivateTraining, train_privately
from sglora_fed.adapters.start import federation_start
from sglora_fed.adapters.training import train_adapters
from sglora_fed.backbones import load_backbone, load_describer
from sglora_fed.backbones.types import DualEncoder
from sglora_fed.config import RunConfig, compose
from sglora_fed.federation.layouts import run_layout
from sglora_fed.federation.rounds import rate_of_round
from sglora_fed.generators.functional import Functional
from sglora_fed.privacy.attacks import (
    alignment,
    calibrated,
    expert_in_zoo,
    explained,
    lira,
    logits,
    rmia,
)
from sglora_fed.promises import example_promise
from sglora_fed.seeds import derive_seed
from sglora_fed.tasks import load_family
from sglora_fed.tasks.cameras.captions import CAPTIONS
from sglora_fed.tasks.types import Task
from sglora_fed.zoo import Zoo
from study_dp import LARGE

MANY = 1024
"""Pairs of an expert from which on the settings for many are used."""

PARTS = 3
"""Times as many pairs as an expert has: two parts may be seen, RMIA compares with the third."""

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
        pools: for each expert its 3 n pairs: those that may be seen, then the population.
        places: [E, pool] each pair's caption among all.
        captions: [C, dim] unit embeddings of all captions.
        pairs: of each expert that one federation sees; twice as many may be seen.
        sigma: noise multiplier of DP-SGD, None without.
    """

    config: RunConfig
    encoder: DualEncoder
    layout: Layout
    tasks: tuple[Task, ...]
    wordings: np.ndarray
    pools: tuple[Prepared, ...]
    places: np.ndarray
    captions: torch.Tensor
    pairs: int
    sigma: float | None

    def zoo(self, rows: Sequence[int]) -> Zoo:
        """Some experts, before they have learnt anything."""
        empty = np.zeros((len(rows), self.layout.size), np.float32)
        examples = np.full(len(rows), self.pairs)
        names = tuple(self.tasks[row].id for row in rows)
        return Zoo(names, self.wordings[list(rows)], empty, empty, examples)


def world(asked: argparse.Namespace) -> World:
    """Cameras whose experts have twice the pairs and a population."""
    config = compose(overrides(asked))
    encoder = load_backbone(config.backbone, config.adapter)
    tasks = load_family(config.family).of_role("expert")
    describer = load_describer(config.backbone)
    wordings = [describer.encode([task.description, *task.paraphrases]) for task in tasks]
    prepared = encoder.prepare_texts(list(CAPTIONS))
    with torch.no_grad():
        captions = encoder.encode_texts(prepared, 1)
    pools = [
        prepare_separable(encoder, task, task.train, "none", CAPTIONS)
        if asked.epsilon
        else prepare(encoder, task, task.train)
        for task in tasks
    ]
    numbers = {caption: number for number, caption in enumerate(CAPTIONS)}
    return World(
        config=config,
        encoder=encoder,
        layout=run_layout(config),
        tasks=tuple(tasks),
        wordings=np.stack(wordings),
        pools=tuple(pools),
        places=np.array([[numbers[pair.label] for pair in task.train] for task in tasks]),
        captions=captions,
        pairs=asked.pairs,
        sigma=noise(asked, config) if asked.epsilon else None,
    )


def overrides(asked: argparse.Namespace) -> list[str]:
    """The run's configuration; the private one with its own adapters and rounds."""
    large = LARGE if asked.pairs >= MANY else ()
    private = ["experiment=private", *large, f"privacy.training.epsilon={asked.epsilon}"]
    return [
        *(private if asked.epsilon else []),
        f"family.experts={asked.experts}",
        f"family.train_per_client={PARTS * asked.pairs}",
        "family.clients_per_split=1",
        "family.test_per_client=4",
        f"federation.generator_rounds={asked.rounds}",
        f"backbone.device={asked.device}",
    ]


def noise(asked: argparse.Namespace, config: RunConfig) -> float:
    """The noise multiplier that keeps the promise over all rounds."""
    steps = asked.rounds * config.federation.generator_steps
    batch, clip = config.adapter.train.batch_size, config.privacy.training.clip
    return example_promise(asked.epsilon, None, asked.pairs, batch, steps, clip).sigma


def some(pool: Prepared, rows: np.ndarray) -> Prepared:
    """Some pairs of a pool."""
    items, numbers = [pool.items[i] for i in rows], np.arange(len(rows))
    if pool.kind == "labelled":
        return Prepared(items, pool.texts, pool.owners, pool.targets[rows], pool.kind)
    return Prepared(items, [pool.texts[i] for i in rows], numbers, numbers, pool.kind)


def taught(
    one: World, starts: np.ndarray, parts: Sequence[Prepared], number: int, steps: int
) -> np.ndarray:
    """[n, D] adapters after an expert's part of a round."""
    share = rate_of_round(number, one.config.federation)
    settings = replace(one.config.adapter.train, steps=steps, checkpoints=1)
    if one.sigma is None:
        seeds = [derive_seed(0, "round", number, place) for place in range(len(parts))]
        plain = replace(settings, lr=share * settings.lr)
        return train_adapters(one.encoder, one.layout, starts, parts, plain, seeds).final
    privacy = one.config.privacy.training
    quick = replace(settings, lr=share * privacy.lr)
    # On a GPU, as much in one pass as fills it.
    sizes = {"fold": 64, "examples": 8192} if one.encoder.device.type == "cuda" else {}
    private = PrivateTraining(one.encoder, one.layout, quick, privacy, **sizes)
    return train_privately(private, starts, parts, [one.sigma] * len(parts)).final


@dataclass(frozen=True)
class Trained:
    """Federations after their rounds, the first of them the attacked one.

    Attributes:
        generators: one each; the last saw the population alone.
        starts: [E, D] the attacked one's experts before the last round.
        updates: [E, D] what they sent in it.
    """

    generators: list[Functional]
    starts: np.ndarray
    updates: np.ndarray


def train(one: World, members: np.ndarray) -> Trained:
    """Train a generator for each federation, all in the same batches.

    Args:
        one: the world.
        members: [M, E, 3 n] bool: which federation sees which pair.
    """
    count, experts = members.shape[:2]
    rows = np.arange(experts)
    start = federation_start(one.layout, 0)[0]
    parts = [some(one.pools[e], np.flatnonzero(own[e])) for own in members for e in rows]
    generators = [Functional(one.config.generator) for _ in range(count)]
    for generator in generators:
        generator.begin(one.zoo(rows.tolist()), one.layout, start)
    federation = one.config.federation
    for number in range(1, federation.generator_rounds + 1):
        said = one.wordings[rows, number % one.wordings.shape[1]]
        starts = np.concatenate([generator.starts(rows, said) for generator in generators])
        made = taught(one, starts, parts, number, federation.generator_steps)
        updates = (made - starts).reshape(count, experts, -1)
        for generator, update in zip(generators, updates, strict=True):
            generator.learn(rows, update)
        print(f"round {number} of {federation.generator_rounds}", flush=True)
    return Trained(generators, starts[:experts], updates[0])


def scores(one: World, adapters: np.ndarray, count: int) -> np.ndarray:
    """[E, count] log-probability of each pair's caption among all, under its expert's adapter."""
    found = []
    for adapter, pool, places in zip(adapters, one.pools, one.places, strict=True):
        vector = torch.from_numpy(adapter[None]).to(one.encoder.device)
        with torch.no_grad(), adapted(one.encoder.model, one.layout, vector):
            items = one.encoder.encode_items(pool.items[:count], 1)
        logs = torch.log_softmax(one.encoder.scale * items @ one.captions.T, dim=1).cpu().numpy()
        found.append(logs[np.arange(count), places[:count]])
    return np.stack(found)


def gradients(one: World, expert: int, start: np.ndarray, count: int) -> np.ndarray:
    """[count, D] of each pair's own loss against all captions, at the start of a round."""
    found, pool = [], one.pools[expert]
    for first in range(0, count, TOGETHER):
        items = pool.items[first : min(first + TOGETHER, count)]
        copies = torch.from_numpy(start).to(one.encoder.device).expand(len(items), -1).clone()
        copies.requires_grad_(True)
        with adapted(one.encoder.model, one.layout, copies):
            encoded = one.encoder.encode_items(items, len(items))
            logs = torch.log_softmax(one.encoder.scale * encoded @ one.captions.T, dim=1)
            right = torch.from_numpy(one.places[expert, first : first + len(items)])
            loss = -logs[torch.arange(len(items)), right.to(logs.device)].sum()
            found.append(torch.autograd.grad(loss, copies)[0].cpu().numpy())
    return np.concatenate(found)


def membership(one: World, trained: Trained, members: np.ndarray) -> Iterator[dict[str, Any]]:
    """Pairs of experts, through what the generator makes of their descriptions."""
    visible = 2 * one.pairs
    descriptions = one.zoo(range(len(one.tasks))).embeddings
    rows = np.arange(len(one.tasks))
    count = one.places.shape[1]
    logs = np.stack([scores(one, g.starts(rows, descriptions), count) for g in trained.generators])
    seen = logs[:, :, :visible].reshape(len(logs), -1)
    others = logs[:, :, visible:].reshape(len(logs), -1)
    known = members[1:].reshape(len(members) - 1, -1)
    for who, place in (("a generated adapter", 0), ("one that saw no pair", -1)):
        for name, found in attacks(seen, others, known, place).items():
            yield line(f"{who}: {name}", found.reshape(len(rows), -1), members[0])


def attacks(
    seen: np.ndarray, others: np.ndarray, known: np.ndarray, place: int
) -> dict[str, np.ndarray]:
    """Attack -> [records] scores of one federation.

    Args:
        seen: [1 + s + 1, records] log-probabilities: the attacked one, the shadows, the last.
        others: the same of records that neither it nor a shadow saw.
        known: [s, records] which shadow saw which.
        place: of the federation.
    """
    target, shadows = seen[place], seen[1:-1]
    return {
        "loss": target,
        "calibrated": calibrated(logits(target), logits(shadows), known),
        "RMIA": rmia(target, shadows, known, others[place], others[1:-1]),
        "LiRA": lira(logits(target), logits(shadows), known),
    }


def from_update(one: World, trained: Trained, members: np.ndarray) -> Iterator[dict[str, Any]]:
    """Pairs of experts, through what they sent in the last round."""
    visible = 2 * one.pairs
    tried: dict[str, list[np.ndarray]] = {"cosine with a pair's step": [], "sum of steps": []}
    for expert, (start, update) in enumerate(zip(trained.starts, trained.updates, strict=True)):
        steps = gradients(one, expert, start, visible)
        tried["cosine with a pair's step"].append(alignment(update, steps))
        tried["sum of steps"].append(explained(update, steps))
    tried["loss after the round"] = list(scores(one, trained.starts + trained.updates, visible))
    for name, rows in tried.items():
        yield line(f"an update: {name}", np.stack(rows), members[0])


def experts_in_zoo(one: World) -> dict[str, Any]:
    """Half of the experts train a generator; all have an adapter of their own."""
    everybody = np.arange(len(one.tasks))
    inside = np.random.default_rng(1).permutation(everybody) < len(everybody) // 2
    rows = everybody[inside]
    half = replace(
        one,
        tasks=tuple(one.tasks[row] for row in rows),
        wordings=one.wordings[rows],
        pools=tuple(one.pools[row] for row in rows),
        places=one.places[rows],
    )
    members = np.zeros((1, len(rows), PARTS * one.pairs), bool)
    members[:, :, : one.pairs] = True
    generator = train(half, members).generators[0]
    parts = [some(pool, np.arange(one.pairs)) for pool in one.pools]
    federation = one.config.federation
    # As many steps as in the rounds.
    steps = federation.generator_rounds * federation.generator_steps
    starts = np.repeat(federation_start(one.layout, 0), len(everybody), axis=0)
    own = taught(one, starts, parts, 1, steps)
    made = generator.starts(everybody, one.zoo(everybody.tolist()).embeddings)
    found = expert_in_zoo(made, own, inside)
    return told("a generated adapter: was the expert there", found, found.standard_error)


def draw_members(experts: int, pairs: int, shadows: int) -> np.ndarray:
    """[1 + shadows, E, 2 n] bool: each sees half of an expert's pairs.

    Every other shadow sees what the one before has not: each pair is in half of the shadows.
    """
    count = 1 + shadows // 2
    half = np.broadcast_to(np.arange(2 * pairs) < pairs, (count, experts, 2 * pairs))
    drawn = np.random.default_rng(0).permuted(half, axis=2)
    return np.concatenate([drawn, ~drawn[1:]])


def found_in(asked: argparse.Namespace) -> dict[str, Any]:
    """All attacks on one world."""
    one, members = world(asked), draw_members(asked.experts, asked.pairs, asked.shadows)
    all_parts = np.pad(members, ((0, 1), (0, 0), (0, asked.pairs)))
    all_parts[-1, :, 2 * asked.pairs :] = True
    trained = train(one, all_parts)
    rows = [*membership(one, trained, members), *from_update(one, trained, members)]
    if not asked.epsilon:
        # Epsilon is about pairs: that an expert took part is no secret.
        rows.append(experts_in_zoo(one))
    for row in rows:
        print(row, flush=True)
    return {"pairs": asked.pairs, "epsilon": asked.epsilon, "sigma": one.sigma, "rows": rows}


def main() -> None:
    """All attacks on every number of pairs at every epsilon."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experts", type=int, default=12)
    parser.add_argument("--pairs", type=int, nargs="+", default=[64], help="of an expert")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--shadows", type=int, default=16)
    parser.add_argument("--epsilon", type=float, nargs="+", help="of each pair; 0: no noise")
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    name = "attacks-zoo-private" if asked.epsilon else "attacks-zoo"
    facts = machine.facts("sglora-fed", "torch") | vars(asked)
    runs = []
    for pairs, epsilon in product(asked.pairs, asked.epsilon or [None]):
        one = {**vars(asked), "pairs": pairs, "epsilon": epsilon or None}
        runs.append(found_in(argparse.Namespace(**one)))
        machine.write(name, {**facts, "runs": runs})


if __name__ == "__main__":
    main()
