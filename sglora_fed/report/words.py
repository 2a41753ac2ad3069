"""How methods and splits are called and grouped where people read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sglora_fed.results.metrics import DIRECTIONS, MEAN_RECALL, PLACES, recall

FEWEST_CLIENTS = 8
"""Clients from which on two methods are called better, worse or level."""

GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("no adapter", ("zero_shot", "described")),
    ("merged", ("soup", "nearest", "adapter_soup", "topk")),
    ("generated", ("ridge", "sglora", "functional")),
    ("one for all", ("shared_lora",)),
    ("by confidence", ("policy",)),
    (
        "trained locally",
        (
            *("local_1shot", "local_5shot", "generated_5shot", "shared_5shot"),
            *("oracle", "shared_full", "dp_oracle", "dp_shared_full"),
        ),
    ),
    ("controls", ("shuffled",)),
)
GENERATED = "generated"
UNTRAINED = ("no adapter", "merged", GENERATED, "one for all", "by confidence")
"""Groups of methods that train nothing on the client."""

TRAINED = ("local_1shot", "local_5shot", "shared_5shot", "oracle", "shared_full")
"""What a client reaches by training alone."""

OWN_TUNING = "own_dp_sgd"
"""In the place of a mechanism, where the client sends no description and fine-tunes by DP-SGD.

Its epsilon is of one of the client's examples; those of mechanisms are of one description."""

MEANING: Mapping[str, str] = {
    "zero_shot": "the frozen model with the labels alone",
    "described": "the frozen model with the client's own words in the candidate texts",
    "soup": "mean of all experts",
    "nearest": "the expert with the most similar description",
    "adapter_soup": "mean of the K most similar experts",
    "topk": "the K most similar experts, weighted by similarity",
    "ridge": "kernel ridge regression from description to adapter",
    "sglora": "the SG-LoRA paper's conditional VAE with semantic prior",
    "functional": "smoother over descriptions, trained through the experts' losses",
    "shared_lora": "one LoRA for all by federated averaging over the experts",
    "policy": "the generated adapter where it is trusted more than the fall-back, else that",
    "local_1shot": "fine-tuned by the client on 1 example per class",
    "local_5shot": "fine-tuned by the client on 5 examples per class",
    "generated_5shot": "the generated adapter, then fine-tuned on 5 examples per class",
    "shared_5shot": "the shared LoRA, then fine-tuned on 5 examples per class",
    "oracle": "fine-tuned by the client on all its data",
    "shared_full": "the shared LoRA, then fine-tuned on all of the client's data",
    "dp_oracle": "fine-tuned by the client on all its data by DP-SGD",
    "dp_shared_full": "the shared LoRA, then fine-tuned on all of the client's data by DP-SGD",
    "shuffled": "the generated adapter of another client's description, unlike its own",
}

SPLITS: Mapping[str, str] = {
    "new_rule": "new rule: an unseen combination of known topics",
    "new_combination": "new combination: known conditions, never together before",
    "new_words": "new words: clients that experts' words would fit, in those of another author",
    "new_topic": "new topic: a rule that names a topic no expert knows",
    "new_element": "new element: a condition that no expert has",
    "new_class": "new class: a class or category that no expert has",
    "combo": "combination: a known topic in a known style, never together before",
    "new_domain": "new domain: an unknown topic in a known style",
    "new_style": "new style: a known topic in a style no expert writes",
    "one_topic": "one topic: experts' rules name three",
    "five_topics": "five topics: experts' rules name three",
    "exception": "exception: no expert's rule leaves something out",
    "priority": "priority: no expert's rule has three labels",
}
SPLIT_ORDER = tuple(SPLITS)

METRICS: Mapping[str, str] = {
    "accuracy": "accuracy",
    MEAN_RECALL: "mean R@1",
    **{
        recall(way, place): f"R@{place} {name}"
        for way, name in DIRECTIONS.items()
        for place in PLACES
    },
}
"""What metrics are called, the main one of a run first."""

GLOSSARY: Mapping[str, str] = {
    "expert": "a client that trained a LoRA; the zoo holds all of them",
    "95 % interval": "Student's t over clients; several seeds are a second level, as few as they"
    " are, and with one seed it says nothing of others",
    "R@k": "recall at k: how often the right one is among the first k; mean R@1 is that of both"
    " directions, item to text and text to item",
    "paired": "methods are compared on the same clients, so that hard tasks cancel out",
    "gap closed": "(method - zero_shot) / (oracle - zero_shot), of means over the same clients",
}


def ordered_methods(present: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Present methods by group, in reading order; unknown names are generators of the user's."""
    left = set(present)
    known = {name for _, names in GROUPS for name in names}
    found = []
    for group, names in GROUPS:
        members = [name for name in names if name in left]
        if group == GENERATED:
            members += sorted(left - known)
        if members:
            found.append((group, members))
    return found


def ordered_splits(present: Iterable[str]) -> list[str]:
    """The embedded family's splits first, in their order, then others by name."""
    names = set(present)
    return [s for s in SPLIT_ORDER if s in names] + sorted(names - set(SPLIT_ORDER))


def cells(summary: Mapping[str, Any], metric: str) -> dict[tuple[str, str], Mapping[str, Any]]:
    """(method, split) -> result, for one metric."""
    results: Sequence[Mapping[str, Any]] = summary["results"]
    return {(r["method"], r["split"]): r for r in results if r["metric"] == metric}


def main_metric(summary: Mapping[str, Any]) -> str:
    """Accuracy, or recall at 1 as the mean of both directions."""
    found = {str(r["metric"]) for r in summary["results"]}
    return next(name for name in (*METRICS, *sorted(found)) if name in found)


def metric_label(metric: str) -> str:
    """What people read instead of a metric's name."""
    return METRICS.get(metric, metric)


def adopted_method(summary: Mapping[str, Any]) -> str:
    """The generator whose adapters the clients adopted; empty when unknown."""
    return str(summary["run"].get("generator", ""))


def judged(result: Mapping[str, Any]) -> bool:
    """Whether there are enough clients to call one method better than another."""
    return bool(result["clients"] >= FEWEST_CLIENTS)


def best_untrained(summary: Mapping[str, Any], metric: str) -> set[tuple[str, str]]:
    """(method, split) with the highest mean of those that train nothing on the client.

    None on a split with so few clients that nothing is compared.
    """
    found = cells(summary, metric)
    groups = ordered_methods(method for method, _ in found)
    names = [method for group, methods in groups if group in UNTRAINED for method in methods]
    best = set()
    for split in {split for _, split in found}:
        here = [name for name in names if (name, split) in found and judged(found[name, split])]
        top = max((found[method, split]["mean"] for method in here), default=0.0)
        best |= {(method, split) for method in here if found[method, split]["mean"] == top}
    return best


def percent(value: float) -> str:
    """A fraction as a percentage with one decimal."""
    return f"{100 * value:.1f}"


def size(count: int) -> str:
    """Bytes as people read them."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:.1f} kB" if count < 100_000 else f"{count / 1000:.0f} kB"


def strongest_trained(summary: Mapping[str, Any]) -> str | None:
    """The best that clients reach by training, by the mean over splits; None without such rows."""
    found = cells(summary, main_metric(summary))
    means: dict[str, list[float]] = {}
    for (method, _), result in found.items():
        if method in TRAINED:
            means.setdefault(method, []).append(result["mean"])
    return max(means, key=lambda name: sum(means[name]) / len(means[name]), default=None)


def points(difference: Mapping[str, Any]) -> str:
    """A difference of fractions in percentage points, with its interval."""
    mean = f"{100 * difference['mean']:+.1f}"
    if difference["ci95"] is None:
        return mean
    low, high = difference["ci95"]
    return f"{mean} [{100 * low:+.1f}, {100 * high:+.1f}]"


def count(number: int, thing: str) -> str:
    """A number of things, in the singular or the plural."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def cost(value: float | None) -> str:
    """An epsilon or a delta."""
    return "none" if value is None else f"{value:g}"


def duration(seconds: float) -> str:
    """Seconds as people read them."""
    if seconds < 0.1:
        return f"{1000 * seconds:.2g} ms"
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
