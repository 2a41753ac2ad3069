"""The report of the cameras' study, from what its jobs wrote.

    python benchmarks/study_cameras_table.py [DIR]

With the folder of the jobs' files it first gathers them in ``results/study-cameras.json``. Writes
``results/study-cameras.md`` and ``results/study-cameras.png``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import machine
from sglora_fed.report.drawing import COLOURS, MARKERS, legend, panels, png
from sglora_fed.results.statistics import Estimate
from study_cameras import TUNE
from study_cameras_liar import LIAR
from study_cameras_parts import CENTRAL, MAIN, PARTS, PENALTIES, ROUNDS, TUNING
from study_cameras_pooled import Row, Study, collected, keep, kept, table, told
from study_cameras_sglora import HOME
from study_cameras_world import SPLITS

NAME = "study-cameras"

ORDER = [
    *((part, run) for part, runs in PARTS.items() for run in runs),
    *((TUNE, run) for run in TUNING),
]

WIDER = "shared LoRA, 26 rounds of all experts"

COLOUR = {
    "functional": "#d55e00",
    "ridge": COLOURS["generated"],
    "sglora": "#0072b2",
    "topk": COLOURS["merged"],
    "shared_lora": COLOURS["one for all"],
    "oracle": COLOURS["trained locally"],
}
"""As in a run's own figures, where each method has the colour of its kind."""

CURVES = {
    "experts": ("experts", (12, 24, 48, 74), 48),
    "rounds": ("rounds of 10 local steps", (*ROUNDS[:2], 20, ROUNDS[2]), 20),
    "pairs": ("pairs of each expert and client", (32, 64, 128, 256, 512, 1024), 256),
    "rank": ("rank", (1, 2, 4, 8), 8),
}
"""Part -> what is on its axis, the points of the curve, and that of the main job."""

PAIRS = (
    ("generated_full", "shared_full"),
    ("generated_full", "shared_full, 300 steps"),
    ("sglora", "topk"),
    ("sglora", "adapter_soup"),
    ("shuffled", "zero_shot"),
    ("shuffled", "shared_lora"),
)

IN_SPAN = "own adapter's nearest point in the experts' span"

FUNCTIONAL = Row("methods", MAIN, "functional")

SHUFFLED = Row("methods", MAIN, "shuffled")


def at(part: str, point: int, method: str) -> Row:
    """Where a point of a curve stands."""
    if point == CURVES[part][2]:
        return Row("methods", MAIN, method)
    return Row(part, MAIN, f"{point}") if part == "rounds" else Row(part, f"{point}", method)


def curve_methods(study: Study, part: str) -> list[str]:
    """What a curve shows."""
    if part == "rounds":
        return ["functional"]
    return study.methods(part, f"{CURVES[part][1][0]}")


def on_splits(study: Study, row: Row, other: Row | None = None) -> list[str]:
    """R@1 on each split, or the paired difference to another row."""
    if other is None:
        return [told(study.mean(row, split)) for split in SPLITS]
    return [told(study.less(row, other, split), sign=True) for split in SPLITS]


def methods(study: Study) -> Iterator[str]:
    """All methods, and what lies between them."""
    yield "## All methods\n"
    rows = {name: Row("methods", MAIN, name) for name in study.methods("methods", MAIN)}
    rows[WIDER] = Row("methods", WIDER, "shared_lora")
    seeds = f"{HOME} by seed"
    yield from table(
        ["method", *SPLITS, seeds],
        [
            [name, *on_splits(study, row), study.by_seed(row, None, HOME)]
            for name, row in rows.items()
        ],
    )
    yield "Paired differences to `functional`:\n"
    yield from table(
        ["functional less", *SPLITS, seeds],
        [
            [name, *on_splits(study, FUNCTIONAL, row), study.by_seed(FUNCTIONAL, row, HOME)]
            for name, row in rows.items()
            if row != FUNCTIONAL
        ],
    )
    yield "Other pairs:\n"
    yield from table(
        ["first less second", *SPLITS, seeds],
        [
            [f"{one} less {other}", *on_splits(study, *rows), study.by_seed(*rows, HOME)]
            for one, other in PAIRS
            for rows in [(Row("methods", MAIN, one), Row("methods", MAIN, other))]
        ],
    )


def aims(study: Study) -> Iterator[str]:
    """What the family was made to show, and whether it does."""

    def less(other: Row, split: str = HOME) -> Estimate:
        return study.less(FUNCTIONAL, other, split)

    def named(name: str) -> Row:
        return Row("methods", MAIN, name)

    central = Row("central", CENTRAL[-1].name, "central")
    found = (
        ("`functional` less `oracle` >= 0", less(named("oracle")), 0.0),
        ("`functional` less `shared_lora` >= 40", less(named("shared_lora")), 0.4),
        ("`functional` less `topk` >= 40", less(named("topk")), 0.4),
        (
            "`functional` on `new_words` less on `new_combination` >= -3",
            study.less(FUNCTIONAL, FUNCTIONAL, "new_words", HOME),
            -0.03,
        ),
        (
            "`zero_shot` less `shuffled` >= -2",
            study.less(named("zero_shot"), SHUFFLED, HOME),
            -0.02,
        ),
        ("`functional` less all data in one place >= -2", less(central), -0.02),
        ("24 experts >= 55", study.mean(at("experts", 24, "functional"), HOME), 0.55),
        ("`sglora` less `topk` >= 0", study.less(named("sglora"), named("topk"), HOME), 0.0),
    )
    yield "## What was to be shown\n"
    yield from table(
        ["aim", "found", "the mean", "all of the interval"],
        [
            [aim, told(one, sign=True), _yes(one.mean >= least), _yes(_lowest(one) >= least)]
            for aim, one, least in found
        ],
    )


def _lowest(found: Estimate) -> float:
    return found.mean - (found.half or 0.0)


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def in_one_place(study: Study) -> Iterator[str]:
    """Federated beside central."""
    yield "## All data in one place\n"
    yield (
        "The same map from a description to an adapter, trained by AdamW on all experts' data at"
        " once, from the shared LoRA on. 200 steps are as many as `functional` takes in its 20"
        f" rounds. Rates and weight decay were chosen on `{HOME}` of seed 0, see below.\n"
    )
    rows = [["functional, 20 rounds", *on_splits(study, FUNCTIONAL)]]
    for how in CENTRAL:
        row = Row("central", how.name, "central")
        rows.append([how.name, *on_splits(study, row)])
        rows.append(["functional less this", *on_splits(study, FUNCTIONAL, row)])
    yield from table(["", *SPLITS], rows)
    yield "What was tried on seed 0:\n"
    tried = [[run, *on_splits(study, Row(TUNE, run, "central"))] for run in study.runs(TUNE)]
    yield from table(["training", *SPLITS], tried)


def curves(study: Study) -> Iterator[str]:
    """Learning curves on unseen combinations."""
    yield f"## Learning curves, `{HOME}`\n"
    yield f"![curves]({NAME}.png)\n"
    for part, (axis, points, _) in CURVES.items():
        yield f"### {axis.capitalize()}\n"
        names = curve_methods(study, part)
        yield from table(
            [axis, *names],
            [
                [f"{point}", *(told(study.mean(at(part, point, name), HOME)) for name in names)]
                for point in points
            ],
        )
        if part == "experts":
            yield from few_clients(study)
    yield from penalty(study)


def penalty(study: Study) -> Iterator[str]:
    """The smoother's penalty."""
    yield "### Penalty of the smoother\n"
    yield (
        "`functional` with other values of `generator.smoothing`; 0.02, the configured one, was"
        f" chosen on `{HOME}` of other seeds.\n"
    )
    rows = [(f"{value:g}", Row("penalty", MAIN, f"{value:g}")) for value in PENALTIES]
    rows.insert(1, ("0.02", FUNCTIONAL))
    yield from table(["penalty", *SPLITS], [[name, *on_splits(study, row)] for name, row in rows])


def few_clients(study: Study) -> Iterator[str]:
    """96 experts leave four conditions for clients."""
    yield (
        "Experts have distinct conditions, of which there are 100 once a geometry and a colour are"
        " held out: 26 clients leave 74 experts. 96 experts leave 4 clients a seed, the first of"
        " the 26:\n"
    )
    runs = ("48, 4 clients", "96, 4 clients")
    names = study.methods("experts", runs[0])
    rows = [[run, *(told(study.mean(Row("experts", run, n), HOME)) for n in names)] for run in runs]
    few, many = ([Row("experts", run, name) for name in names] for run in runs)
    pairs = zip(many, few, strict=True)
    less = [told(study.less(more, fewer, HOME), sign=True) for more, fewer in pairs]
    yield from table(["experts", *names], [*rows, ["difference", *less]])


def descriptions(study: Study) -> Iterator[str]:
    """Controls."""
    yield "## Descriptions that are not the client's\n"
    yield (
        "`own` is the client's; `shuffled` another client's; `junk` one sentence about"
        " watering plants; `mean` the direction of the mean of the experts' descriptions. Another"
        " author's words are the split `new_words`.\n"
    )
    rows = [Row("descriptions", MAIN, name) for name in study.methods("descriptions", MAIN)]
    yield from table(
        ["description", *SPLITS], [[row.method, *on_splits(study, row)] for row in rows]
    )


def liar(study: Study) -> Iterator[str]:
    """One lying expert."""
    yield "## One lying expert\n"
    yield (
        f"`{LIAR}`, one of 48, sends the opposite of what it learnt. Paired differences to the run"
        " in which all are honest.\n"
    )
    rows = []
    for lie in study.runs("liar"):
        gone = study.number("liar", lie, "distrusted")
        for method in study.methods("liar", lie):
            row = Row("liar", lie, method)
            other = Row("methods", MAIN, method.removesuffix(", all believed"))
            told_gone = " ".join(f"{value:.0f}" for value in gone)
            rows.append([lie, told_gone, method, *on_splits(study, row, other)])
    yield from table(["the liar", "experts not believed, by seed", "method", *SPLITS], rows)


def sglora(study: Study) -> Iterator[str]:
    """The paper's generator."""
    yield "## The paper's generator: settings\n"
    base = Row("sglora", MAIN, MAIN)
    names = [name for name in study.methods("sglora", MAIN) if not name.startswith("merge")]
    merges = [name for name in study.methods("sglora", MAIN) if name.startswith("merge")]
    yield "`sglora` with one setting changed, and the paired difference to the configured one:\n"
    heads = ["setting", HOME, "difference", "new_words", "difference"]
    yield from table(heads, (_beside(study, name, base) for name in names))
    yield "The merge of the K nearest (`topk`), and its difference to `sglora` as configured:\n"
    yield from table(heads, (_beside(study, name, base) for name in merges))


def _beside(study: Study, name: str, base: Row) -> list[str]:
    row, found = Row("sglora", MAIN, name), [name]
    for split in (HOME, "new_words"):
        found += [told(study.mean(row, split)), told(study.less(row, base, split), sign=True)]
    return found


def reconstruction(study: Study) -> Iterator[str]:
    """What it is worth."""
    yield "## What reconstruction is worth\n"
    yield (
        f"Clients of `{HOME}` trained as experts would have been; R² of other adapters against"
        " these, in the LoRA's parameters and in their effect B A, 1 being equal and 0 the experts'"
        " mean; least and greatest of the seeds where they differ.\n"
    )
    rows = []
    for method in study.methods("reconstruction", MAIN):
        mean = told(study.mean(Row("reconstruction", MAIN, method), HOME))
        rows.append(
            [method, mean, *(_of_seeds(study, f"{method}: {w}") for w in ("parameters", "effects"))]
        )
    yield from table(["adapter", "R@1", "R² of parameters", "R² of effects"], rows)
    yield "Merges of products B A less those of factors, paired:\n"
    pairs = [(f"{name} of products", name) for name in ("soup", "topk", "ridge")]
    pairs.append((IN_SPAN.replace("adapter", "product"), IN_SPAN))
    rows = [
        [name, *on_splits(study, *(Row("reconstruction", MAIN, part) for part in (name, other)))]
        for name, other in pairs
    ]
    yield from table(["", *SPLITS], rows)
    for name in ("sglora", "topk"):
        key = f"{name}, the experts it knows: parameters"
        yield f"R² of `{name}` on the experts that it was fitted to: {_of_seeds(study, key)}.\n"


def _of_seeds(study: Study, name: str) -> str:
    if name not in study.numbers("reconstruction", MAIN):
        return ""
    values = study.number("reconstruction", MAIN, name)
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"


def facts(study: Study) -> Iterator[str]:
    """Where the numbers come from."""
    seeds = sorted({job["seed"] for job in study.jobs if job["part"] != TUNE})
    devices = sorted({job["device"] for job in study.jobs})
    dates = sorted({job["date"] for job in study.jobs})
    yield "# Study of the cameras\n"
    yield (
        "`python benchmarks/study_cameras.py --cells DIR --device cuda --jobs 14`, then"
        f" `python benchmarks/study_cameras_table.py DIR`; {', '.join(devices)},"
        f" {' to '.join(dict.fromkeys((dates[0], dates[-1])))}. Seeds"
        f" {', '.join(map(str, seeds))}, which had no part in the design; each draws cameras of its"
        " own. 26 clients a split, else as in the main job: 48 experts of 256 pairs, 100 test"
        " pairs, rank 8 on q, k and v, 6 rounds of the shared LoRA, then 20 of `functional`. Made"
        " with the library of commit b0b492c, where clients of `new_words` had the cameras of"
        " `new_combination`, but pictures of their own.\n"
    )
    yield (
        "All numbers are R@1 in %, mean of both directions, ± half of the 95 % interval. Clients"
        " are nested in seeds, so each seed's mean is one observation (Student's t of three); a"
        f" difference is paired by client. Every client's numbers are in `{NAME}.json`.\n"
    )


def page(study: Study, read: str) -> Iterator[str]:
    """The report; ``read`` is what somebody wrote about it."""
    yield from facts(study)
    yield read
    for part in (aims, methods, in_one_place, curves, descriptions, liar, sglora, reconstruction):
        yield from part(study)


def figure(study: Study) -> bytes:
    """The learning curves."""
    drawn, axes = panels(len(CURVES), 3.0, 2.9, columns=2)
    for axis, (part, (label, points, _)) in zip(axes, CURVES.items(), strict=True):
        for marker, (name, colour) in zip(MARKERS, COLOUR.items(), strict=False):
            if name not in curve_methods(study, part):
                continue
            found = [study.mean(at(part, point, name), HOME) for point in points]
            axis.errorbar(
                points,
                [100 * one.mean for one in found],
                [100 * (one.half or 0.0) for one in found],
                color=colour,
                marker=marker,
                markersize=4,
                linewidth=1.3,
                elinewidth=0.7,
                label=name,
            )
        axis.set_xscale("log", base=2)
        axis.set_xticks(points, [f"{point}" for point in points])
        axis.set(xlabel=label, ylabel="R@1, %", ylim=(0, 100))
    legend(drawn, axes[-1])
    return png(drawn)


def main(arguments: Sequence[str]) -> None:
    """Gather, pool and write."""
    path = machine.RESULTS / f"{NAME}.json"
    study = keep(collected(Path(arguments[0])), ORDER, path) if arguments else kept(path)
    notes = Path(__file__).with_name("study_cameras_notes.md").read_text(encoding="utf-8")
    text = "\n".join(page(study, notes))
    (machine.RESULTS / f"{NAME}.md").write_text(text, encoding="utf-8")
    (machine.RESULTS / f"{NAME}.png").write_bytes(figure(study))
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
