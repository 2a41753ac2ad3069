"""A service's book of nodes, whose clock may be set while it is up."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from sglora_fed.config.schema import FederationConfig
from sglora_fed.federation.book import Book

CONFIG = FederationConfig(ask_again=100.0, retry_after=10.0)
NOW, YEAR = 1.7e9, 365 * 86_400.0


def test_a_node_is_due_when_it_is_time(tmp_path: Path) -> None:
    with closing(Book(tmp_path / "book", CONFIG)) as book:
        assert book.is_due(1, NOW)
        book.note_served(1, NOW)
        assert [book.is_due(1, NOW + after) for after in (0, 99, 101)] == [False, False, True]


@pytest.mark.parametrize("jump", [-YEAR, YEAR])
def test_no_clock_that_is_set_silences_a_node(tmp_path: Path, jump: float) -> None:
    path = tmp_path / "book"
    with closing(Book(path, CONFIG)) as book:
        book.note_served(1, NOW)
        for _ in range(30):
            book.note_failed(2, NOW)
        assert [book.is_due(node, NOW + 1) for node in (1, 2)] == [False, False]
    with closing(Book(path, CONFIG)) as book:  # also after a start
        assert [book.is_due(node, NOW + jump) for node in (1, 2)] == [True, True]


@pytest.mark.parametrize("jump", [-YEAR, YEAR])
def test_nor_is_more_answered_of_one(tmp_path: Path, jump: float) -> None:
    """What it has asked for is counted without a date."""
    config = FederationConfig(requests_per_node=1)
    with closing(Book(tmp_path / "book", config)) as book:
        assert book.admits(1, np.zeros(3))
        book.note_served(1, NOW + jump)
        assert not book.admits(1, np.ones(3))
        assert book.admits(1, np.zeros(3))
