"""What a run found, in sentences: derived from the numbers, also when they disappoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sglora_fed.report.words import adopted_method, cells, main_metric, ordered_splits, percent

Verdict = Literal["ahead", "level", "behind"]
RIVALS = ("zero_shot", "described", "topk", "ridge", "shared_lora")
"""What a client can have without training, and what the adopted generator must beat."""


@dataclass(frozen=True)
class Finding:
    """What the adopted adapters reached on one split."""

    split: str
    verdict: Verdict
    text: str


def lead(summary: Mapping[str, Any]) -> str:
    """The run in one sentence."""
    found = findings(summary)
    if not found:
        return "No client adopted a generated adapter in this run."
    counts = {v: sum(f.verdict == v for f in found) for v in ("ahead", "level", "behind")}
    rivals = ", ".join(_rivals(summary)) or "nothing"
    kinds = "kind" if len(found) == 1 else "kinds"
    sentence = (
        f"Without training on the client, {adopted_method(summary)} beats all of {rivals}"
        f" on {counts['ahead'] or 'none'} of {len(found)} {kinds} of unseen task"
    )
    if counts["level"]:
        sentence += f"; on {counts['level']} it is not certainly better than all of them"
    if counts["behind"]:
        sentence += f"; on {counts['behind']} it loses to at least one"
    return sentence + "."


def _rivals(summary: Mapping[str, Any]) -> list[str]:
    """Rivals that the adopted generator was compared with in this run."""
    found, adopted = cells(summary, main_metric(summary)), adopted_method(summary)
    met = {
        other for (method, _), own in found.items() if method == adopted for other in own["minus"]
    }
    return [name for name in RIVALS if name in met]


def findings(summary: Mapping[str, Any]) -> list[Finding]:
    """One finding per split, in reading order; none when no generated adapter was adopted."""
    found, adopted = cells(summary, main_metric(summary)), adopted_method(summary)
    splits = ordered_splits(split for method, split in found if method == adopted)
    return [_finding(found, split, adopted) for split in splits]


def verdict(difference: Mapping[str, Any]) -> Verdict:
    """Whether the interval of a difference lies above zero, below it, or around it."""
    low, high = difference["ci95"]
    if low > 0:
        return "ahead"
    return "behind" if high < 0 else "level"


def _finding(
    found: Mapping[tuple[str, str], Mapping[str, Any]], split: str, adopted: str
) -> Finding:
    own = found[adopted, split]
    against = {name: value for name, value in own["minus"].items() if name in RIVALS}
    verdicts = [verdict(value) for value in against.values()]
    overall: Verdict = "behind" if "behind" in verdicts else "level"
    if verdicts and set(verdicts) == {"ahead"}:
        overall = "ahead"
    text = f"{percent(own['mean'])} % on {own['clients']} clients{_gap(found, own, split)}."
    oracle = own["minus"].get("oracle")
    if oracle and verdict(oracle) != "behind":
        text += " Not certainly below the oracle."
    return Finding(split, overall, text + _comparisons(against))


def _gap(
    found: Mapping[tuple[str, str], Mapping[str, Any]], own: Mapping[str, Any], split: str
) -> str:
    if own["gap_closed"] is None:
        return ""
    floor, ceiling = (percent(found[name, split]["mean"]) for name in ("zero_shot", "oracle"))
    share = f"{100 * own['gap_closed']:.0f} %"
    return f": {share} of the way from zero_shot ({floor} %) to the oracle ({ceiling} %)"


def _comparisons(against: Mapping[str, Mapping[str, Any]]) -> str:
    words: Mapping[Verdict, str] = {
        "ahead": "Ahead of",
        "level": "No certain difference from",
        "behind": "Behind",
    }
    text = ""
    for kind, phrase in words.items():
        members = [
            f"{name} ({100 * value['mean']:+.1f})"
            for name, value in against.items()
            if verdict(value) == kind
        ]
        if members:
            text += f" {phrase} {', '.join(members)}."
    return text
