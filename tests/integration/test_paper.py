"""The SG-LoRA paper's protocol through the unmodified apps, small."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sglora_fed.config import compose

SMALL = (
    "experiment=paper",
    "family.experts=8",
    "family.clients_per_split=2",
    "family.train_per_client=16",
    "family.test_per_client=12",
    "generator=sglora",
    "adapter.targets=[q_proj,k_proj,v_proj]",
    "adapter.layers=[]",
    "adapter.train.steps=6",
    "adapter.train.checkpoints=4",
    "experiment.methods=[zero_shot,soup,adapter_soup,topk,sglora,oracle]",
)


@pytest.fixture
def loop(make_loop: Callable[..., Any], cold_home: Path) -> Any:
    return make_loop(*SMALL).run()


def test_every_method_has_recall_in_both_directions(loop: Any) -> None:
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in loop.rows:
        values[row["method"], row["metric"]].append(float(row["value"]))
    for method in compose(["experiment=paper"]).experiment.methods:
        for way in ("i2t", "t2i"):
            first, fifth, tenth = (values[method, f"{way}_r{k}"] for k in (1, 5, 10))
            assert len(first) == 3 * 2, "two clients on each of three splits"
            assert all(a <= b <= c <= 1 for a, b, c in zip(first, fifth, tenth, strict=True))
            assert sum(tenth) > 0
    splits = {row["split"] for row in loop.rows}
    assert splits == {"new_combination", "new_element", "new_words"}
