"""What the client's app makes of its node's settings."""

from __future__ import annotations

import pytest
from flwr.app import Context, RecordDict

import client.app


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
