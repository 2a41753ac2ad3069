"""What was made with a withdrawn expert is gone, and nothing of its numbers is on the disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sglora_fed.adapters.layout import Layout, initial_vector
from sglora_fed.config import compose
from sglora_fed.config.schema import GeneratorConfig, RunConfig
from sglora_fed.errors import ExportError, ZooSizeError
from sglora_fed.federation.node import run_layout
from sglora_fed.generators import fit_generator, make_generator
from sglora_fed.generators.confidence import Confidence
from sglora_fed.generators.export import About, write_export
from sglora_fed.kept.adapters import keep_shared, kept_shared
from sglora_fed.kept.facts import confidence_facts, generator_facts, shared_facts
from sglora_fed.kept.generators import (
    generator_for,
    keep_confidence,
    keep_generator,
    kept_confidence,
)
from sglora_fed.kept.local import kind_of
from sglora_fed.kept.store import ALONE, TUNED
from sglora_fed.kept.withdrawal import withdraw
from sglora_fed.kept.zoos import trusted_zoo, zoo_identity
from sglora_fed.zoo import Zoo, ZooStore, open_zoo, read_store

MakeZoo = Callable[..., Zoo]
ABSENT = ("e004",)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SGLORA_FED_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def config() -> RunConfig:
    return compose([])


@pytest.fixture(scope="module")
def layout(config: RunConfig) -> Layout:
    return run_layout(config)


@pytest.fixture
def make_store(config: RunConfig, layout: Layout, make_zoo: MakeZoo, home: Path) -> MakeZoo:
    """A function of (name, experts, seed) that makes a zoo, with all that runs keep of one."""

    def make(name: str, experts: int, seed: int) -> ZooStore:
        store = open_zoo(home / "zoos" / name, zoo_identity(config, layout, seed))
        store.add(make_zoo(experts, dim=384, size=layout.size, seed=seed))
        _keep(config, layout, store)
        return store

    return make


def _keep(config: RunConfig, layout: Layout, store: ZooStore) -> None:
    zoo, seed = trusted_zoo(store), store.identity.seed
    shared = zoo.means.mean(axis=0)
    keep_shared(shared, layout, config, shared_facts(config, layout, zoo, seed), ())
    generator = make_generator(config.generator)
    generator.begin(zoo, layout, shared)
    facts = generator_facts(config, config.generator.name, layout, zoo, seed)
    for absent in ((), ABSENT):
        keep_generator(generator, config.generator, store.identity, facts, absent)
    told = Confidence(np.zeros(4), np.eye(4))
    keep_confidence(told, confidence_facts(config, layout, zoo, seed))


def test_nothing_of_it_is_left(
    home: Path, config: RunConfig, layout: Layout, make_store: Callable[..., ZooStore]
) -> None:
    store, other = make_store("its", 5, 0), make_store("other", 4, 1)
    zoo, seed = store.load(), store.identity.seed
    before = shared_facts(config, layout, trusted_zoo(store), seed)
    assert kept_shared(before, layout) is not None
    dropped = withdraw(store, ["e002"], ())
    # Shared LoRA, generator (whole, and without somebody), confidence, and what each was made from;
    # and whom screening found in either zoo.
    assert len(dropped) == 4 + 3 + 2
    numbers = zoo.means[2].tobytes()[:256], zoo.wordings[2].tobytes()[:256]
    for path in home.rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        assert not any(part in data for part in numbers), path
        assert zoo.fingerprints()["e002"].encode() not in data, path
    assert kept_shared(before, layout) is None
    assert read_store(store.path).ids() == ("e000", "e001", "e003", "e004")
    # Nothing of the others is lost.
    rest = trusted_zoo(other)
    assert kept_shared(shared_facts(config, layout, rest, 1), layout) is not None
    assert kept_confidence(confidence_facts(config, layout, rest, 1)) is not None
    generator_for(config, other)


def test_what_says_nothing_of_its_origin_goes_too(
    home: Path, make_store: Callable[..., ZooStore]
) -> None:
    store, other = make_store("its", 3, 0), make_store("other", 4, 1)
    (home / "kept" / "experts" / f"{trusted_zoo(other).sha256}.json").unlink()
    for kind, stays in (("tuned", False), ("of_another_version", False), ("trained_alone", True)):
        path = home / "kept" / kind / f"{'0' * 64}.safetensors"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"numbers")
        withdraw(store, [store.ids()[0]], ())
        assert path.exists() == stays
    assert not list((home / "kept" / "generator").iterdir())


def test_exports_that_it_has_a_part_in_are_deleted(
    home: Path, tmp_path: Path, make_store: Callable[..., ZooStore]
) -> None:
    stores = [make_store("its", 5, 0), make_store("other", 4, 1)]
    config, folders = GeneratorConfig(), []
    for store in stores:
        zoo = trusted_zoo(store)
        about = About("f", None, None, store.identity, tuple(sorted(zoo.fingerprints().values())))
        folders.append(tmp_path / f"export-{store.identity.seed}")
        write_export(folders[-1], fit_generator(config, "ridge", zoo, 0), config, about, None)
    withdraw(stores[0], ["e001"], folders)
    assert [folder.exists() for folder in folders] == [False, True]


def test_a_mistake_deletes_nothing(
    home: Path, tmp_path: Path, make_store: Callable[..., ZooStore]
) -> None:
    store = make_store("its", 3, 0)
    before = sorted(home.rglob("*"))
    with pytest.raises(ZooSizeError, match="nobody"):
        withdraw(store, ["e000", "nobody"], ())
    with pytest.raises(ExportError):
        withdraw(store, ["e000"], [tmp_path / "nowhere"])
    assert sorted(home.rglob("*")) == before


def test_what_a_client_began_at_nothing_is_told_from_what_experts_helped_with(
    home: Path, layout: Layout
) -> None:
    start = initial_vector(layout, 0).numpy()
    assert kind_of(layout, start) == ALONE
    assert kind_of(layout, start + np.float32(1e-6)) == TUNED
