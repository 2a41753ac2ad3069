"""Pool the seeds of the study into one page with tables and figures.

    python benchmarks/study_table.py

Reads ``benchmarks/results/study-*.json`` and writes ``benchmarks/results/study.md`` and the figures
beside it. Every seed has tasks of its own, so all clients of all seeds are the sample.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from machine import RESULTS
from sglora_fed.results.statistics import Estimate, estimate
from study_figures import curves

EARLIER = "an earlier version: rank 4, FedAvg without momentum"
ARMS = (
    ("clinc150-rules-phrases", "CLINC150 rules, the client's own words in the candidate texts"),
    ("clinc150-rules-none", "CLINC150 rules, labels alone"),
    ("hwu64-rules-phrases", "HWU64 rules, the client's own words in the candidate texts"),
    ("clinc150-styles-phrases", "CLINC150 writing styles, labels as the client writes as well"),
    ("hwu64-styles-phrases", "HWU64 writing styles, labels as the client writes as well"),
    ("hwu64-styles-96-phrases", "HWU64 writing styles, 96 experts"),
    ("clinc150-styles-none", f"CLINC150 writing styles, labels alone ({EARLIER})"),
)
MAIN = ARMS[0][0]
RIVALS = ("described", "topk", "ridge", "shared_lora", "local_20shot", "central", "oracle")
BASES = ("topk", "ridge", "sglora", "shared_lora", "oracle")
"""What a change is held against, by how its name begins; else `functional`."""

ROUNDS = 20


@dataclass(frozen=True)
class Pool:
    """All seeds of one data set and kind."""

    seeds: tuple[dict[str, Any], ...]

    @cached_property
    def splits(self) -> list[str]:
        return list(dict.fromkeys(split for seed in self.seeds for split in seed["splits"]))

    def values(self, part: str, name: str, split: str | None = None) -> np.ndarray:
        """[clients] of one split, or of all."""
        found = [
            value
            for seed in self.seeds
            for value, own in zip(seed[part][name], seed["splits"], strict=True)
            if split in (own, None)
        ]
        return 100 * np.array(found)

    def names(self, part: str) -> list[str]:
        """Those that every seed has."""
        first, *others = (seed.get(part, {}) for seed in self.seeds)
        return [name for name in first if all(name in found for found in others)]


def load(arm: str) -> Pool | None:
    paths = [path for seed in range(9) if (path := RESULTS / f"study-{arm}-{seed}.json").exists()]
    found = tuple(json.loads(path.read_text(encoding="utf-8")) for path in paths)
    return Pool(found) if found else None


def interval(values: np.ndarray) -> Estimate:
    return estimate(values[:, None])


def bracket(found: Estimate, digits: int = 1) -> str:
    low, high = found.bounds or (np.nan, np.nan)
    return f"{found.mean:+.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def table(head: Sequence[str], rows: Iterator[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def methods_table(pool: Pool, part: str) -> str:
    """Means with half of the interval."""

    def rows() -> Iterator[list[str]]:
        for name in pool.names(part):
            cells = []
            for split in pool.splits:
                found = interval(pool.values(part, name, split))
                cells.append(f"{found.mean:.1f} ± {found.half:.1f}")
            yield [name, *cells]

    return table([part, *pool.splits], rows())


def difference(pool: Pool, own: tuple[str, str], other: tuple[str, str], split: str | None) -> str:
    found = interval(pool.values(*own, split) - pool.values(*other, split))
    return bracket(found)


def differences_table(pool: Pool) -> str:
    pairs = [("functional", rival) for rival in RIVALS if rival in pool.names("methods")]
    pairs.append(("ridge", "topk"))
    return paired(pool, [(("methods", own), ("methods", other)) for own, other in pairs])


def paired(pool: Pool, pairs: Sequence[tuple[tuple[str, str], tuple[str, str]]]) -> str:
    """One row for each pair of (part, name)."""

    def rows() -> Iterator[list[str]]:
        for own, other in pairs:
            cells = [difference(pool, own, other, split) for split in pool.splits]
            yield [f"{own[1]} - {other[1]}", *cells]

    return table(["paired difference", *pool.splits], rows())


def wider_tables(pool: Pool) -> Iterator[str]:
    """Two layers and more words, against the oracle with as many layers."""
    yield "Two layers, and words said in several ways:\n"
    yield methods_table(pool, "wider")
    oracle, rest = ("wider", "oracle, 2 layers, one way"), ("methods", "functional")
    two = [name for name in pool.names("wider") if name.startswith("functional, 2 layers")]
    pairs = [(("wider", name), oracle) for name in two if "threshold" not in name]
    several = ("wider", "functional, 1 layer, several ways")
    yield paired(pool, [*pairs, *((own, rest) for own in (several, *(own for own, _ in pairs)))])


def respelt_tables(pool: Pool) -> Iterator[str]:
    """Training in made-up spellings, against training without."""
    yield "Half of the experts train in a made-up spelling in each round:\n"
    yield methods_table(pool, "respelt")
    names = [(name, name.removesuffix(", respelt")) for name in pool.names("respelt")]
    yield paired(pool, [(("respelt", own), ("methods", other)) for own, other in names])


def variants_table(pool: Pool) -> str:
    """Each change against the method as it is, over all clients and on two splits."""

    def rows() -> Iterator[list[str]]:
        for name in dict.fromkeys(name for seed in pool.seeds for name in seed["variants"]):
            part = Pool(tuple(seed for seed in pool.seeds if name in seed["variants"]))
            base = next((method for method in BASES if name.startswith(method)), "functional")
            base = "sglora" if name == "deterministic twin" else base
            cells = [
                difference(part, ("variants", name), ("methods", base), split)
                for split in (None, "new_rule", "new_topic")
            ]
            yield [name, base, str(len(part.seeds)), *cells]

    return table(["change", "minus", "seeds", "all splits", "new_rule", "new_topic"], rows())


def confidence_table(pool: Pool) -> str:
    """Risk and coverage: the surest clients, and how often and how much they gain."""
    chances = np.concatenate([np.array(seed["confidence"][:-1]) for seed in pool.seeds])
    junk = ", ".join(f"{seed['confidence'][-1]:.2f}" for seed in pool.seeds)
    gains = pool.values("methods", "functional") - pool.values("methods", "shared_lora")
    wins, order = (np.sign(gains) + 1) / 2, np.argsort(-chances, kind="stable")
    brier, base = ((chances - wins) ** 2).mean(), wins.mean() * (1 - wins.mean())

    def rows() -> Iterator[list[str]]:
        for share in (0.25, 0.5, 0.75, 1.0):
            chosen = order[: round(share * len(order))]
            found = interval(gains[chosen])
            yield [
                f"{share:.0%}",
                f"{chances[chosen].min():.2f}",
                f"{chances[chosen].mean():.2f}",
                f"{wins[chosen].mean():.2f}",
                bracket(found),
            ]

    head = [
        "surest clients",
        "p at least",
        "mean p",
        "better than the shared LoRA",
        "points gained",
    ]
    return (
        f"{table(head, rows())}\nBrier score {brier:.3f}, of the mean alone {base:.3f};"
        f" p for a sentence that describes no task: {junk}.\n"
    )


def transfer_table(pool: Pool) -> str:
    parts = tuple(seed["transfer"] for seed in pool.seeds)
    other = Pool(tuple({"splits": part["splits"], "methods": part} for part in parts))

    def rows() -> Iterator[list[str]]:
        for name in ("zero_shot", "described", "functional"):
            cells = [f"{other.values('methods', name, split).mean():.1f}" for split in other.splits]
            yield [name, *cells, f"{other.values('methods', name).mean():.1f}"]
        own, rival = ("methods", "functional"), ("methods", "described")
        cells = [difference(other, own, rival, split) for split in other.splits]
        yield ["functional - described", *cells, difference(other, own, rival, None)]

    return table(["method", *other.splits, "all"], rows())


def cost_table(pool: Pool) -> str:
    """Bytes of a client and of an expert in training; seconds of all together."""
    numbers, seconds = pool.seeds[0]["numbers"], pool.seeds[0]["seconds"]
    size, dim, rank = numbers["D"], numbers["d"], pool.seeds[0]["directions"]
    first = numbers["shared_rounds"]
    own = ROUNDS - first
    once = f"{4 * dim / 1000:.1f} up, {2 * size / 1000:.1f} down"
    enrolled = (4 * 6 * dim + 8 * size) / 1000
    expert = f"{enrolled:.0f} up"
    fedavg = 8 * size / 1000, 4 * size / 1000
    boosting = own * 2 * size / 1000, own * (2 * (rank + 1) * size + 4 * dim * rank) / 1000
    started = seconds["shared_lora"] * first / ROUNDS
    lines = [
        ["zero_shot, described", "0", "0", "0", ""],
        ["local fine-tuning, 20 examples a class", "0", "0", "50", ""],
        ["oracle", "0", "0", "100", f"{seconds['oracle']:.0f}"],
        ["soup, nearest, topk, ridge", once, expert, "0", f"{seconds['zoo']:.0f}"],
        ["sglora", once, expert, "0", f"{seconds['zoo'] + seconds['fit sglora']:.0f}"],
        [
            f"shared_lora, {ROUNDS} rounds",
            f"{2 * size / 1000:.1f} down",
            f"{ROUNDS * fedavg[0]:.0f} up, {ROUNDS * fedavg[1]:.0f} down",
            "0",
            f"{seconds['shared_lora']:.0f}",
        ],
        [
            f"functional, {own} rounds after {first} of FedAvg",
            once,
            f"{enrolled + first * fedavg[0] + boosting[0]:.0f} up,"
            f" {first * fedavg[1] + boosting[1]:.0f} down",
            "0",
            f"{seconds['zoo'] + started + seconds['functional without its start']:.0f}",
        ],
    ]
    head = [
        "method",
        "client, kB",
        "expert, kB",
        "client's training steps",
        "seconds, all together",
    ]
    return table(head, iter(lines))


def agreement_table() -> str:
    """The same seed on both devices."""
    found = json.loads((RESULTS / "study-agreement.json").read_text(encoding="utf-8"))

    def rows() -> Iterator[list[str]]:
        for name in found["cpu"]:
            cpu, gpu = (100 * np.array(found[device][name]) for device in ("cpu", "gpu"))
            apart = interval(cpu - gpu)
            cells = [f"{gpu.mean():.2f}", f"{cpu.mean():.2f}"]
            yield [name, *cells, bracket(apart, 2)]

    return table(["method", "GPU", "CPU", "CPU - GPU"], rows())


def page() -> Iterator[str]:
    """The report, part by part."""
    yield "# Study of the generators\n"
    yield (
        "Made by `python benchmarks/study_table.py` from `study-*.json` beside it (made by"
        " `python benchmarks/study.py`, arguments in each file). Accuracy in %, ± half of the 95 %"
        " interval (Student's) over clients; differences are paired, in points. Rules: 64 experts,"
        " 320 examples each, 20 clients a split and seed, 20 rounds of 10 local steps of 32 each"
        " (for `functional` 16 of FedAvg, then 4 of its own; with labels alone 1 and 19);"
        " experts' rules are sets of three"
        " topics, so `one_topic`, `five_topics`, `exception` and `priority` are forms that no"
        " expert has. Styles: 40 experts, 1,000"
        " examples each, all layers, rank 16, 16 clients a split and seed, 10 rounds of FedAvg,"
        " then 10; with 96 experts one style a seed is unseen instead of two, and has 13 clients."
        " Where HWU64 styles lack the oracle, its run was cut short. Seeds 3, 4 and"
        " 5: nothing was chosen by their"
        " results (the design was, by seeds 0 and 1).\n"
    )
    for arm, words in ARMS:
        if pool := load(arm):
            devices = ", ".join(sorted({seed["device"] for seed in pool.seeds}))
            yield f"## {words}\n\n{len(pool.seeds)} seeds, {devices}.\n"
            yield from (methods_table(pool, "methods"), differences_table(pool))
            if pool.names("wider"):
                yield from wider_tables(pool)
            if pool.names("respelt"):
                yield from respelt_tables(pool)
            if pool.names("controls"):
                yield "Descriptions without a task, of somebody else, or in other words:\n"
                yield methods_table(pool, "controls")
            yield f"`functional` by rounds:\n\n{methods_table(pool, 'rounds')}"
            if pool.names("shared_rounds"):
                yield f"`shared_lora` by rounds:\n\n{methods_table(pool, 'shared_rounds')}"
            if pool.names("confidence"):
                yield f"Confidence and what it is worth:\n\n{confidence_table(pool)}"
    yield from extras()


def extras() -> Iterator[str]:
    main = load(MAIN)
    if main is None:
        return
    curves(main, RESULTS / "study-curves.png")
    yield "## Learning curves\n\n![accuracy over experts and rounds](study-curves.png)\n"
    yield "Dotted: all data in one place.\n"
    yield f"## One change at a time\n\n{variants_table(main)}"
    yield f"## HWU64 rules for a generator of CLINC150 experts\n\n{transfer_table(main)}"
    yield f"## Bytes and compute\n\n{cost_table(main)}"
    yield f"## GPU and CPU, seed 3\n\n{agreement_table()}"


if __name__ == "__main__":
    path = Path(RESULTS / "study.md")
    path.write_text("\n".join(page()), encoding="utf-8")
    print(path)
