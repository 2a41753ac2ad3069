"""A zoo refuses what is not a zoo."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sglora_fed.errors import ZooDamagedError
from sglora_fed.zoo import ZooIdentity

from .conftest import MakeZoo


def with_value(array: np.ndarray, value: float) -> np.ndarray:
    changed = array.copy()
    changed.flat[1] = value
    return changed


class TestZoo:
    def test_select_keeps_rows_together(self, make_zoo: MakeZoo) -> None:
        zoo = make_zoo("a", "b", "c")
        part = zoo.select(np.array([2, 0]))
        assert part.ids == ("c", "a")
        for name in ("embeddings", "means", "variances", "examples"):
            whole = getattr(zoo, name)
            np.testing.assert_array_equal(getattr(part, name), [whole[2], whole[0]])

    @pytest.mark.parametrize(
        ("field", "change", "said"),
        [
            ("ids", lambda _: ("a", "b", "a"), "experts ['a'] are in the zoo twice"),
            ("ids", lambda _: ("a", "b", ""), "none empty"),
            ("ids", lambda _: ("a", "b"), "embeddings of 2 experts are float32 [3, 4]"),
            ("embeddings", lambda x: x * 1.01, "norm 1.01; need 1"),
            ("embeddings", lambda x: x * 0, "norm 0; need 1"),
            ("embeddings", lambda x: x.astype(np.float64), "are float64 [3, 4]; need float32"),
            ("embeddings", lambda x: x[:, 0], "are float32 [3]"),
            ("embeddings", lambda x: with_value(x, np.nan), "embeddings hold NaN"),
            ("means", lambda x: with_value(x, np.inf), "means hold NaN or infinity"),
            ("means", lambda x: x[:, :9], "variances of 3 experts are float32 [3, 10]; need"),
            ("means", lambda x: x[:2], "means of 3 experts are float32 [2, 10]; need"),
            ("means", lambda x: x[..., None], "means of 3 experts are float32 [3, 10, 1]"),
            ("variances", lambda x: with_value(x, -1e-9), "variances hold -9.99"),
            ("variances", lambda x: with_value(x, np.nan), "variances hold NaN"),
            ("examples", lambda x: with_value(x, 0), "examples hold 0; need numbers >= 1"),
            ("examples", lambda x: x.astype(np.float32), "examples of 3 experts are float32 [3]"),
        ],
    )
    def test_refuses(self, make_zoo: MakeZoo, field: str, change: Any, said: str) -> None:
        zoo = make_zoo("a", "b", "c")
        with pytest.raises(ZooDamagedError, match=re.escape(said)):
            replace(zoo, **{field: change(getattr(zoo, field))})

    def test_refuses_no_experts(self, make_zoo: MakeZoo) -> None:
        with pytest.raises(ZooDamagedError, match="at least one"):
            make_zoo("a").select(np.array([], np.int64))

    def test_refuses_adapters_of_no_numbers(self, make_zoo: MakeZoo) -> None:
        with pytest.raises(ZooDamagedError, match=r"means of 1 experts are float32 \[1, 0\]"):
            make_zoo("a", size=0)

    def test_accepts_the_rounding_of_single_precision(self, make_zoo: MakeZoo) -> None:
        zoo = make_zoo("a", "b")
        assert replace(zoo, embeddings=zoo.embeddings * np.float32(1 + 1e-5)).size == zoo.size


class TestIdentity:
    def test_names_field_and_both_values(self, identity: ZooIdentity) -> None:
        other = replace(identity, backbone="huge", seed=9)
        assert identity.differences(other) == [
            "backbone is huge, not tiny",
            "seed is 9, not 3",
        ]

    def test_versions_do_not_count(self, identity: ZooIdentity) -> None:
        assert identity.differences(replace(identity, versions={"numpy": "3"})) == []

    def test_long_values_stay_short_and_show_where_they_end(self, identity: ZooIdentity) -> None:
        (line,) = identity.differences(replace(identity, encoder="x" * 500 + "END"))
        assert len(line) < 120
        assert "END" in line
