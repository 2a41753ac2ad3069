"""How many liars are found among a zoo's real experts, and how many honest experts with them.

    python benchmarks/bench_screening.py ZOO

ZOO is the folder of a zoo of honest experts (of the main job, say: ``sglora-fed zoo build``).
Writes ``benchmarks/results/screening.json``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import machine
from sglora_fed.adapters.layout import Layout
from sglora_fed.zoo import Zoo, read_store, trusted
from study_replies import negated

DRAWS = 10
NODES, HONEST = 5, 8
"""One node of five lies, and has all experts that are not among the few of the four others."""

CROWDS = (12, 24, 40, 70, 120)
SHARES = (0.0, 0.02, 0.1, 0.3, 0.43, 0.49)


def shares(zoo: Zoo, layout: Layout, liars: int, owners: Sequence[str]) -> list[float]:
    """Distrusted among the liars and among the honest."""
    vectors = np.concatenate([negated(zoo.means[:liars], layout), zoo.means[liars:]])
    doubted = ~trusted(zoo.embeddings, vectors, layout, owners)
    return [float(doubted[:liars].mean()) if liars else 0.0, float(doubted[liars:].mean())]


def crowd(zoo: Zoo, layout: Layout, experts: int, liars: int) -> list[float]:
    """Means over draws of experts that are a node each."""
    found = []
    for draw in range(DRAWS):
        rows = np.random.default_rng(draw).choice(len(zoo.ids), experts, replace=False)
        some = zoo.select(rows)
        found.append(shares(some, layout, liars, some.ids))
    return [round(float(value), 3) for value in np.mean(found, axis=0)]


def big_node(zoo: Zoo, layout: Layout) -> list[float]:
    """Means over draws where one node has many experts and flips them all."""
    liars, found = len(zoo.ids) - (NODES - 1) * HONEST, []
    owners = ["liar"] * liars + [f"node-{row // HONEST}" for row in range((NODES - 1) * HONEST)]
    for draw in range(DRAWS):
        some = zoo.select(np.random.default_rng(draw).permutation(len(zoo.ids)))
        found.append(shares(some, layout, liars, owners))
    return [round(float(value), 3) for value in np.mean(found, axis=0)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("zoo", type=Path, help="folder of a zoo of honest experts")
    store = read_store(parser.parse_args(arguments).zoo)
    zoo, layout = store.load(), Layout.from_dict(store.identity.layout)
    rows = [
        {"nodes": experts, "liars": liars, "found": found, "honest_distrusted": wrong}
        for experts in (size for size in CROWDS if size <= len(zoo.ids))
        for liars in sorted({int(share * experts) for share in SHARES})
        for found, wrong in [crowd(zoo, layout, experts, liars)]
    ]
    found, wrong = big_node(zoo, layout)
    node = {"nodes": NODES, "honest_each": HONEST, "found": found, "honest_distrusted": wrong}
    values = {"experts": len(zoo.ids), "draws": DRAWS, "one_expert_each": rows, "big_node": node}
    print(json.dumps(values, indent=1))
    machine.write("screening", machine.facts("numpy", "scipy") | values)


if __name__ == "__main__":
    main()
