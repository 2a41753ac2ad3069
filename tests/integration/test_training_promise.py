"""What a node promises its experts' examples against the server's wish, in whole runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dp_accounting
import pytest

from sglora_fed.config import compose
from sglora_fed.errors import BudgetError, LedgerError, PromiseError, RepliesError
from sglora_fed.federation.enrol import ENROL
from sglora_fed.federation.private import ROUND, SHARED
from sglora_fed.privacy.floor import read_floor
from sglora_fed.privacy.ledger import create_ledger
from sglora_fed.tasks import load_family
from tests.integration.conftest import TINY

MakeLoop = Callable[..., Any]

DELTA = 1e-3

WISH = (
    "generator=functional", "experiment.methods=[zero_shot,functional,shared_lora]",
    "privacy.training.lr=0.01", "adapter.train.batch_size=256", "adapter.layers=[5]",
    "federation.shared_clients=6", "federation.shared_rounds=1", "federation.shared_steps=1",
    "federation.generator_clients=6", "federation.generator_steps=1",
    "privacy.training.epsilon=8", f"privacy.training.delta={DELTA}",
)  # fmt: skip

TABLE = f"training_epsilon = 8\ntraining_delta = {DELTA}"


@pytest.fixture
def serve(make_fast: MakeLoop, cold_home: Path, tmp_path: Path) -> Callable[..., Any]:
    """A function of overrides and more of the node's table that prepares a run with one node."""
    folder = tmp_path / "node"
    folder.mkdir()
    create_ledger(folder / "ledger")

    def made(*overrides: str, table: str = TABLE, output: str = "out") -> Any:
        text = f'[privacy]\nmechanisms = ["none"]\nledger = "ledger"\n{table}\n'
        (folder / "node.toml").write_text(text)
        settings = [{"node": str(folder / "node.toml")}]
        return make_fast(*WISH, *overrides, nodes=1, node_configs=settings, output=output)

    return made


def rows(tmp_path: Path) -> dict[str, list[dict[str, Any]]]:
    """Expert -> what the node's ledger keeps of its training."""
    ledger = read_floor(tmp_path / "node" / "node.toml").training_ledger()
    names = [task.id for task in load_family(compose(TINY).family).of_role("expert")]
    return {name: [json.loads(row) for row in ledger.notes(name)] for name in names}


def epsilon_of(own: list[dict[str, Any]]) -> float:
    """By the closed form: all examples are in every step."""
    assert all(row["noise"][1] == 1 for row in own)
    whole = sum(steps / sigma**2 for sigma, _, steps in (row["noise"] for row in own))
    return float(dp_accounting.get_epsilon_gaussian(whole**-0.5, DELTA))


def released(cold_home: Path) -> list[str]:
    folder = cold_home / "released"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def refused(run: Any, code: int) -> None:
    with pytest.raises(RepliesError, match=f"code {code}"):
        run.run()
    assert not any(exchange.reply.has_content() for exchange in run.of_kind(ENROL))


def test_all_exchanges_of_a_run_are_counted_and_the_count_survives(
    serve: Callable[..., Any], cold_home: Path, tmp_path: Path
) -> None:
    run = serve().run()
    assert run.of_kind(ENROL)
    spent = rows(tmp_path)
    places = {f"{ENROL} 0", f"{SHARED} 1", f"{ROUND} 1", f"{ROUND} 2"}
    assert all({row["place"] for row in own} == places for own in spent.values())
    # The noise was made for 8, and a little is left by its calibration.
    assert all(7.9 < epsilon_of(own) <= 8 for own in spent.values())
    first = released(cold_home)
    # A server that lost everything: the same numbers, at no cost.
    shutil.rmtree(cold_home / "zoos")
    shutil.rmtree(cold_home / "kept")
    again = serve(output="again").run()
    assert again.trained() == run.trained()
    assert (released(cold_home), rows(tmp_path)) == (first, spent)
    # Another seed is another training of the same examples: nothing is left for it.
    refused(serve("seeds=[1]", output="b"), BudgetError.code)
    refused(serve("seeds=[1]", "privacy.training.epsilon=0.5", output="c"), BudgetError.code)
    assert (released(cold_home), rows(tmp_path)) == (first, spent)
    # Answers that are gone are not given anew: two of them would tell more than one.
    shutil.rmtree(cold_home)
    refused(serve(output="d"), BudgetError.code)
    assert (released(cold_home), rows(tmp_path)) == ([], spent)


def test_several_runs_share_the_limit(serve: Callable[..., Any], tmp_path: Path) -> None:
    weak = "privacy.training.epsilon=4"
    for seed in (0, 1):
        serve(weak, f"seeds=[{seed}]", output=f"{seed}").run()
    both = [epsilon_of(own) for own in rows(tmp_path).values()]
    # Less than the sum of 8, which noise does not add up to, and more than one alone.
    assert all(4.5 < epsilon < 7 for epsilon in both)
    refused(serve("seeds=[2]", output="2"), BudgetError.code)


@pytest.mark.parametrize(
    ("wish", "table"),
    [
        (("privacy.training.epsilon=null",), TABLE),
        (("privacy.training.epsilon=8.5",), TABLE),
        (("privacy.training.epsilon=1000",), TABLE),
        (("privacy.training.delta=0.5",), TABLE),
        (("privacy.training.delta=0.5",), "training_epsilon = 8"),
        ((), "training_epsilon = 8\ntraining_delta = 1e-5"),
    ],
)
def test_a_weaker_wish_is_refused_before_anything_is_trained(
    serve: Callable[..., Any],
    cold_home: Path,
    tmp_path: Path,
    wish: tuple[str, ...],
    table: str,
) -> None:
    refused(serve(*wish, table=table), PromiseError.code)
    assert not released(cold_home)
    assert not any(rows(tmp_path).values())


def test_without_its_ledger_nothing_is_trained(
    serve: Callable[..., Any], cold_home: Path, tmp_path: Path
) -> None:
    run = serve()
    (tmp_path / "node" / "ledger" / "witness").unlink()
    refused(run, LedgerError.code)
    assert not released(cold_home)


def test_updates_of_whole_experts_are_counted_for_their_examples(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    unit = ("privacy.training.unit=expert", "privacy.training.clip=0.05")
    serve(*unit).run()
    (sigma, _, steps) = rows(tmp_path)[next(iter(rows(tmp_path)))][0]["noise"]
    assert steps == 1
    # Replacing one example moves each of four updates as far as replacing all may.
    whole = dp_accounting.get_epsilon_gaussian(sigma / 4**0.5, DELTA)
    assert whole == pytest.approx(8.0, rel=1e-6)
