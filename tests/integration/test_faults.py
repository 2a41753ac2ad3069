"""Nodes that fail, lie or die, zoos that are not what they should be, and a full disk."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from flwr.app import Array, Error, Message, RecordDict
from flwr.common.serde import message_to_proto
from safetensors.numpy import load_file

from sglora_fed.errors import (
    ClientTaskError,
    ConfigError,
    RepliesError,
    ResultsError,
    SgloraError,
    TaskError,
    ZooDamagedError,
    ZooForeignError,
)
from sglora_fed.federation.messages import ADOPT, DESCRIBE, ROUND, TRAIN
from sglora_fed.zoo import Zoo, read_store

MakeLoop = Callable[..., Any]
Damage = Callable[[RecordDict], None]

FAST = (
    "generator=ridge",
    "adapter.train.steps=1",
    "adapter.train.checkpoints=1",
    "experiment.methods=[zero_shot,topk]",
    "experiment.controls=false",
    "federation.clients_per_message=3",
)
WITH_FILES = (
    *FAST,
    "experiment.methods=[zero_shot,nearest,shared_lora,local_1shot]",
    "federation.shared_rounds=1",
    "experiment.local_steps=1",
)
"""With a shared LoRA, and adapters that clients train and keep."""

HALF = "federation.min_replies=0.5"
HONEST, HOSTILE = 0, 1
"""Partitions of the two nodes."""

SECRET = "call my sister Xanthippe about the biopsy"


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory: pytest.TempPathFactory, loop_class: Any) -> Path:
    """A home with a whole zoo; no test changes it."""
    folder = tmp_path_factory.mktemp("enrolled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SGLORA_FED_HOME", str(folder / "home"))
        loop_class(folder / "out", FAST, goal="zoo").run()
    return folder / "home"


@pytest.fixture(scope="module")
def undisturbed(enrolled: Path, tmp_path_factory: pytest.TempPathFactory, loop_class: Any) -> Any:
    """A run in which nothing went wrong."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(enrolled, folder / "home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SGLORA_FED_HOME", str(folder / "home"))
        patch.setattr("sglora_fed.experiments.results.write_report", lambda *_: None)
        return loop_class(folder / "out", WITH_FILES).run()


@pytest.fixture
def home(enrolled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that home, to be damaged."""
    shutil.copytree(enrolled, tmp_path / "home")
    monkeypatch.setenv("SGLORA_FED_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def zoo_folder(home: Path) -> Path:
    (folder,) = (home / "zoos").iterdir()
    return folder


def zoo_in(home: Path) -> Zoo:
    return read_store(zoo_folder(home)).load()


def shared_in(run: Any) -> np.ndarray:
    """The shared LoRA that clients got."""
    request = run.of_kind(ADOPT)[0].request.content
    assert list(request["fields"]["common_methods"]) == ["shared_lora"]
    vector: np.ndarray = request["arrays"]["common"].numpy()[0]
    return vector


# What a hostile node does to an honest reply.


def field(name: str, value: object) -> Damage:
    def damage(body: RecordDict) -> None:
        body["fields"][name] = value  # type: ignore[index]

    return damage


def array(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Damage:
    def damage(body: RecordDict) -> None:
        arrays: Any = body["arrays"]
        arrays[name] = Array(np.ascontiguousarray(change(arrays[name].numpy())))

    return damage


def raw(name: str, data: Callable[[bytes], bytes]) -> Damage:
    """Other bytes under the same claim of type and shape."""

    def damage(body: RecordDict) -> None:
        arrays: Any = body["arrays"]
        old = arrays[name]
        arrays[name] = Array(old.dtype, old.shape, old.stype, data(old.data))

    return damage


def without(name: str) -> Damage:
    def damage(body: RecordDict) -> None:
        del body["arrays"][name]  # type: ignore[attr-defined]

    return damage


def nothing_at_all(body: RecordDict) -> None:
    body.clear()


def nan_first(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values.flat[0] = np.nan
    return values


def doubled(values: np.ndarray) -> np.ndarray:
    return values * 2


def narrower(values: np.ndarray) -> np.ndarray:
    return values[..., 1:]


def in_double(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float64)


def empty_but_more_to_come(body: RecordDict) -> None:
    """No expert at all, and a claim that some remain: the server would ask for ever."""
    for name in ("wordings", "means", "variances", "examples"):
        array(name, lambda values: values[:0])(body)
    field("ids", [])(body)
    field("remaining", 3)(body)


def npy(shape: str) -> bytes:
    """An array's bytes whose own header says something else than the message."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(64)


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, np.zeros(3))
    return buffer.getvalue()


def one_method_only(body: RecordDict) -> None:
    fields: Any = body["fields"]
    field("methods", list(fields["methods"])[:1])(body)
    array("values", lambda values: values[:, :1])(body)
    array("seconds", lambda values: values[:1])(body)


def wordings_cancel(body: RecordDict) -> None:
    """Unit vectors all of them, but no direction in their mean."""
    array("wordings", lambda values: values[:, :1] * np.tile([1, -1], 3)[:, None])(body)
    array("wordings", lambda values: values.astype(np.float32))(body)


GARBAGE = [
    pytest.param(TRAIN, array("means", narrower), "means", id="expert-shape"),
    pytest.param(TRAIN, array("means", nan_first), "NaN", id="expert-nan"),
    pytest.param(TRAIN, array("means", in_double), "float64", id="expert-type"),
    pytest.param(TRAIN, without("wordings"), "'wordings' is missing", id="expert-missing"),
    pytest.param(TRAIN, field("ids", ["a", "a"]), "twice", id="expert-twice"),
    pytest.param(TRAIN, field("ids", ["a", "../b"]), "no identifier", id="expert-path"),
    pytest.param(TRAIN, array("variances", lambda v: v - 1), "negative", id="expert-variance"),
    pytest.param(TRAIN, array("wordings", doubled), "norm 2", id="expert-norm"),
    pytest.param(TRAIN, array("examples", lambda v: v * 0), "no examples", id="expert-examples"),
    pytest.param(TRAIN, empty_but_more_to_come, "none came", id="expert-none"),
    pytest.param(TRAIN, nothing_at_all, "need 'fields'", id="expert-empty"),
    pytest.param(TRAIN, raw("means", lambda d: d[: len(d) // 2]), "decoded", id="expert-half"),
    pytest.param(
        TRAIN, raw("means", lambda _: npy("(2,)")), r"means is float32\(2,\)", id="expert-liar"
    ),
    pytest.param(
        TRAIN, raw("means", lambda _: npy("(10000000000000,)")), "means", id="expert-memory"
    ),
    pytest.param(TRAIN, raw("means", lambda _: npy("(((((")), "decoded", id="expert-header"),
    pytest.param(TRAIN, raw("means", lambda _: npz()), "decoded", id="expert-archive"),
    pytest.param(DESCRIBE, array("embeddings", nan_first), "NaN", id="request-nan"),
    pytest.param(DESCRIBE, array("embeddings", narrower), "embeddings", id="request-shape"),
    pytest.param(DESCRIBE, array("embeddings", doubled), "norm 2", id="request-norm"),
    pytest.param(DESCRIBE, field("ids", ["a", "a"]), "twice", id="request-twice"),
    pytest.param(DESCRIBE, field("ids", [SECRET, "a"]), "no identifier", id="request-text"),
    pytest.param(ADOPT, array("values", lambda v: v + 1), r"outside \[0, 1\]", id="result-range"),
    pytest.param(ADOPT, array("values", nan_first), "NaN", id="result-nan"),
    pytest.param(ADOPT, array("values", lambda v: v[:1]), "values", id="result-shape"),
    pytest.param(ADOPT, array("seconds", lambda v: v - 9), "negative", id="result-time"),
    pytest.param(ADOPT, field("splits", ["one"]), "1 splits", id="result-splits"),
    pytest.param(ADOPT, without("seconds"), "'seconds' is missing", id="result-missing"),
    # The other node's clients.
    pytest.param(
        ADOPT,
        field("ids", ["new_rule-000", "new_rule-002", "new_topic-001"]),
        "",
        id="result-foreign",
    ),
    pytest.param(ADOPT, one_method_only, "", id="result-methods"),
    pytest.param(ADOPT, field("metrics", ["luck"]), "", id="result-metric"),
    pytest.param(TRAIN, wordings_cancel, "cancel", id="expert-cancel"),
    pytest.param(
        TRAIN,
        array("means", lambda v: v * np.float32(1e6)),
        "",
        id="expert-length",
        marks=pytest.mark.xfail(
            strict=True, reason="it stays in the zoo, and every client refuses what is made of it"
        ),
    ),
]


def damaging(kind: str, damage: Damage) -> Callable[[Any], Message]:
    """The hostile node damages its first reply of a kind, and all later ones."""

    def between(exchange: Any) -> Message:
        if exchange.kind == kind and exchange.partition == HOSTILE:
            damage(exchange.reply.content)
        reply: Message = exchange.reply
        return reply

    return between


def home_for(kind: str, request: pytest.FixtureRequest) -> Path:
    """Experts are trained in an empty home, everything else is asked with a whole zoo."""
    path: Path = request.getfixturevalue("cold_home" if kind == TRAIN else "home")
    return path


class TestGarbage:
    @pytest.mark.parametrize(("kind", "damage", "reason"), GARBAGE)
    def test_is_refused_by_its_name_and_fails_the_run(
        self,
        make_loop: MakeLoop,
        request: pytest.FixtureRequest,
        kind: str,
        damage: Damage,
        reason: str,
    ) -> None:
        home_for(kind, request)
        few = "federation.clients_per_message=" + ("1" if kind == TRAIN else "3")
        run = make_loop(*FAST, few, between=damaging(kind, damage))
        with pytest.raises(RepliesError, match=f"{kind}: 1 usable replies of 2, need 2.*{reason}"):
            run.run()
        assert run.error["code"] == RepliesError.code
        assert SECRET not in run.error["message"]
        assert not run.path("summary.json").exists()
        assert not run.path("clients.csv").exists()

    def test_nothing_of_a_refused_expert_is_kept(
        self, make_loop: MakeLoop, cold_home: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        run = make_loop(*FAST, HALF, goal="zoo", between=damaging(TRAIN, array("means", nan_first)))
        run.run()
        honest = {
            name
            for exchange in run.exchanges
            if exchange.partition == HONEST
            for name in exchange.fields()["ids"]
        }
        assert set(zoo_in(cold_home).ids) == honest
        assert len(honest) == 3
        assert "reply refused" in caplog.text
        assert "NaN" in caplog.text

    def test_an_expert_that_two_nodes_claim_ends_nothing(
        self, make_loop: MakeLoop, cold_home: Path
    ) -> None:
        claimed: list[str] = []

        def between(exchange: Any) -> Message:
            claimed.extend(exchange.fields()["ids"] if exchange.partition == HONEST else [])
            if exchange.partition == HOSTILE:
                field("ids", claimed)(exchange.reply.content)
            reply: Message = exchange.reply
            return reply

        make_loop(*FAST, HALF, goal="zoo", between=between).run()
        assert set(zoo_in(cold_home).ids) == set(claimed)


ROUNDS = (
    *FAST,
    "generator=functional",
    "experiment.methods=[functional]",
    "federation.shared_rounds=1",
    "federation.functional_rounds=1",
    "federation.functional_clients=6",
)
"""Every expert takes part in the one round: three on each node."""


class TestRounds:
    """A round of the generator goes on with whoever answered well, whatever is configured."""

    def test_a_refused_update_changes_nothing(
        self, make_loop: MakeLoop, home: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        def lost(exchange: Any) -> Message | None:
            gone = exchange.kind == ROUND and exchange.partition == HOSTILE
            return None if gone else exchange.reply

        without_them = generator_of(make_loop(*ROUNDS, between=lost), home)
        for damage, reason in (
            (array("updates", nan_first), "NaN"),
            (field("ids", ["x", "y", "z"]), "not asked"),
        ):
            caplog.clear()
            found = generator_of(make_loop(*ROUNDS, between=damaging(ROUND, damage)), home)
            assert re.search(f"{ROUND}: reply refused.*{reason}", caplog.text)
            for key, value in without_them.items():
                np.testing.assert_array_equal(found[key], value)
        all_of_them = generator_of(make_loop(*ROUNDS), home)
        assert not np.array_equal(all_of_them["offset"], without_them["offset"])

    def test_an_update_that_two_nodes_claim_ends_nothing(
        self, make_loop: MakeLoop, home: Path
    ) -> None:
        claimed: list[str] = []

        def between(exchange: Any) -> Message:
            if exchange.kind == ROUND and exchange.partition == HONEST:
                claimed.extend(exchange.fields()["ids"])
            if exchange.kind == ROUND and exchange.partition == HOSTILE:
                field("ids", claimed)(exchange.reply.content)
            reply: Message = exchange.reply
            return reply

        run = make_loop(*ROUNDS, HALF, between=between).run()
        assert run.path("summary.json").exists()


def generator_of(run: Any, home: Path) -> dict[str, np.ndarray]:
    """What a run trains; it is not kept for the next run."""
    run.run()
    (file,) = zoo_folder(home).glob("functional*")
    arrays: dict[str, np.ndarray] = load_file(file)
    file.unlink()
    return arrays


def stopped(exchange: Any) -> Message:
    """What Flower answers for a process that died."""
    return Message(Error(8, "ClientApp stopped responding."), reply_to=exchange.request)


def silent(_: Any) -> None:
    """No answer by the time limit."""


class TestDeath:
    @pytest.mark.parametrize("kind", [TRAIN, DESCRIBE, ADOPT])
    @pytest.mark.parametrize(("death", "reason"), [(stopped, "code 8"), (silent, "no answer")])
    def test_the_run_fails_or_goes_on_as_configured(
        self,
        make_loop: MakeLoop,
        request: pytest.FixtureRequest,
        kind: str,
        death: Callable[[Any], Message | None],
        reason: str,
    ) -> None:
        def between(exchange: Any) -> Message | None:
            dead = exchange.kind == kind and exchange.partition == HOSTILE
            return death(exchange) if dead else exchange.reply

        home_for(kind, request)
        run = make_loop(*FAST, between=between)
        with pytest.raises(RepliesError, match=f"{kind}: 1 usable.*{reason}"):
            run.run()
        run = make_loop(*FAST, HALF, between=between, output="half").run()
        # Where experts are lost, that node's clients are served all the same.
        assert run.summary["counts"]["clients"] == (6 if kind == TRAIN else 3)
        assert run.summary["counts"]["experts"] == (3 if kind == TRAIN else 6)

    def test_what_was_made_without_a_node_is_not_kept_as_if_whole(
        self, make_loop: MakeLoop, cold_home: Path, undisturbed: Any
    ) -> None:
        def without_experts(exchange: Any) -> Message:
            expert = exchange.kind == TRAIN and not exchange.request.content["fields"]["shared"]
            dead = expert and exchange.partition == HOSTILE
            return stopped(exchange) if dead else exchange.reply

        partial = make_loop(*WITH_FILES, HALF, between=without_experts).run()
        whole = make_loop(*WITH_FILES, HALF).run()
        assert zoo_in(cold_home).ids == zoo_in(undisturbed.output.parent / "home").ids
        difference = np.abs(shared_in(whole) - shared_in(undisturbed)).max()
        assert difference < 0.01 * np.abs(shared_in(whole) - shared_in(partial)).max()

    def test_nobody_left_is_an_error_whatever_is_configured(
        self, make_loop: MakeLoop, home: Path
    ) -> None:
        with pytest.raises(RepliesError, match="0 usable replies of 2, need 1"):
            make_loop(*FAST, HALF, between=stopped).run()

    def test_too_few_nodes_are_told_apart_from_silence(
        self, make_loop: MakeLoop, home: Path
    ) -> None:
        run = make_loop(*FAST, "federation.nodes=3", "federation.timeout=0.2")
        with pytest.raises(RepliesError, match="2 of 3 nodes"):
            run.run()
        assert run.error["code"] == RepliesError.code
        assert not run.exchanges


class TestRaisingClient:
    @pytest.mark.parametrize(
        ("kind", "work"),
        [(TRAIN, "train_experts"), (DESCRIBE, "describe"), (ADOPT, "adopt")],
    )
    @pytest.mark.parametrize("kind_of_error", [ValueError, TaskError])
    def test_only_a_code_reaches_the_server(
        self,
        make_loop: MakeLoop,
        home: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
        kind: str,
        work: str,
        kind_of_error: type[Exception],
    ) -> None:
        def fail(*_: Any) -> NoReturn:
            raise kind_of_error(SECRET) from KeyError(SECRET)

        monkeypatch.setattr(f"client.app.{work}", fail)
        caplog.set_level(logging.DEBUG)
        run = make_loop(*FAST)
        code = TaskError.code if kind_of_error is TaskError else ClientTaskError.code
        with pytest.raises(RepliesError, match=f"{kind}: 0 usable.*code {code}") as caught:
            run.run()
        assert run.error == {"code": RepliesError.code, "message": str(caught.value)}
        for exchange in run.of_kind(kind):
            error = exchange.reply.error
            assert (error.code, error.reason) == (code, f"SGL-{code}")
        seen = [caplog.text, *capfd.readouterr(), *texts_below(home, run.output)]
        seen += [str(message_to_proto(exchange.reply)) for exchange in run.exchanges]
        assert not [text for text in seen if SECRET in text]

    def test_a_nodes_own_unusable_folder_stays_private(
        self, make_loop: MakeLoop, home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        folder = tmp_path / "node"
        folder.mkdir()
        task = {"id": "mine", "description": SECRET, "labels": {"a": SECRET, "b": SECRET}}
        (folder / "tasks.jsonl").write_text(json.dumps(task) + "\n")
        example = {"task": "mine", "text": SECRET, "label": "a", "part": "train"}
        (folder / "examples.jsonl").write_text(json.dumps(example) + "\n")
        run = make_loop(*FAST, node_configs=[{}, {"tasks": str(folder)}])
        with pytest.raises(RepliesError, match=f"code {TaskError.code}"):
            run.run()
        seen = [caplog.text, *texts_below(home, run.output)]
        seen += [str(message_to_proto(exchange.reply)) for exchange in run.exchanges]
        assert not [text for text in seen if SECRET in text or str(folder) in text]


def texts_below(*folders: Path) -> list[str]:
    """All that is in all files, bytes as they are."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path.read_bytes().decode("latin-1") for path in files]


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def one_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-4] ^= 1  # the last bit of the last number
    path.write_bytes(data)


class TestZoo:
    @pytest.mark.parametrize(
        ("name", "harm"),
        [
            ("shard-*.safetensors", truncated),
            ("shard-*.safetensors", one_bit),
            ("shard-*.safetensors", Path.unlink),
            ("manifest.json", truncated),
        ],
    )
    def test_a_damaged_one_is_refused_and_left_alone(
        self, make_loop: MakeLoop, home: Path, name: str, harm: Callable[[Path], None]
    ) -> None:
        path = next(zoo_folder(home).glob(name))
        harm(path)
        before = contents(home)
        run = make_loop(*FAST)
        with pytest.raises(ZooDamagedError, match=path.name):
            run.run()
        assert run.error["code"] == ZooDamagedError.code
        assert contents(home) == before
        assert not run.path("summary.json").exists()

    @pytest.mark.parametrize(
        ("override", "difference"),
        [
            ("adapter.rank=2", "layout"),
            ("adapter.train.lr=0.001", "config_sha256"),
            ("family.seed=7", "tasks_sha256"),
            ("seeds=[3]", "seed is 0, not 3"),
        ],
    )
    def test_one_of_another_run_is_refused_before_anything_is_asked(
        self, make_loop: MakeLoop, home: Path, override: str, difference: str
    ) -> None:
        before = contents(home)
        run = make_loop(*FAST, f"zoo.path={zoo_folder(home)}", override)
        with pytest.raises(ZooForeignError, match=difference):
            run.run()
        assert run.error["code"] == ZooForeignError.code
        assert contents(home) == before
        assert not run.exchanges

    def test_the_right_one_is_taken_from_anywhere(
        self, make_loop: MakeLoop, home: Path, tmp_path: Path
    ) -> None:
        moved = tmp_path / "a zoo"
        shutil.move(zoo_folder(home), moved)
        run = make_loop(*FAST, f"zoo.path='{moved}'").run()
        assert run.trained() == []
        assert run.summary["counts"]["experts"] == 6


def test_a_wrong_configuration_is_told_with_its_code(make_loop: MakeLoop, cold_home: Path) -> None:
    run = make_loop("generator=nope", "no.such=1")
    with pytest.raises(ConfigError, match=r"generator=nope.*no\.such=1"):
        run.run()
    assert run.error["code"] == ConfigError.code
    assert not cold_home.exists()


class TestFullDisk:
    """Every file in turn finds no room; then there is room again."""

    @pytest.mark.parametrize(
        ("pattern", "cold"),
        [
            ("*", True),
            ("*/zoos/*/manifest.json", True),
            ("*/zoos/*/shard-*.safetensors", True),
            ("*/adapter_model.safetensors", False),
            ("*/adapter_config.json", False),
            ("*/trained/*", False),
            ("*/clients.csv", False),
            ("*/summary.json", False),
        ],
    )
    def test_leaves_whole_files_and_a_run_that_can_be_repeated(
        self,
        make_loop: MakeLoop,
        enrolled: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        undisturbed: Any,
        pattern: str,
        cold: bool,
    ) -> None:
        monkeypatch.setenv("SGLORA_FED_HOME", str(tmp_path / "home"))
        if not cold:
            shutil.copytree(enrolled, tmp_path / "home")
        run = make_loop(*WITH_FILES)
        with no_room_for(pattern) as refused, pytest.raises(SgloraError) as caught:
            run.run()
        assert refused
        assert caught.type in (ResultsError, RepliesError)
        assert f"SGL-{ResultsError.code}" in str(caught.value) or "code 900" in str(caught.value)
        assert not run.path("summary.json").exists()
        assert not list(tmp_path.rglob("*.tmp"))
        for path in tmp_path.rglob("*.safetensors"):
            load_file(path)
        for path in tmp_path.rglob("*.json"):
            json.loads(path.read_text())
        assert make_loop(*WITH_FILES).run().rows == undisturbed.rows


@contextmanager
def no_room_for(pattern: str) -> Iterator[list[str]]:
    """Files whose path fits cannot get their name; gives the list of those refused."""
    refused: list[str] = []
    rename = os.replace

    def replace(source: Path, target: Path) -> None:
        if fnmatch(str(target), pattern):
            refused.append(str(target))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rename(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sglora_fed.files.os.replace", replace)
        yield refused
