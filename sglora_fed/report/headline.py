"""What a run found, in sentences: derived from the numbers, also when they disappoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sglora_fed.report.words import (
    FEWEST_CLIENTS,
    TRAINED,
    adopted_method,
    cells,
    count,
    judged,
    main_metric,
    ordered_splits,
    percent,
)

Verdict = Literal["ahead", "level", "behind", "too few"]
RIVALS = ("zero_shot", "described", "topk", "ridge", "shared_lora")
"""What a client can have without training, and what the adopted generator must beat."""

Cells = Mapping[tuple[str, str], Mapping[str, Any]]


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
    known = sum(counts.values())
    if not known:
        return (
            f"With fewer than {FEWEST_CLIENTS} clients on every kind of unseen task nothing can be"
            f" said of whether {adopted_method(summary)} is better than another method."
        )
    rivals = ", ".join(_rivals(summary)) or "nothing"
    sentence = (
        f"Without training on the client, {adopted_method(summary)} beats all of {rivals}"
        f" on {counts['ahead'] or 'none'} of {count(known, 'kind')} of unseen task"
    )
    if counts["level"]:
        sentence += f"; on {counts['level']} it is not certainly better than all of them"
    if counts["behind"]:
        sentence += f"; on {counts['behind']} it loses to at least one"
    if few := len(found) - known:
        sentence += f"; {count(few, 'more kind')} had fewer than {FEWEST_CLIENTS} clients"
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
    if not judged(difference):
        return "too few"
    low, high = difference["ci95"]
    if low > 0:
        return "ahead"
    return "behind" if high < 0 else "level"


def _finding(found: Cells, split: str, adopted: str) -> Finding:
    own = found[adopted, split]
    text = f"{percent(own['mean'])} % on {count(own['clients'], 'client')}."
    against = {name: value for name, value in own["minus"].items() if name in RIVALS}
    overall = _overall([verdict(value) for value in against.values()])
    if overall == "too few" or not judged(own):
        return Finding(split, "too few", text)
    return Finding(split, overall, text + _comparisons(against) + _trained(found, own, split))


def _overall(verdicts: list[Verdict]) -> Verdict:
    """The worst of all; ahead only of somebody."""
    order: tuple[Verdict, ...] = ("too few", "behind", "level", "ahead")
    return min(verdicts, key=order.index, default="level")


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


def _trained(found: Cells, own: Mapping[str, Any], split: str) -> str:
    """The comparison with the best that the client reaches by training, whichever row that is."""
    names = [name for name in TRAINED if name in own["minus"] and (name, split) in found]
    if not names:
        return ""
    best = max(names, key=lambda name: found[name, split]["mean"])
    difference = own["minus"][best]
    if not judged(difference):
        return ""
    return f" Of what the client can train, {best} is best.{_comparisons({best: difference})}"
