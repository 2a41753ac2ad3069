"""What the client's app makes of its node's settings."""

from __future__ import annotations

import pytest
from flwr.app import Context, RecordDict

import client.app
from sglora_fed.federation.virtual import VirtualContext
from sglora_fed.privacy.floor import UNTOLD

SETTINGS: dict[str, int] = {"partition-id": 0, "num-partitions": 1}


@pytest.mark.parametrize("name", ["a=b", "a,b", "[a]", "it's", "a#b", "a&b", "müll", "a b", "${a}"])
def test_a_nodes_own_tasks_may_lie_in_a_folder_of_any_name(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sglora_fed.federation.node.open_node", lambda config, *_: config)
    folder = f"/data/{name}"
    settings = {"tasks": folder, "partition-id": 0, "num-partitions": 1}
    context = Context(1, 2, settings, RecordDict(), {"overrides": "family.path=/elsewhere"})
    family = client.app._node(context).family
    assert (family.name, family.path) == ("local", folder)


@pytest.mark.parametrize("run_config", [{}, {"overrides": "privacy=none"}, {"virtual": True}])
def test_whoever_is_not_known_to_be_simulated_releases_nothing(
    run_config: dict[str, str | bool],
) -> None:
    context = Context(1, 2, {**SETTINGS, "virtual": True}, RecordDict(), {**run_config})
    assert client.app._node(context).floor is UNTOLD


def test_the_runs_configuration_plays_the_table_of_simulated_nodes_alone() -> None:
    context = VirtualContext(1, 2, {**SETTINGS}, RecordDict(), {})
    floor = client.app._node(context).floor
    assert (floor.mechanisms, floor.virtual) == (("none",), True)
