"""What a lying node can do: nothing that lasts, and nothing to the others."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from safetensors.numpy import load_file

from sglora_fed.errors import RepliesError
from sglora_fed.federation.calibrate import CALIBRATE
from sglora_fed.federation.compare import COMPARE
from sglora_fed.federation.describe import DESCRIBE
from sglora_fed.federation.enrol import ENROL
from sglora_fed.federation.rounds import ROUND
from sglora_fed.federation.shared import SHARED
from tests.integration.comparing import zoo_in
from tests.integration.conftest import FAST, Loop
from tests.integration.damage import (
    HONEST,
    HOSTILE,
    Damage,
    array,
    damaging,
    doubled,
    empty_but_more_to_come,
    field,
    in_double,
    nan_first,
    narrower,
    nothing_at_all,
    npy,
    npz,
    one_method_less,
    one_method_more,
    raw,
    without,
    wordings_cancel,
)

MakeLoop = Callable[..., Any]
HALF = "federation.min_replies=0.5"
SECRET = "call my sister Xanthippe about the biopsy"


GARBAGE = [
    pytest.param(ENROL, array("means", narrower), "means", id="expert-shape"),
    pytest.param(ENROL, array("means", nan_first), "NaN", id="expert-nan"),
    pytest.param(ENROL, array("means", in_double), "float64", id="expert-type"),
    pytest.param(ENROL, without("wordings"), "'wordings' is missing", id="expert-missing"),
    pytest.param(ENROL, field("ids", ["a", "a"]), "twice", id="expert-twice"),
    pytest.param(ENROL, field("ids", ["a", "../b"]), "no identifier", id="expert-path"),
    pytest.param(ENROL, field("trained", ["stranger"]), "not asked for", id="expert-foreign"),
    pytest.param(ENROL, array("variances", lambda v: v - 1), "negative", id="expert-variance"),
    pytest.param(ENROL, array("wordings", doubled), "norm 2", id="expert-norm"),
    pytest.param(ENROL, array("examples", lambda v: v * 0), "no examples", id="expert-examples"),
    pytest.param(ENROL, empty_but_more_to_come, "0 experts came where", id="expert-none"),
    pytest.param(ENROL, nothing_at_all, "need 'fields'", id="expert-empty"),
    pytest.param(ENROL, raw("means", lambda d: d[: len(d) // 2]), "decoded", id="expert-half"),
    pytest.param(
        ENROL, raw("means", lambda _: npy("(2,)")), r"means is float32\(2,\)", id="expert-liar"
    ),
    pytest.param(
        ENROL, raw("means", lambda _: npy("(10000000000000,)")), "means", id="expert-memory"
    ),
    pytest.param(ENROL, raw("means", lambda _: npy("(((((")), "decoded", id="expert-header"),
    pytest.param(ENROL, raw("means", lambda _: npz()), "decoded", id="expert-archive"),
    pytest.param(DESCRIBE, array("embeddings", nan_first), "NaN", id="request-nan"),
    pytest.param(DESCRIBE, array("embeddings", narrower), "embeddings", id="request-shape"),
    pytest.param(DESCRIBE, array("embeddings", doubled), "norm 2", id="request-norm"),
    pytest.param(DESCRIBE, field("ids", ["a", "a"]), "twice", id="request-twice"),
    pytest.param(DESCRIBE, field("ids", [SECRET, "a"]), "no identifier", id="request-text"),
    pytest.param(COMPARE, array("values", lambda v: v + 1), r"outside \[0, 1\]", id="result-range"),
    pytest.param(COMPARE, array("values", nan_first), "NaN", id="result-nan"),
    pytest.param(COMPARE, array("values", lambda v: v[:1]), "values", id="result-shape"),
    pytest.param(COMPARE, array("seconds", lambda v: v - 9), "a time", id="result-time"),
    pytest.param(COMPARE, array("seconds", lambda v: v + 1e300), "a time", id="result-ages"),
    pytest.param(COMPARE, field("splits", ["one"]), "1 splits", id="result-splits"),
    pytest.param(COMPARE, without("seconds"), "'seconds' is missing", id="result-missing"),
    # The other node's clients.
    pytest.param(
        COMPARE,
        field("ids", ["new_rule-000", "new_rule-002", "new_topic-001"]),
        "",
        id="result-foreign",
    ),
    pytest.param(COMPARE, one_method_less, "values", id="result-less"),
    pytest.param(COMPARE, one_method_more, "values", id="result-more"),
    pytest.param(COMPARE, field("metrics", ["luck"]), "no task's", id="result-metric"),
    pytest.param(COMPARE, field("metrics", []), "0 metrics", id="result-nothing"),
    pytest.param(ENROL, wordings_cancel, "cancel", id="expert-cancel"),
    pytest.param(
        ENROL, array("means", lambda v: v * np.float32(1e6)), "has norm", id="expert-length"
    ),
]


class TestGarbage:
    @pytest.mark.parametrize(("kind", "damage", "reason"), GARBAGE)
    def test_is_refused_by_its_name_and_fails_the_run(
        self,
        make_fast: MakeLoop,
        home_for: Callable[[str], Path],
        kind: str,
        damage: Damage,
        reason: str,
    ) -> None:
        home_for(kind)
        few = "federation.clients_per_message=" + ("1" if kind == ENROL else "3")
        run = make_fast(few, between=damaging(kind, damage))
        with pytest.raises(RepliesError, match=f"{kind}: 1 usable replies, need 2.*{reason}"):
            run.run()
        assert run.error["code"] == RepliesError.code
        assert SECRET not in run.error["message"]
        assert not run.path("summary.json").exists()
        assert not run.path("clients.csv").exists()

    def test_nothing_of_a_refused_expert_is_kept(
        self, make_fast: MakeLoop, cold_home: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        run = make_fast(HALF, goal="zoo", between=damaging(ENROL, array("means", nan_first)))
        run.run()
        honest = {
            name
            for exchange in run.exchanges
            if exchange.partition == HONEST
            for name in exchange.fields()["trained"]
        }
        assert set(zoo_in(cold_home).ids) == honest
        assert len(honest) == 3
        assert "reply refused" in caplog.text
        assert "NaN" in caplog.text

    def test_what_two_nodes_call_alike_are_two_experts(
        self, make_fast: MakeLoop, cold_home: Path
    ) -> None:
        """Neither can keep the other out by taking its names."""
        names: dict[str, str] = {}

        def between(exchange: Any) -> Message:
            body: Any = exchange.reply.content
            if exchange.partition == HONEST:
                for own in exchange.fields()["ids"]:
                    names.setdefault(f"r{len(names)}", own)
            else:
                renamed = {own: names[f"r{i}"] for i, own in enumerate(exchange.fields()["ids"])}
                for key in ("ids", "trained"):
                    field(key, [renamed[own] for own in exchange.fields()[key]])(body)
            reply: Message = exchange.reply
            return reply

        told = (HALF, "federation.clients_per_message=6")
        honest = make_fast(*told, goal="zoo", output="honest", between=between).run()
        zoo = zoo_in(cold_home)
        assert len(zoo.ids) == 6
        assert set(names.values()) < set(zoo.ids)
        mine = [zoo.means[zoo.ids.index(name)] for name in sorted(names.values())]
        (sent,) = (e for e in honest.exchanges if e.partition == HONEST)
        np.testing.assert_array_equal(np.stack(mine), sent.array("means"))


ROUNDS = (
    "generator=functional",
    "experiment.methods=[functional]",
    "federation.shared_rounds=1",
    "federation.generator_rounds=1",
    "federation.generator_clients=6",
)
"""Every expert takes part in the one round: three on each node."""


class TestRounds:
    """A round of the generator goes on with whoever answered well, whatever is configured."""

    def test_a_refused_update_changes_nothing(
        self, make_fast: MakeLoop, home: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        def lost(exchange: Any) -> Message | None:
            gone = exchange.kind == ROUND and exchange.partition == HOSTILE
            return None if gone else exchange.reply

        soon = "federation.timeout=3"
        without_them = generator_of(make_fast(*ROUNDS, soon, between=lost), home)
        for damage, reason in (
            (array("updates", nan_first), "NaN"),
            (field("ids", ["x", "y", "z"]), "not asked"),
        ):
            caplog.clear()
            found = generator_of(make_fast(*ROUNDS, between=damaging(ROUND, damage)), home)
            assert re.search(f"{ROUND}: reply refused.*{reason}", caplog.text)
            for key, value in without_them.items():
                np.testing.assert_array_equal(found[key], value)
        all_of_them = generator_of(make_fast(*ROUNDS), home)
        assert not np.array_equal(all_of_them["offset"], without_them["offset"])

    def test_an_update_that_two_nodes_claim_ends_nothing(
        self, make_fast: MakeLoop, home: Path
    ) -> None:
        claimed: list[str] = []

        def between(exchange: Any) -> Message:
            if exchange.kind == ROUND and exchange.partition == HONEST:
                claimed[:] = exchange.fields()["ids"]
            if exchange.kind == ROUND and exchange.partition == HOSTILE:
                field("ids", claimed)(exchange.reply.content)
            reply: Message = exchange.reply
            return reply

        run = make_fast(*ROUNDS, HALF, between=between).run()
        rounds = len(run.of_kind(ROUND)) // 2
        assert run.summary["counts"]["refused_replies"] == rounds == 1


def generator_of(run: Any, home: Path) -> dict[str, np.ndarray]:
    """What a run trains; it is not kept for the next run."""
    run.run()
    (file,) = (home / "kept" / "generator").iterdir()
    arrays: dict[str, np.ndarray] = load_file(file)
    file.unlink()
    return arrays


FIVE = (
    *("federation.min_replies=0.8", "federation.shared_rounds=1", "federation.shared_clients=6"),
    *("generator=functional", "federation.generator_rounds=1", "federation.generator_clients=6"),
    "experiment.methods=[zero_shot,shared_lora,functional,policy]",
)
LAST = 4
"""Partition of the liar among five nodes: one expert and one client each, the first one has two."""


def of_no_use(body: RecordDict) -> None:
    body["arrays"] = ConfigRecord({"x": 1})


class TestOneOfFive:
    @pytest.mark.parametrize("kind", [ENROL, SHARED, ROUND, CALIBRATE, DESCRIBE, COMPARE])
    def test_ends_no_run_and_changes_no_row_that_it_has_no_part_in(
        self, make_fast: MakeLoop, home_for: Callable[[str], Path], undamaged: Any, kind: str
    ) -> None:
        home_for(kind)

        def between(exchange: Any) -> Message:
            if exchange.kind == kind and exchange.partition == LAST:
                of_no_use(exchange.reply.content)
            reply: Message = exchange.reply
            return reply

        run = make_fast(*FIVE, nodes=5, between=between).run()
        lost = clients_of_the_last(undamaged) if kind in (DESCRIBE, COMPARE) else set()
        everybody = {row["client"] for row in undamaged.rows}
        assert {row["client"] for row in run.rows} == everybody - lost
        found = {(row["client"], row["method"]): row["value"] for row in undamaged.rows}
        untouched = ("zero_shot",) if kind not in (DESCRIBE, COMPARE) else SAME
        for row in run.rows:
            if row["method"] in untouched:
                assert row["value"] == found[row["client"], row["method"]]

    def test_all_lies_at_once_end_no_service_either(
        self, make_fast: MakeLoop, home: Path, tmp_path: Path
    ) -> None:
        def between(exchange: Any) -> Message:
            if exchange.partition == LAST and not exchange.reply.has_error():
                of_no_use(exchange.reply.content)
            reply: Message = exchange.reply
            return reply

        told = [{"adapters": str(tmp_path / str(number))} for number in range(5)]
        run = make_fast(*FIVE, nodes=5, goal="adopt", node_configs=told, between=between).run()
        assert json.loads(run.path("adopted.json").read_text()) == {"clients": 5, "adopted": 5}


SAME = ("zero_shot", "shared_lora", "functional", "policy")


def clients_of_the_last(run: Any) -> set[str]:
    asked = [exchange for exchange in run.of_kind(COMPARE) if exchange.partition == LAST]
    return {name for exchange in asked for name in exchange.fields()["ids"]}


@pytest.fixture(scope="module")
def undamaged(enrolled: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Five honest nodes."""
    folder = tmp_path_factory.mktemp("five")
    shutil.copytree(enrolled, folder / "home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SGLORA_FED_HOME", str(folder / "home"))
        return Loop(folder / "out", (*FAST, *FIVE), nodes=5).run()


class TestOneOfManyClients:
    """Twenty honest clients and a hostile node of one: the table is that of the twenty."""

    @pytest.mark.parametrize(
        "damage",
        [one_method_less, one_method_more, field("metrics", ["i2t_r1"]), field("splits", ["x y"])],
    )
    def test_what_nobody_asked_for_leaves_all_honest_rows(
        self, make_fast: MakeLoop, home: Path, damage: Damage
    ) -> None:
        told = ("family.clients_per_split=7", HALF, "federation.clients_per_message=20")
        run = make_fast(*told, between=damaging(COMPARE, damage)).run()
        summary = run.summary
        assert summary["counts"]["refused_replies"] == 1
        honest = {row["client"] for row in run.rows}
        assert len(honest) == summary["counts"]["clients"] == 11
        by_method: dict[str, int] = {}
        for result in summary["results"]:
            by_method[result["method"]] = by_method.get(result["method"], 0) + result["clients"]
        assert set(by_method.values()) == {11}
