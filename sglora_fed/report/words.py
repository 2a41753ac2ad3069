"""How methods and splits are called and grouped where people read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("no adapter", ("zero_shot", "described")),
    ("merged from the zoo", ("soup", "nearest", "topk")),
    ("generated", ("ridge", "sglora")),
    ("one for everybody", ("shared_lora",)),
    ("trained by the client", ("local_1shot", "local_5shot", "generated_5shot", "oracle")),
    ("controls", ("shuffled",)),
)
GENERATED = "generated"

MEANING: Mapping[str, str] = {
    "zero_shot": "the frozen model with the labels alone",
    "described": "the frozen model with the client's own words in the candidate texts",
    "soup": "mean of all experts",
    "nearest": "the expert with the most similar description",
    "topk": "the K most similar experts, weighted by similarity",
    "ridge": "kernel ridge regression from description to adapter",
    "sglora": "the SG-LoRA paper's conditional VAE with semantic prior",
    "shared_lora": "one LoRA for all by federated averaging over the experts",
    "local_1shot": "fine-tuned by the client on 1 example per class",
    "local_5shot": "fine-tuned by the client on 5 examples per class",
    "generated_5shot": "the generated adapter, then fine-tuned on 5 examples per class",
    "oracle": "fine-tuned by the client on all its data",
    "shuffled": "the generated adapter of somebody else's description",
}

SPLITS: Mapping[str, str] = {
    "new_rule": "new rule: an unseen combination of known topics",
    "new_topic": "new topic: a rule that names a topic no expert knows",
    "combo": "combination: a known topic in a known style, never together before",
    "new_domain": "new domain: an unknown topic in a known style",
}
SPLIT_ORDER = tuple(SPLITS)


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
    """Accuracy, or recall at 1 from item to text."""
    metrics = {str(r["metric"]) for r in summary["results"]}
    return next(name for name in ("accuracy", "i2t_r1", *sorted(metrics)) if name in metrics)


def percent(value: float) -> str:
    """A fraction as a percentage with one decimal."""
    return f"{100 * value:.1f}"


def size(count: int) -> str:
    """Bytes as people read them."""
    return f"{count} B" if count < 1000 else f"{count / 1000:.1f} kB"
