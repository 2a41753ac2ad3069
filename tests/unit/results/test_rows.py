"""A row holds a fraction, and rows survive CSV."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sglora_fed.errors import ResultsError
from sglora_fed.results.rows import Row, rows_from_csv, rows_to_csv

FILE = Path("clients.csv")
TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1)
ROWS = st.builds(
    Row, TEXT, TEXT, st.integers(0, 2**63), TEXT, TEXT, st.floats(0, 1, allow_nan=False)
)


def read(text: str) -> list[Row]:
    return list(rows_from_csv(io.StringIO(text, newline=""), FILE))


WHOLE = rows_to_csv([Row("a", "combo", 0, "soup", "accuracy", 0.25)] * 3)


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.01, 1.01])
def test_a_row_holds_a_fraction(value):
    with pytest.raises(ResultsError, match="'a'"):
        Row("a", "combo", 0, "soup", "accuracy", value)


@settings(max_examples=60)
@given(rows=st.lists(ROWS, min_size=1, max_size=5))
def test_any_rows_survive_csv(rows):
    assert read(rows_to_csv(rows)) == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (WHOLE[:-3], "damaged after 3 rows"),
        (WHOLE.replace("value", "score"), "damaged after 0 rows"),
        (WHOLE + "a,combo,0,soup,accuracy\n", "after 3 rows"),
        (WHOLE + "a,combo,x,soup,accuracy,0.1\n", "after 3 rows"),
        (WHOLE + "a,combo,0,soup,accuracy,nan\n", "fraction"),
    ],
)
def test_damaged_rows_are_refused_with_the_reason(text, message):
    with pytest.raises(ResultsError, match=message):
        read(text)
