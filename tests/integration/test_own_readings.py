"""Nodes of one's own, an exported generator and several readings: pictures find the right one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sglora_fed.adapters.peft_io import read_peft
from sglora_fed.backbones import light_describer
from sglora_fed.cli_zoo import zoo_export
from sglora_fed.config import compose
from sglora_fed.edge.settings import FILE, OwnNode
from sglora_fed.edge.starting import make_node, promise
from sglora_fed.federation.layouts import run_layout
from sglora_fed.kept.catalogues import kept_snap
from sglora_fed.kept.zoos import zoo_identity
from sglora_fed.privacy.families import catalogue_of
from sglora_fed.tasks.cameras.family import unspoilt_family
from sglora_fed.tasks.export import write_family
from sglora_fed.tasks.types import TaskFamily
from sglora_fed.zoo import Zoo, open_zoo
from tests.integration.test_own_nodes import CAPTIONS, WORDS, NodesGrid, serve, settings

READINGS = 6
CONFIG = (
    "generator=nearest",
    f"generator.readings={READINGS}",
    "family.train_per_client=32",
    "family.test_per_client=10",
)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray, np.ndarray]:
    """An exported generator; its adapters for the nearest entry, and for the one that is meant.

    An expert for each entry: all but one are noise that spoils what upright pictures show. That one
    changes next to nothing, and is neither the nearest entry's nor the description's own.
    """
    config = compose(CONFIG)
    layout, rng = run_layout(config), np.random.default_rng(0)
    describer = light_describer(config.backbone)
    snap = kept_snap(catalogue_of("cameras"), describer)
    own = np.asarray(describer.encode([WORDS]))[0]
    first, *others = snap.nearest(own, READINGS - 1)
    also = snap.nearest(snap.embeddings[first], READINGS)
    meant = next(place for place in others if place in also)
    entries = np.unique([first, *others, *also])
    means = rng.normal(scale=0.3, size=(len(entries), layout.size)).astype(np.float32)
    means[entries == meant] *= np.float32(0.01)
    said = entries[(snap.embeddings[entries] @ own).argmax()]
    assert said != meant
    wordings = snap.embeddings[entries][:, None].astype(np.float32)
    variances, examples = np.full_like(means, 1e-4), np.full(len(entries), 9, np.int64)
    zoo = Zoo(tuple(f"e{place}" for place in entries), wordings, means, variances, examples)
    folder = tmp_path_factory.mktemp("planted")
    open_zoo(folder / "zoo", zoo_identity(config, layout, 0)).add(zoo)
    zoo_export(folder / "out", list(CONFIG), folder / "zoo")
    return folder / "out", means[entries == first][0], means[entries == meant][0]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a camera that has no fault, with their captions."""
    folder = tmp_path_factory.mktemp("pictures")
    task = unspoilt_family(compose(CONFIG).family).of_role("client")[0]
    write_family(TaskFamily("cameras", (task,)), folder)
    return folder


@pytest.mark.parametrize("wish", [(), ("privacy=local",), ("privacy=krr", "privacy.epsilon=30")])
def test_a_node_keeps_the_reading_that_suits_its_pictures(
    planted: tuple[Path, np.ndarray, np.ndarray],
    pictures: Path,
    tmp_path: Path,
    wish: tuple[str, ...],
) -> None:
    """By the server's adapters, or by its own of the generator that comes; else the nearest's."""
    export, first, meant = planted
    blind = OwnNode(tmp_path / "blind" / FILE, WORDS, captions=CAPTIONS, name="blind")
    seeing = replace(
        blind, file=tmp_path / "seeing" / FILE, name="seeing", captions=(), data=pictures,
        adapter=Path("adapter"),
    )  # fmt: skip
    given = {"epsilon": 30.0, "total_epsilon": 30.0}
    for node in (blind, seeing):
        make_node(node, promise(not wish, given if wish else {}))
    told = [*CONFIG, f"zoo.path={export}", "federation.retry_after=0.001", *wish]
    counts = serve(NodesGrid([settings(blind), settings(seeing)], told), told, tmp_path / "out")
    assert (counts["served"], counts["failed"], counts["refused"]) == (2, 0, 0)
    for node, wanted in ((blind, first), (seeing, meant)):
        np.testing.assert_allclose(read_peft(node.adapter)[0], wanted, atol=2e-3)
