"""An expert from PEFT folders is in the zoo as if it had enrolled; others are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sglora_fed.adapters.layout import Layout
from sglora_fed.adapters.peft_io import write_peft
from sglora_fed.backbones import load_describer
from sglora_fed.config import compose
from sglora_fed.errors import (
    AdapterFileError,
    AdapterValueError,
    QuotaError,
    VocabularyError,
    ZooDamagedError,
    ZooForeignError,
)
from sglora_fed.experiments.addition import Newcomer, add_expert
from sglora_fed.federation.wordings import WORDINGS
from sglora_fed.zoo import Zoo, ZooIdentity, ZooStore, open_zoo, read_store

CONFIG = compose([])
WORDS = ("it hangs upside down", "the picture is turned by half a turn")


@pytest.fixture
def store(tmp_path: Path, make_zoo: Callable[..., Zoo], identity: ZooIdentity) -> ZooStore:
    encoder = load_describer(CONFIG.backbone).fingerprint
    found = open_zoo(tmp_path / "zoo", replace(identity, encoder=encoder))
    found.add(replace(make_zoo(3, dim=384, wordings=WORDINGS), owners=("a", "a", "b")))
    return found


@pytest.fixture
def steps() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, 11)).astype(np.float32) * 0.1


@pytest.fixture
def one(store: ZooStore, steps: np.ndarray, tmp_path: Path) -> Newcomer:
    layout = Layout.from_dict(store.identity.layout)
    # Another tool may list modules in another order.
    turned = replace(layout, modules=layout.modules[::-1])
    folders = []
    for number, vector in enumerate(steps):
        folders.append(tmp_path / f"step-{number}")
        cut = layout.rank * (layout.modules[0].d_in + layout.modules[0].d_out)
        write_peft(np.concatenate([vector[cut:], vector[:cut]]), turned, None, folders[-1])
    return Newcomer("new", tuple(folders), WORDS, "c", 40)


def test_it_is_there_with_its_statistics(store: ZooStore, one: Newcomer, steps: np.ndarray) -> None:
    add_expert(CONFIG, store, one)
    zoo = read_store(store.path).load()
    row = zoo.ids.index("new")
    np.testing.assert_allclose(zoo.means[row], steps.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(zoo.variances[row], steps.var(axis=0), atol=1e-6)
    wanted = load_describer(CONFIG.backbone).encode(list(WORDS))
    np.testing.assert_allclose(zoo.wordings[row][0], wanted[0], atol=1e-5)
    np.testing.assert_allclose(zoo.wordings[row][1], wanted[1], atol=1e-5)
    assert (zoo.owners[row], zoo.examples[row]) == ("c", 40)
    with pytest.raises(ZooDamagedError, match="already"):
        add_expert(CONFIG, store, one)


def test_an_owner_has_so_many_and_no_more(store: ZooStore, one: Newcomer) -> None:
    config = compose(["federation.experts_per_node=2"])
    with pytest.raises(QuotaError, match="a has 2 experts; at most 2"):
        add_expert(config, store, replace(one, owner="a"))
    add_expert(config, store, replace(one, owner="b"))
    with pytest.raises(QuotaError):
        add_expert(config, store, replace(one, owner="b", name="another"))


def test_others_are_refused(
    store: ZooStore, one: Newcomer, steps: np.ndarray, tmp_path: Path
) -> None:
    before, layout = store.ids(), Layout.from_dict(store.identity.layout)
    other = replace(layout, alpha=5.0)
    write_peft(steps[0], other, None, tmp_path / "alpha")
    write_peft(steps[0] * 1e6, layout, None, tmp_path / "long")
    for folder, error in (
        ("alpha", AdapterFileError),
        ("long", AdapterValueError),
        ("nowhere", AdapterFileError),
    ):
        with pytest.raises(error):
            add_expert(CONFIG, store, replace(one, checkpoints=(tmp_path / folder,)))
    with pytest.raises(VocabularyError):
        add_expert(CONFIG, store, replace(one, descriptions=("\U0001f600 \U0001f389",)))
    foreign = compose(["backbone.describer=clip"])
    with pytest.raises(ZooForeignError):
        add_expert(foreign, store, one)
    assert read_store(store.path).ids() == before
