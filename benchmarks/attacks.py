"""What the server learns of the cameras' descriptions, by mechanism, epsilon and attack.

    python benchmarks/attacks.py [--trials 4000]

All 144 conditions, eight sentences each, MiniLM's embeddings. Writes ``results/attacks.json`` and
``attacks.png``, and prints the tables. Five minutes on one core.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

import machine
from sglora_fed.backbones import load_describer
from sglora_fed.config import compose
from sglora_fed.privacy import (
    GaussianMechanism,
    KrrMechanism,
    Mechanism,
    NoMechanism,
    PrivUnitMechanism,
    SubsetMechanism,
)
from sglora_fed.privacy.attacks import (
    attribute_inference,
    bag_of_words,
    ceiling,
    features,
    invert,
    learn_labels,
    linkage,
    repetition,
)
from sglora_fed.privacy.catalogue import nearest
from sglora_fed.privacy.families import catalogue_of
from sglora_fed.privacy.ledger import Budget, Ledger, Request, create_ledger
from sglora_fed.privacy.mechanisms import ProjectedMechanism, Projection
from sglora_fed.privacy.mechanisms.projection import leading
from sglora_fed.privacy.snapping import Snap, snap_to
from sglora_fed.tasks.cameras.conditions import CONDITIONS, Condition
from sglora_fed.tasks.cameras.wording import OWNERS, sentences

WAYS = 8
RANK = 12
DELTA = 1e-6
EPSILONS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
ROOMS = ("kitchen", "nursery", "bedroom", "garage", "ward", "cellar", "office", "bathroom")
"""Where a camera is: words that no generator needs, and that may say much."""

FRAMES = OWNERS.frames[:8]
"""Eight ways to put one condition."""

TIMES = (1, 10, 100, 1000)


@dataclass(frozen=True)
class World:
    """Everybody who could ask.

    Attributes:
        texts: [144 * 8] sentences, those of one condition together.
        rows: [144 * 8, d] their embeddings.
        conditions: [144 * 8] which condition each is about.
        projection: public directions that tell conditions apart.
        snap: of the catalogue.
    """

    texts: tuple[str, ...]
    rows: np.ndarray
    conditions: np.ndarray
    projection: Projection
    snap: Snap


def world(count: int = len(CONDITIONS)) -> World:
    """The first conditions of the cameras, in their owners' words."""
    rng = np.random.default_rng(0)
    texts = [text for one in CONDITIONS[:count] for text in sentences(OWNERS, one, WAYS, rng)]
    rows = embedded(texts)
    conditions = np.repeat(np.arange(count), WAYS)
    wordings = catalogue_of("cameras").wordings[:count]
    entries = embedded([text for own in wordings for text in own])
    snap = snap_to(np.split(entries, count))
    projection = leading(snap.embeddings, min(RANK, count - 1))
    return World(tuple(texts), rows, conditions, projection, snap)


def embedded(texts: Sequence[str]) -> np.ndarray:
    """[n, d] by the description encoder of a run, on the client."""
    return np.asarray(load_describer(compose([]).backbone).encode(list(texts)), np.float64)


def unit_means(rows: np.ndarray, conditions: np.ndarray) -> np.ndarray:
    """[k, d] the direction of each condition's sentences."""
    means = np.stack([rows[conditions == c].mean(axis=0) for c in np.unique(conditions)])
    return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True))


def mechanisms(one: World, epsilon: float) -> Iterator[tuple[str, Mechanism]]:
    """What is attacked, by name."""
    dim, projection, places = one.rows.shape[1], one.projection, one.snap.rows
    few = min(26, len(places) - 1)
    yield "gaussian", GaussianMechanism(dim, epsilon, DELTA)
    yield "privunit", PrivUnitMechanism(dim, epsilon)
    yield (
        "projected_privunit",
        ProjectedMechanism(projection, PrivUnitMechanism(projection.rank, epsilon)),
    )
    yield "krr", ProjectedMechanism(one.snap, KrrMechanism(places, epsilon))
    decoys = SubsetMechanism(places, epsilon, few)
    yield f"subset, {few} replies", ProjectedMechanism(one.snap, decoys)


def attacked(
    one: World, epsilons: Sequence[float]
) -> Iterator[tuple[float | None, str, Mechanism]]:
    """An embedding in the clear, and every mechanism at every epsilon."""
    yield None, "none", NoMechanism(one.rows.shape[1])
    for epsilon in epsilons:
        yield from ((epsilon, name, made) for name, made in mechanisms(one, epsilon))


def release(mechanism: Mechanism, rows: np.ndarray) -> np.ndarray:
    return np.stack([mechanism.release(row) for row in rows])


def on_conditions(one: World, trials: int) -> Iterator[dict[str, Any]]:
    """Which condition, and is the picture dark? By the exact likelihood of all sentences."""
    rng = np.random.default_rng(1)
    dark = np.array([int("dark" in astuple(c)) for c in CONDITIONS])[one.conditions]
    for epsilon, name, mechanism in attacked(one, EPSILONS):
        truths = rng.integers(len(one.rows), size=trials)
        sent = release(mechanism, one.rows[truths])
        for attack, fact in (("condition", one.conditions), ("dark", dark)):
            if len(np.unique(fact)) < 2:
                continue
            found = attribute_inference(mechanism, sent, one.rows, fact, truths)
            error = float(np.sqrt(found.ceiling * (1 - found.ceiling) / trials))
            yield row(
                attack, name, epsilon, found.accuracy, found.ceiling, found.chance, error, trials
            )


def on_pairs(one: World, trials: int) -> Iterator[dict[str, Any]]:
    """Do two fresh releases come from one client? AUC, chance .5."""
    rng = np.random.default_rng(2)
    for epsilon in (1.0, 4.0, 8.0):
        for name, mechanism in mechanisms(one, epsilon):
            rows = one.rows[rng.integers(len(one.rows), size=trials)]
            found = linkage(mechanism, release(mechanism, rows), release(mechanism, rows), one.rows)
            auc, error = found.found.auc, found.found.standard_error
            yield row("linkage (AUC)", name, epsilon, auc, found.ceiling, 0.5, error, trials)


def below_the_codeword(one: World, trials: int) -> Iterator[dict[str, Any]]:
    """Which of eight ways to say it, and which room? Learnt from as many releases.

    Of conditions all of whose variants are snapped to one place: what a place stands for is not
    below it.
    """
    rng = np.random.default_rng(3)
    picks = rng.integers(len(one.texts), size=min(200, len(one.texts)))
    rooms = [f"In the {room}: {one.texts[pick]}" for pick in picks for room in ROOMS]
    framed = [frame_of(CONDITIONS[c], frame) for c in np.unique(one.conditions) for frame in FRAMES]
    sources = {
        "wording": (embedded(framed).reshape(-1, len(FRAMES), one.rows.shape[1]), len(FRAMES)),
        "room": (embedded(rooms).reshape(len(picks), len(ROOMS), -1), len(ROOMS)),
    }
    for attack, (variants, labels) in sources.items():
        kept = np.stack([group for group in variants if _one_place(one, group)])
        share = len(kept) / len(variants)
        chosen, label = (
            rng.integers(len(kept), size=2 * trials),
            rng.integers(labels, size=2 * trials),
        )
        rows = kept[chosen, label]
        for epsilon, name, mechanism in attacked(one, (8.0,)):
            sent = release(mechanism, rows)
            found = learn_labels(features(mechanism, sent, len(one.snap.rows)), label, trials)
            facts = (found.accuracy, None, 1 / labels, found.standard_error, trials)
            yield {**row(attack, name, epsilon, *facts), "share_of_descriptions": share}


def frame_of(condition: Condition, frame: str) -> str:
    """A condition in the first words of its owners, put in one way."""
    return frame.format(
        g=OWNERS.geometry[condition.geometry][0],
        c=OWNERS.colour[condition.colour][0],
        o=OWNERS.optics[condition.optics][0],
    )


def _one_place(one: World, group: np.ndarray) -> bool:
    places = {nearest(one.snap.down(row), one.snap.rows) for row in group}
    return len(places) == 1


def on_words(one: World, trials: int) -> Iterator[dict[str, Any]]:
    """How many words of a sentence are named, beyond what is named without any release."""
    rng = np.random.default_rng(4)
    bags, _ = bag_of_words(one.texts)
    # No sentence is both learnt from and tried.
    order = rng.permutation(len(one.texts))
    half = len(order) // 2
    # Sorted, so that the decoder's penalty is chosen on other sentences than it is fitted to.
    known, unknown = (rng.choice(part, trials) for part in (order[:half], order[half:]))
    picks = np.concatenate([np.sort(known), unknown])
    for epsilon, name, mechanism in attacked(one, (1.0, 4.0, 8.0)):
        sent = features(mechanism, release(mechanism, one.rows[picks]), len(one.snap.rows))
        found = invert(sent, bags[picks], trials)
        facts = (found.recovered, None, found.prior_only, found.gain_error, trials)
        yield row("words", name, epsilon, *facts)


def on_repeats(one: World, clients: int) -> Iterator[dict[str, Any]]:
    """A condition asked for again and again: with fresh noise, and through the ledger."""
    rng = np.random.default_rng(5)
    truths = rng.integers(len(one.snap.rows), size=clients)
    means = unit_means(one.rows, one.conditions)
    for epsilon, wanted in ((1.0, "krr"), (8.0, "privunit"), (8.0, "gaussian")):
        mechanism = dict(mechanisms(one, epsilon))[wanted]
        fresh = np.stack([release(mechanism, means[[t] * TIMES[-1]]) for t in truths])
        for kind, sent, times in (
            ("fresh", fresh, TIMES),
            ("ledger", remembered(mechanism, means[truths]), TIMES[:2]),
        ):
            for found in repetition(mechanism, sent, means, truths, times):
                # What is remembered is one release, however often it is asked for.
                count = found.releases if kind == "fresh" else 1
                most = ceiling(count * epsilon, len(means), delta=mechanism.delta or 0.0)
                error = float(np.sqrt(most * (1 - most) / clients))
                facts = (found.top1, most, 1 / len(means), error, clients)
                more = {"releases": found.releases, "cosine": rounded(found.cosine)}
                yield {**row(f"repetition, {kind}", wanted, epsilon, *facts), **more}


def remembered(mechanism: Mechanism, rows: np.ndarray) -> np.ndarray:
    """[n, 10, ...] releases by way of a ledger that pays for one."""
    with tempfile.TemporaryDirectory() as folder:
        create_ledger(Path(folder) / "ledger")
        limit = Budget(mechanism.epsilon or 1.0, mechanism.delta or 0.0)
        ledger = Ledger(Path(folder) / "ledger", limit)
        return np.stack(
            [
                [ledger.release(Request(str(n), "words"), mechanism, one) for _ in range(TIMES[1])]
                for n, one in enumerate(rows)
            ]
        )


def row(
    attack: str,
    mechanism: str,
    epsilon: float | None,
    success: float,
    most: float | None,
    chance: float,
    error: float,
    trials: int,
) -> dict[str, Any]:
    """A line of the table; ``within``: not above the ceiling by more than three errors."""
    return {
        "attack": attack,
        "mechanism": mechanism,
        "epsilon": epsilon,
        "success": round(success, 4),
        "ceiling": rounded(most),
        "chance": round(chance, 4),
        "standard_error": round(error, 4),
        "trials": trials,
        "within": None if most is None else bool(success <= most + 3 * error),
    }


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows of one attack in Markdown."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(one.values()) for one in rows)]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Re-identification of the condition, and repetition, beside their ceilings."""
    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    named = [one for one in rows if one["attack"] == "condition" and one["epsilon"] is not None]
    for name in dict.fromkeys(one["mechanism"] for one in named):
        own = [one for one in named if one["mechanism"] == name]
        left.plot([o["epsilon"] for o in own], [o["success"] for o in own], marker="o", label=name)
    shared = [one for one in named if one["mechanism"] == "krr"]
    ceilings = [(one["epsilon"], one["ceiling"]) for one in shared]
    left.plot(*zip(*ceilings, strict=True), "k--", label="ceiling of all")
    left.set(xscale="log", xlabel="epsilon", ylabel="condition guessed", ylim=(0, 1.02))
    left.set_xticks([one[0] for one in ceilings], [f"{one[0]:g}" for one in ceilings], minor=False)
    left.minorticks_off()
    left.legend(fontsize=8)
    again = [one for one in rows if one["attack"].startswith("repetition")]
    for key in dict.fromkeys((o["attack"], o["mechanism"], o["epsilon"]) for o in again):
        own = [o for o in again if (o["attack"], o["mechanism"], o["epsilon"]) == key]
        name = f"{key[1]}, epsilon {key[2]:g}, {key[0].removeprefix('repetition, ')}"
        style = "o-" if "fresh" in key[0] else "s:"
        right.plot([o["releases"] for o in own], [o["success"] for o in own], style, label=name)
    right.set(xscale="log", xlabel="requests for one description", ylim=(0, 1.02))
    right.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=4000)
    parser.add_argument("--conditions", type=int, default=len(CONDITIONS))
    parser.add_argument("--clients", type=int, default=100, help="of the repetition")
    asked = parser.parse_args()
    one = world(asked.conditions)
    rows = list[dict[str, Any]]()
    for part in (on_conditions, on_pairs, below_the_codeword, on_words):
        rows += part(one, asked.trials)
    rows += on_repeats(one, asked.clients)
    for attack in dict.fromkeys(found["attack"] for found in rows):
        print(table([found for found in rows if found["attack"] == attack]), end="\n\n")
    machine.write("attacks", {**machine.facts("sglora-fed", "numpy", "scipy"), "rows": rows})
    draw(rows, machine.RESULTS / "attacks.png")


if __name__ == "__main__":
    main()
