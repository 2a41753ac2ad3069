"""Whom screening distrusts is found once for a zoo as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sglora_fed.config import compose
from sglora_fed.errors import ZooDamagedError
from sglora_fed.federation.layouts import run_layout
from sglora_fed.kept import zoos
from sglora_fed.kept.zoos import trusted_zoo, zoo_identity
from sglora_fed.zoo import Zoo, ZooStore, open_zoo, trusted


@pytest.fixture
def store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_zoo: Callable[..., Zoo]
) -> ZooStore:
    """Ten experts, of which one has numbers a hundred times as large."""
    monkeypatch.setenv("SGLORA_FED_HOME", str(tmp_path / "home"))
    config = compose([])
    layout = run_layout(config)
    made = make_zoo(10, dim=384, size=layout.size, seed=0)
    made.means[3] *= 100
    found = open_zoo(tmp_path / "zoo", zoo_identity(config, layout, 0))
    found.add(made)
    return found


def test_a_zoo_is_screened_once_until_it_changes(
    store: ZooStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    screened: list[int] = []

    def counted(embeddings: np.ndarray, *others: Any) -> np.ndarray:
        screened.append(len(embeddings))
        return trusted(embeddings, *others)

    monkeypatch.setattr(zoos, "trusted", counted)
    first, again = trusted_zoo(store), trusted_zoo(store)
    assert first.ids == again.ids == tuple(f"e{n:03d}" for n in range(10) if n != 3)
    assert first.sha256 == again.sha256
    assert screened == [10]
    store.remove(["e004"])
    assert "e004" not in trusted_zoo(store).ids
    assert screened == [10, 9]


@pytest.mark.parametrize("text", ["[3", "[10]", "[true]", "[-1]", '{"3": 3}', "3"])
def test_what_is_no_verdict_is_refused(store: ZooStore, tmp_path: Path, text: str) -> None:
    trusted_zoo(store)
    (path,) = (tmp_path / "home" / "kept" / zoos.VERDICT).iterdir()
    path.write_text(text)
    with pytest.raises(ZooDamagedError, match="remove it"):
        trusted_zoo(store)
