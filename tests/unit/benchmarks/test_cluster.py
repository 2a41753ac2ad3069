"""What the run on a cluster is held against; the run itself is ``make test-cluster``."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def cluster(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("cluster")


def test_numbers_differ_where_one_does_or_is_missing(cluster: ModuleType) -> None:
    one = {("c", "ridge", "accuracy"): 0.5, ("c", "zero_shot", "accuracy"): 0.25}
    other = one | {("c", "ridge", "accuracy"): 0.375}
    assert cluster.largest_difference(one, dict(one)) == 0
    assert cluster.largest_difference(one, other) == 0.125
    assert cluster.largest_difference(one, dict(list(one.items())[:1])) == math.inf
    assert cluster.largest_difference({}, {}) == math.inf


def test_values_are_those_of_the_rows(cluster: ModuleType, tmp_path: Path) -> None:
    rows = ["client,split,seed,method,metric,value", "a,new_rule,0,ridge,accuracy,0.75"]
    (tmp_path / "clients.csv").write_text("\n".join(rows))
    assert cluster.values(tmp_path) == {("a", "ridge", "accuracy"): 0.75}


def test_every_process_imports_this_checkout(cluster: ModuleType) -> None:
    first, _, rest = cluster.environment(A="1")["PYTHONPATH"].partition(os.pathsep)
    assert (Path(first) / "sglora_fed" / "__init__.py").exists()
    assert rest == os.environ.get("PYTHONPATH", "")
