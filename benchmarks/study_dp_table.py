"""The table of ``study_dp.py``: what is left of the gain under each promise."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import machine

CLIPPED = 0.0
"""Stands for epsilon where gradients are clipped and nothing is added."""


def shares(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each point: recall, and the share of the gain without protection, over seeds."""
    points = {json.dumps(one["point"]): one["point"] for one in found}
    return [
        _row(point, [one for one in found if one["point"] == point], found)
        for point in points.values()
    ]


def _row(
    point: Mapping[str, Any], own: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    size = ("experts", "pairs", "clients")
    bare = {
        one["seed"]: one
        for one in found
        if one["point"]["epsilon"] is None and all(one["point"][k] == point[k] for k in size)
    }
    by_seed = []
    for one in own:
        floor, whole = (float(np.mean(bare[one["seed"]][k])) for k in ("zero_shot", "functional"))
        by_seed.append((float(np.mean(one["functional"])) - floor) / (whole - floor))
    return {
        **{key: point[key] for key in (*size, "epsilon")},
        "overrides": list(point["overrides"]) if point["epsilon"] is not None else [],
        "promise": own[0]["promise"] if point["epsilon"] else None,
        "zero_shot": round(float(np.mean([one["zero_shot"] for one in own])), 4),
        "recall": round(float(np.mean([one["functional"] for one in own])), 4),
        "share": round(float(np.mean(by_seed)), 4),
        "share_by_seed": [round(share, 4) for share in by_seed],
        "distrusted": [one["distrusted"] for one in own],
        "seconds": round(float(np.mean([one["seconds"] for one in own])), 1),
        "device": own[0]["device"],
        "date": datetime.now(UTC).date().isoformat(),
    }


def with_earlier(rows: Sequence[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    """Rows, and those of an earlier table that were not measured again."""

    def what(row: Mapping[str, Any]) -> tuple[Any, ...]:
        return row["experts"], row["pairs"], row["epsilon"]

    earlier = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    again = {what(row) for row in rows}
    return [*rows, *(row for row in earlier if what(row) not in again)]


def page(rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> list[str]:
    """The table in Markdown."""
    lines = [
        "# What the protection of experts' examples costs",
        "",
        f"`{facts['command']}`, families {facts['seeds']}. Unit: one training"
        " pair of an expert, over its enrolment and all rounds; delta 1 / (10 n). Recall at 1, both"
        " directions, on `new_combination`; the share is of the gain over zero-shot without"
        " protection, with as many experts and pairs.",
        "",
        "| experts | pairs | clients a seed | epsilon | noise | recall % | share % | by seed"
        " | card |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        epsilon = {None: "none", CLIPPED: "clipped alone"}.get(row["epsilon"], f"{row['epsilon']}")
        noise = f"{row['promise']['sigma']:.2f}" if row["promise"] else ""
        each = " ".join(f"{100 * share:.0f}" for share in row["share_by_seed"])
        lines.append(
            f"| {row['experts']} | {row['pairs']} | {row['clients']} | {epsilon} | {noise}"
            f" | {100 * row['recall']:.1f} | {100 * row['share']:.1f} | {each} | {row['device']} |"
        )
    return lines


def table(path: Path) -> None:
    """From the measurements to the results in git."""
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found.sort(key=lambda one: (str(one["point"]), one["seed"]))
    facts = machine.facts("opacus", "torch", "transformers", "numpy") | {
        "command": "python benchmarks/study_dp.py plan|measure|table",
        "seeds": sorted({one["seed"] for one in found}),
    }
    rows = with_earlier(shares(found), machine.RESULTS / "study-dp.json")
    rows.sort(key=lambda row: (-row["experts"], -row["pairs"], -(row["epsilon"] or 0)))
    machine.write("study-dp", facts | {"rows": rows})
    text = "\n".join([*page(rows, facts), ""])
    (machine.RESULTS / "study-dp.md").write_text(text, encoding="utf-8")
    print(text)
