"""Floor: what a node's owner has written counts, whatever the server asks."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from sglora_fed.config import compose
from sglora_fed.errors import BudgetError, FloorError, LedgerError, PromiseError
from sglora_fed.privacy import PrivUnitMechanism
from sglora_fed.privacy.floor import UNTOLD, Floor, floor_of, read_floor, virtual_floor
from sglora_fed.privacy.ledger import Budget, Request, create_ledger

TABLE = """
[privacy]
mechanisms = ["gaussian", "privunit"]
epsilon = 4
delta = 1e-6
total_epsilon = 12.0
total_delta = 3e-6
ledger = "spent"
"""


def written(folder: Path, text: str = TABLE) -> Path:
    path = folder / "node.toml"
    path.write_text(text)
    return path


class TestReading:
    def test_a_table_says_what_the_node_promises(self, tmp_path: Path) -> None:
        found = read_floor(written(tmp_path))
        assert found.mechanisms == ("gaussian", "privunit")
        assert (found.epsilon, found.delta) == (4.0, 1e-6)
        assert found.budget == Budget(12.0, 3e-6)
        assert found.ledger == tmp_path / "spent"
        assert not found.virtual

    def test_a_larger_file_may_embed_the_table(self, tmp_path: Path) -> None:
        more = 'tasks = "x"\n' + TABLE + "\n[node]\nname = 'a'\n"
        assert read_floor(written(tmp_path, more)) == read_floor(written(tmp_path))

    def test_clear_needs_no_ledger(self, tmp_path: Path) -> None:
        found = floor_of({"mechanisms": ["none"]}, tmp_path)
        found.check("none", None, None)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"mechanisms": "privunit"}, "list of names"),
            ({"mechanisms": ["privnit"]}, "privnit"),
            ({"epsilon": "4"}, "number"),
            ({"epsilon": True}, "number"),
            ({"epsilon": 0}, "epsilon"),
            ({"epsilon": float("nan")}, "epsilon"),
            ({"epsilon": -1.0}, "epsilon"),
            ({"epsilon": 1e9}, "epsilon"),
            ({"delta": 1.0}, "delta"),
            ({"delta": float("nan")}, "delta"),
            ({"total_epsilon": -1.0}, "total_epsilon"),
            ({"total_epsilon": float("inf")}, "total_epsilon"),
            ({"total_epsilon": 0.0}, "total_epsilon"),
            ({"epsilon": 10**400}, "1329 bits"),
            ({"epsilon": 16**9000}, "36001 bits"),
            ({"ledger": 3}, "folder"),
            ({"ledger": "a\0b"}, "folder"),
            ({"ledger": "~nobody-of-this-name/l"}, "ledger"),
            ({"ledger": None}, "ledger"),
            ({"floor": 1}, "floor"),
            ({"experts": 1}, "experts"),
            ({"experts": "true"}, "experts"),
        ],
    )
    def test_a_wrong_table(self, tmp_path: Path, change: dict[str, object], words: str) -> None:
        table: dict[str, object] = {
            "mechanisms": ["privunit"], "epsilon": 4.0, "total_epsilon": 8.0, "ledger": "l",
        }  # fmt: skip
        with pytest.raises(FloorError, match=words):
            floor_of(table | change, tmp_path)

    @pytest.mark.parametrize("text", ["", "[privacy", "privacy = 3", "\x00", "[other]\na = 1"])
    def test_no_table(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(FloorError):
            read_floor(written(tmp_path, text))
        with pytest.raises(FloorError):
            read_floor(tmp_path / "missing.toml")


class TestChecking:
    floor = Floor(("gaussian", "privunit"), 4.0, 1e-6, Budget(8.0, 1e-5), Path("l"))

    @pytest.mark.parametrize(
        ("mechanism", "epsilon", "delta"),
        [("privunit", 4.0, 0.0), ("privunit", 0.1, 0.0), ("gaussian", 4.0, 1e-6)],
    )
    def test_what_is_stronger_passes(self, mechanism: str, epsilon: float, delta: float) -> None:
        self.floor.check(mechanism, epsilon, delta)

    @pytest.mark.parametrize(
        ("mechanism", "epsilon", "delta"),
        [
            ("none", None, None),
            ("krr", 1.0, 0.0),
            ("privunit", 4.001, 0.0),
            ("privunit", None, None),
            ("privunit", float("nan"), 0.0),
            ("gaussian", 1.0, 1.1e-6),
            ("gaussian", 1.0, float("nan")),
        ],
    )
    def test_what_is_weaker_is_refused(
        self, mechanism: str, epsilon: float | None, delta: float | None
    ) -> None:
        with pytest.raises(PromiseError):
            self.floor.check(mechanism, epsilon, delta)

    @pytest.mark.parametrize("mechanism", ["none", "gaussian", "krr"])
    def test_a_node_that_was_told_nothing_releases_nothing(self, mechanism: str) -> None:
        with pytest.raises(PromiseError):
            UNTOLD.check(mechanism, 0.1, 0.0)
        UNTOLD.check("local", None, None)


class TestExperts:
    TABLE: ClassVar[dict[str, object]] = {
        "mechanisms": ["krr"], "epsilon": 4.0, "total_epsilon": 8.0, "ledger": "l",
    }  # fmt: skip

    def test_publish_where_their_node_says_nothing_of_them(self, tmp_path: Path) -> None:
        floor_of(self.TABLE, tmp_path).check_experts(None)
        UNTOLD.check_experts(None)
        open_ = {"experts": True, "mechanisms": ["none", "krr"]}
        floor_of(self.TABLE | open_, tmp_path).check_experts(None)

    def test_are_promised_what_requests_are(self, tmp_path: Path) -> None:
        floor = floor_of(self.TABLE | {"experts": True}, tmp_path)
        floor.check_experts(4.0)
        for weaker in (None, 4.5, float("nan")):
            with pytest.raises(PromiseError):
                floor.check_experts(weaker)

    def test_a_place_needs_krr_and_a_ledger(self, tmp_path: Path) -> None:
        other = floor_of(self.TABLE | {"mechanisms": ["subset"]}, tmp_path)
        for floor in (other, UNTOLD):
            with pytest.raises(PromiseError):
                floor.check_experts(1.0)

    def test_of_a_simulation_have_the_runs_epsilon(self, tmp_path: Path) -> None:
        told = ["privacy.experts=catalogue", "privacy.experts_epsilon=2"]
        config = compose([*told, "privacy=krr", "privacy.epsilon=1"]).privacy
        floor = virtual_floor(config, 3, tmp_path / "l")
        floor.check_experts(2.0)
        assert floor.budget == Budget(6.0)


class TestTraining:
    TABLE: ClassVar[dict[str, object]] = {
        "mechanisms": ["none"], "training_epsilon": 8, "ledger": "l",
    }  # fmt: skip

    def test_of_experts_is_promised_where_the_table_says_so(self, tmp_path: Path) -> None:
        floor = floor_of(self.TABLE, tmp_path)
        assert floor.training_epsilon == 8.0
        assert floor.delta_of(50) == 1 / 500
        for weaker in ((None, 1e-9), (8.1, 1e-9), (float("nan"), 1e-9), (8.0, 0.0021)):
            with pytest.raises(PromiseError):
                floor.check_training(*weaker, examples=50)
        with pytest.raises(PromiseError):
            floor.check_training(8.0, float("nan"), examples=50)
        floor.check_training(8.0, 1 / 500, examples=50)
        with pytest.raises(PromiseError):
            floor.check_judged()

    def test_a_delta_of_the_table_counts_for_all_experts(self, tmp_path: Path) -> None:
        floor = floor_of(self.TABLE | {"training_delta": 1e-5}, tmp_path)
        assert floor.delta_of(50) == 1e-5
        with pytest.raises(PromiseError):
            floor.check_training(8.0, 1 / 500, examples=50)

    def test_nothing_is_asked_of_a_node_that_says_nothing(self, tmp_path: Path) -> None:
        for floor in (UNTOLD, floor_of({"mechanisms": ["none"]}, tmp_path)):
            floor.check_training(None, None, 50)
            floor.check_judged()
            with pytest.raises(LedgerError):
                floor.training_ledger()

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"training_epsilon": 0}, "training_epsilon"),
            ({"training_epsilon": float("inf")}, "training_epsilon"),
            ({"training_epsilon": "8"}, "number"),
            ({"training_epsilon": True}, "number"),
            ({"training_delta": 0.0}, "training_delta"),
            ({"training_delta": 1.0}, "training_delta"),
            ({"ledger": None}, "ledger"),
        ],
    )
    def test_a_wrong_table(self, tmp_path: Path, change: dict[str, object], words: str) -> None:
        with pytest.raises(FloorError, match=words):
            floor_of(self.TABLE | change, tmp_path)

    def test_a_delta_needs_an_epsilon(self, tmp_path: Path) -> None:
        with pytest.raises(FloorError, match="alone"):
            floor_of({"mechanisms": ["none"], "training_delta": 1e-5, "ledger": "l"}, tmp_path)


class TestLedger:
    def test_of_a_node_is_not_made_when_it_is_missing(self, tmp_path: Path) -> None:
        floor = read_floor(written(tmp_path))
        for _ in range(2):
            with pytest.raises(LedgerError):
                floor.opened()
        create_ledger(tmp_path / "spent")
        assert floor.opened().spent("a") == (0, 0)

    def test_of_virtual_clients_has_a_release_for_each_seed(self, tmp_path: Path) -> None:
        config = compose(["privacy=privunit", "privacy.epsilon=2"]).privacy
        ledger = virtual_floor(config, 3, tmp_path / "l").opened()
        mechanism, vector = PrivUnitMechanism(4, 2.0), np.eye(4)[0]
        for seed in range(3):
            ledger.release(Request("a", f"words {seed}"), mechanism, vector)
        with pytest.raises(BudgetError):
            ledger.release(Request("a", "more words"), mechanism, vector)
        assert ledger.spent("a") == (6, 0)
