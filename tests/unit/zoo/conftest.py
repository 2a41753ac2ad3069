"""A zoo of two uploads on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sglora_fed.zoo import Zoo, ZooIdentity, open_zoo

MakeZoo = Callable[..., Zoo]


@pytest.fixture
def folder(tmp_path: Path, identity: ZooIdentity, make_zoo: MakeZoo) -> Path:
    """A zoo of two shards with three and two experts."""
    store = open_zoo(tmp_path / "zoo", identity)
    store.add(make_zoo(3, prefix="m"))
    store.add(make_zoo(2, seed=1, prefix="b"))
    return tmp_path / "zoo"
