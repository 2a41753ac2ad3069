"""What the client's app makes of its node's settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from flwr.app import Context, RecordDict

import client.app
from sglora_fed.errors import TaskFileError
from sglora_fed.federation.virtual import VirtualContext
from sglora_fed.privacy.floor import UNTOLD

SETTINGS: dict[str, int] = {"partition-id": 0, "num-partitions": 1}


def told(folder: Path, **more: str) -> str:
    """A folder with one task, as a node config names it."""
    folder.mkdir()
    task = {"id": "own", "description": "words", "labels": {"a": "A", "b": "B"}, **more}
    (folder / "tasks.jsonl").write_text(json.dumps(task) + "\n")
    return str(folder)


@pytest.mark.parametrize("name", ["a=b", "a,b", "[a]", "it's", "a#b", "a&b", "müll", "a b", "${a}"])
def test_a_nodes_own_tasks_may_lie_in_a_folder_of_any_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sglora_fed.federation.node.open_node", lambda config, *_: config)
    folder = told(tmp_path / name, role="client")
    settings = {"tasks": folder, **SETTINGS}
    context = Context(1, 2, settings, RecordDict(), {"overrides": "family.path=/elsewhere"})
    family = client.app._node(context).family
    assert (family.name, family.path) == ("local", folder)


def test_no_seed_of_a_server_makes_an_expert_of_somebodys_task(tmp_path: Path) -> None:
    # An expert's description leaves in clear.
    settings = {"tasks": told(tmp_path / "tasks"), **SETTINGS}
    with pytest.raises(TaskFileError, match="no role"):
        client.app._node(Context(1, 2, settings, RecordDict(), {"overrides": "family.seed=7"}))


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
