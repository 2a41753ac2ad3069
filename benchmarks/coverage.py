"""How often 95 % intervals hold the truth, by clients and seeds: the choice of interval in 0012.

    python benchmarks/coverage.py [--trials 4000]

Writes ``benchmarks/results/coverage.json`` and prints both tables. A few minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from sglora_fed.results.statistics import COVERAGE, estimate

RESULT = Path(__file__).parent / "results" / "coverage.json"
CLIENTS = (2, 4, 8, 12, 20, 40)
SEEDS = (2, 3, 5)
CLIENT_SPREADS = (0.0, 1.0)
"""Standard deviation between clients: a difference may be the same for all, a mean is not."""

SEED_SPREADS = (0.0, 0.5, 1.0)
"""Standard deviation between seeds; that of the rest is a half."""

RESAMPLES = 999
EXAMPLES = 60
"""Test examples of a client, which is why its accuracy is a step and not any number."""

Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
Covers = Callable[[np.ndarray, float], np.ndarray]
"""([trials, clients, seeds], truth) -> [trials] whether the interval holds the truth."""


def middling(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Accuracies around .6."""
    return rng.binomial(EXAMPLES, rng.beta(6, 4, shape)) / EXAMPLES


def near_ceiling(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Accuracies around .95, many of them 1: as skewed as it gets."""
    return rng.binomial(EXAMPLES, rng.beta(19, 1, shape)) / EXAMPLES


def differences(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Paired differences: one method is 3 points better, on examples of their own luck."""
    base, gain = rng.beta(12, 5, shape), rng.normal(0.03, 0.04, shape)
    ours = rng.binomial(EXAMPLES, np.clip(base + gain, 0, 1))
    return (ours - rng.binomial(EXAMPLES, base)) / EXAMPLES


WORLDS: Mapping[str, Draw] = {
    "accuracy .6": middling,
    "accuracy .95": near_ceiling,
    "paired difference": differences,
}


def student(values: np.ndarray, truth: float) -> np.ndarray:
    """The intervals of the library."""
    found = [estimate(own) for own in values]
    return np.array([abs(one.mean - truth) <= (one.half or 0.0) for one in found])


def bootstrapped(method: str) -> Covers:
    """Scipy's bootstrap of [trials, clients, 1] values; an interval it cannot make covers not."""

    def covers(values: np.ndarray, truth: float) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            found = [_bootstrap(own[:, 0], method) for own in values]
        return np.array([low <= truth <= high for low, high in found])

    return covers


def _bootstrap(values: np.ndarray, method: str) -> tuple[float, float]:
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    found = stats.bootstrap((values,), np.mean, n_resamples=RESAMPLES, method=method, rng=0)
    return found.confidence_interval.low, found.confidence_interval.high


def means_only(values: np.ndarray, truth: float) -> np.ndarray:
    """Student's interval of clients' means over seeds: as if other seeds gave the same."""
    return student(values.mean(axis=2, keepdims=True), truth)


def pooled(values: np.ndarray, truth: float) -> np.ndarray:
    """Student's interval of all cells: as if each seed had clients of its own."""
    return student(values.reshape(len(values), -1, 1), truth)


ONE_SEED: Mapping[str, Covers] = {
    "percentile": bootstrapped("percentile"),
    "BCa": bootstrapped("BCa"),
    "Student": student,
}
SEVERAL_SEEDS: Mapping[str, Covers] = {
    "pooled": pooled,
    "means of seeds": means_only,
    "two levels": student,
}


def over_clients(trials: int) -> Iterator[dict[str, Any]]:
    """One seed: coverage by world and number of clients."""
    for world, draw in WORLDS.items():
        truth = float(draw(np.random.default_rng(1), (2_000_000, 1)).mean())
        for clients in CLIENTS:
            rng = np.random.default_rng([2, clients])
            values = np.stack([draw(rng, (clients, 1)) for _ in range(trials)])
            shares = {name: _share(covers(values, truth)) for name, covers in ONE_SEED.items()}
            yield {"world": world, "clients": clients, **shares}


def over_seeds(trials: int) -> Iterator[dict[str, Any]]:
    """Several seeds that change all clients at once: coverage of a planted mean of 0."""
    for seeds, own, common in product(SEEDS, CLIENT_SPREADS, SEED_SPREADS):
        for clients in CLIENTS:
            rng = np.random.default_rng([3, seeds, clients])
            values = crossed(rng, (trials, clients, seeds), own, common)
            shares = {name: _share(covers(values, 0)) for name, covers in SEVERAL_SEEDS.items()}
            spreads = {"client_spread": own, "seed_spread": common}
            yield {"seeds": seeds, **spreads, "clients": clients, **shares}


def crossed(
    rng: np.random.Generator, shape: tuple[int, int, int], client_spread: float, seed_spread: float
) -> np.ndarray:
    """[trials, clients, seeds] effects of client and seed and a rest, of mean 0."""
    trials, clients, seeds = shape
    own, common = rng.normal(size=(trials, clients, 1)), rng.normal(size=(trials, 1, seeds))
    return client_spread * own + seed_spread * common + 0.5 * rng.normal(size=shape)


def _share(hits: np.ndarray) -> float:
    return round(float(np.mean(hits)), 3)


def table(rows: list[dict[str, Any]]) -> str:
    """Rows in Markdown."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=4000)
    parser.add_argument("--output", type=Path, default=RESULT)
    asked = parser.parse_args()
    found = {
        "nominal": COVERAGE,
        "trials": asked.trials,
        "one_seed": list(over_clients(asked.trials)),
        "several_seeds": list(over_seeds(asked.trials)),
    }
    asked.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(found["one_seed"]), table(found["several_seeds"]), sep="\n\n")


if __name__ == "__main__":
    main()
