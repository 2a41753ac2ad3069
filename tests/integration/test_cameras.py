"""A run on the cameras, and one on their export: the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sglora_fed.config import compose
from sglora_fed.federation.calibrate import CALIBRATE
from sglora_fed.federation.compare import COMPARE
from sglora_fed.privacy.catalogue import write_catalogue
from sglora_fed.privacy.families import catalogue_of
from sglora_fed.tasks import load_family
from sglora_fed.tasks.export import write_family

FAMILY = (
    "family=cameras",
    "family.experts=6",
    "family.clients_per_split=2",
    "family.train_per_client=16",
    "family.test_per_client=8",
)
MODEL = (
    "backbone=cameras",
    "adapter.targets=[q_proj,v_proj]",
    "adapter.layers=[]",
    "generator=functional",
    "generator.readings=3",
    "experiment.methods=[zero_shot,topk,functional,shared_lora,policy,oracle]",
)


@pytest.fixture
def both(
    make_loop: Callable[..., Any], cold_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, Any]:
    """A run on the family, and one on its export in a home of its own."""
    folder = tmp_path / "exported"
    write_family(load_family(compose(FAMILY).family), folder)
    write_catalogue(catalogue_of("cameras"), folder / "catalogue.json")
    mine = make_loop(*FAMILY, *MODEL).run()
    monkeypatch.setenv("SGLORA_FED_HOME", str(tmp_path / "another"))
    listed = f"privacy.catalogue='{folder / 'catalogue.json'}'"
    local = ("family=local", f"family.path='{folder}'", listed)
    return mine, make_loop(*local, *MODEL, output="local").run()


def test_a_run_on_the_export_gives_the_same_numbers(both: tuple[Any, Any]) -> None:
    mine, local = both
    assert mine.rows == local.rows
    assert {row["split"] for row in mine.rows} == {"new_combination", "new_element", "new_words"}
    metrics = {f"{way}_r{k}" for way in ("i2t", "t2i") for k in (1, 5, 10)}
    assert {row["metric"] for row in mine.rows} >= metrics
    assert len({row["value"] for row in mine.rows}) > 5  # not all alike, or equality says nothing


def test_clients_tell_for_themselves_what_to_adopt(both: tuple[Any, Any]) -> None:
    """Nobody is asked for comparisons, and each client has what its own pictures say."""
    mine, _ = both
    assert not mine.of_kind(CALIBRATE)
    assert {
        len(exchange.request.content["arrays"]["confidence"].numpy())
        for exchange in mine.of_kind(COMPARE)
    } == {0}
    values = {(r["client"], r["method"], r["metric"]): r["value"] for r in mine.rows}
    for client, (_, _, share, adopted) in mine.summary["confidence"].items():
        assert 0 < share <= 1
        chosen = "functional" if adopted else "shared_lora"
        assert values[client, "policy", "t2i_r1"] == values[client, chosen, "t2i_r1"]
    pairs = [(pair["surer"], pair["than"]) for pair in mine.summary["separation"]]
    assert ("new_combination", "new_element") in pairs
    assert len(pairs) == 3


def test_a_client_of_shares_keeps_the_reading_that_it_keeps_in_clear(
    make_loop: Callable[..., Any], cold_home: Path
) -> None:
    """Its pictures choose among the same adapters, none of which a server has seen."""
    told = (*FAMILY, *MODEL, "experiment.methods=[zero_shot,functional]")
    told += ("experiment.controls=false",)
    clear = make_loop(*told).run()
    hidden = make_loop(*told, "privacy=shares", output="hidden").run()
    alone = make_loop(*told, "generator.readings=1", output="alone").run()
    assert hidden.rows == clear.rows
    assert hidden.rows != alone.rows
    assert hidden.summary["bytes_per_client"]["up"] <= 2048
