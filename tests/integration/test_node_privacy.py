"""A node's own table against the server's wish, in the whole loop."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from sglora_fed.config import compose
from sglora_fed.errors import BudgetError, LedgerError, PromiseError, RepliesError
from sglora_fed.federation.describe import DESCRIBE
from sglora_fed.privacy.floor import read_floor
from sglora_fed.privacy.ledger import create_ledger
from sglora_fed.tasks import load_family
from sglora_fed.tasks.export import write_family
from tests.integration.conftest import TINY

MakeLoop = Callable[..., Any]

WISH = ("privacy=privunit", "privacy.epsilon=8")


def owned(folder: Path, epsilon: float, total: float) -> dict[str, str]:
    """Node config of a node that promises so much."""
    folder.mkdir()
    create_ledger(folder / "ledger")
    (folder / "node.toml").write_text(
        f'[privacy]\nmechanisms = ["privunit"]\nepsilon = {epsilon}\ntotal_epsilon = {total}\n'
        'ledger = "ledger"\n'
    )
    return {"node": str(folder / "node.toml"), "adapters": str(folder / "adapters")}


@pytest.fixture
def serve(make_fast: MakeLoop, home: Path) -> Callable[..., Any]:
    def made(settings: dict[str, str], *overrides: str, output: str = "out") -> Any:
        told = {"goal": "adopt", "nodes": 1, "node_configs": [settings], "output": output}
        return make_fast(*overrides, **told)

    return made


def refused(run: Any, code: int) -> None:
    with pytest.raises(RepliesError, match=f"code {code}"):
        run.run()
    (asked,) = run.of_kind(DESCRIBE)
    assert not asked.reply.has_content()


def spent(settings: dict[str, str], client: str) -> Fraction:
    return read_floor(Path(settings["node"])).opened().spent(client)[0]


def test_a_stronger_wish_is_served_and_paid_once(serve: Callable[..., Any], tmp_path: Path) -> None:
    settings = owned(tmp_path / "node", 8.0, 8.0)
    first, again = serve(settings, *WISH).run(), serve(settings, *WISH, output="again").run()
    assert json.loads(first.path("adopted.json").read_text()) == {"clients": 6, "adopted": 6}
    (one,), (other,) = first.of_kind(DESCRIBE), again.of_kind(DESCRIBE)
    assert (one.array("embeddings") == other.array("embeddings")).all()
    assert {spent(settings, name) for name in one.fields()["ids"]} == {8}
    refused(serve(settings, *WISH, "privacy.epsilon=7", output="more"), BudgetError.code)


@pytest.mark.parametrize("wish", [(), ("privacy=gaussian",), (*WISH, "privacy.epsilon=8.5")])
def test_a_weaker_wish_is_refused_and_costs_nothing(
    serve: Callable[..., Any], tmp_path: Path, wish: tuple[str, ...]
) -> None:
    settings = owned(tmp_path / "node", 8.0, 80.0)
    run = serve(settings, *wish)
    refused(run, PromiseError.code)
    assert spent(settings, "combo-00") == 0


def test_the_servers_budget_is_not_the_nodes(serve: Callable[..., Any], tmp_path: Path) -> None:
    settings = owned(tmp_path / "node", 8.0, 7.0)
    refused(serve(settings, *WISH, "privacy.budget=1000"), BudgetError.code)


def test_without_its_ledger_a_node_releases_nothing(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    settings = owned(tmp_path / "node", 8.0, 80.0)
    (tmp_path / "node" / "ledger" / "witness").unlink()
    refused(serve(settings, *WISH), LedgerError.code)


def test_a_node_with_tasks_of_its_own_and_no_table_sends_nothing_in_clear(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    write_family(load_family(compose(TINY).family), tmp_path / "tasks")
    refused(serve({"tasks": str(tmp_path / "tasks")}), PromiseError.code)
