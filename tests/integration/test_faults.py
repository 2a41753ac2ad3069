"""Nodes that fail or die, zoos that are not what they should be, and a full disk."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from flwr.app import Error, Message
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
from sglora_fed.federation.compare import COMPARE
from sglora_fed.federation.describe import DESCRIBE
from sglora_fed.federation.enrol import ENROL
from tests.integration.comparing import zoo_folder, zoo_in

MakeLoop = Callable[..., Any]

HALF = "federation.min_replies=0.5"
SOON = "federation.timeout=3"
LOST = 1
"""Partition of the node that dies."""

SECRET = "call my sister Xanthippe about the biopsy"


def shared_in(run: Any) -> np.ndarray:
    """The shared LoRA that clients got."""
    request = run.of_kind(COMPARE)[0].request.content
    assert list(request["fields"]["common"]) == ["shared_lora"]
    vector: np.ndarray = request["arrays"]["shared"].numpy()[0]
    return vector


def stopped(exchange: Any) -> Message:
    """What Flower answers for a process that died."""
    return Message(Error(8, "ClientApp stopped responding."), reply_to=exchange.request)


def silent(_: Any) -> None:
    """No answer by the time limit."""


class TestDeath:
    @pytest.mark.parametrize("kind", [ENROL, DESCRIBE, COMPARE])
    @pytest.mark.parametrize(("death", "reason"), [(stopped, "code 8"), (silent, "no answer")])
    def test_the_run_fails_or_goes_on_as_configured(
        self,
        make_fast: MakeLoop,
        home_for: Callable[[str], Path],
        kind: str,
        death: Callable[[Any], Message | None],
        reason: str,
    ) -> None:
        def between(exchange: Any) -> Message | None:
            dead = exchange.kind == kind and exchange.partition == LOST
            return death(exchange) if dead else exchange.reply

        home_for(kind)
        run = make_fast(SOON, between=between)
        with pytest.raises(RepliesError, match=f"{kind}: 1 usable.*{reason}"):
            run.run()
        run = make_fast(HALF, SOON, between=between, output="half").run()
        # Where experts are lost, that node's clients are served all the same.
        assert run.summary["counts"]["clients"] == (6 if kind == ENROL else 3)
        assert run.summary["counts"]["experts"] == (3 if kind == ENROL else 6)

    def test_what_was_made_without_a_node_is_not_kept_as_if_whole(
        self, make_loop: MakeLoop, cold_home: Path, undisturbed: Any
    ) -> None:
        def without_experts(exchange: Any) -> Message:
            dead = exchange.kind == ENROL and exchange.partition == LOST
            return stopped(exchange) if dead else exchange.reply

        partial = make_loop(*undisturbed.overrides, HALF, between=without_experts).run()
        whole = make_loop(*undisturbed.overrides, HALF).run()
        assert zoo_in(cold_home).ids == zoo_in(undisturbed.output.parent / "home").ids
        difference = np.abs(shared_in(whole) - shared_in(undisturbed)).max()
        assert difference < 0.01 * np.abs(shared_in(whole) - shared_in(partial)).max()

    def test_nobody_left_is_an_error_whatever_is_configured(
        self, make_fast: MakeLoop, home: Path
    ) -> None:
        with pytest.raises(RepliesError, match="0 usable replies, need 1"):
            make_fast(HALF, between=stopped).run()

    def test_too_few_nodes_are_told_apart_from_silence(
        self, make_fast: MakeLoop, home: Path
    ) -> None:
        run = make_fast("federation.nodes=3", "federation.timeout=0.2")
        with pytest.raises(RepliesError, match="2 of 3 nodes"):
            run.run()
        assert run.error["code"] == RepliesError.code
        assert not run.exchanges


class TestRaisingClient:
    @pytest.mark.parametrize(
        ("kind", "work"),
        [
            (ENROL, "enrol.train_experts"),
            (DESCRIBE, "describe.describe"),
            (COMPARE, "bench.measure"),
        ],
    )
    @pytest.mark.parametrize("kind_of_error", [ValueError, TaskError])
    def test_only_a_code_reaches_the_server(
        self,
        make_fast: MakeLoop,
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

        monkeypatch.setattr(f"sglora_fed.federation.{work}", fail)
        caplog.set_level(logging.DEBUG)
        run = make_fast()
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
        self, make_fast: MakeLoop, home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        folder = tmp_path / "node"
        folder.mkdir()
        labels = {"a": SECRET, "b": SECRET}
        task = {"id": "mine", "role": "expert", "description": SECRET, "labels": labels}
        (folder / "tasks.jsonl").write_text(json.dumps(task) + "\n")
        example = {"task": "mine", "text": SECRET, "label": "a", "part": "train"}
        (folder / "examples.jsonl").write_text(json.dumps(example) + "\n")
        run = make_fast(node_configs=[{}, {"tasks": str(folder)}])
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
        self, make_fast: MakeLoop, home: Path, name: str, harm: Callable[[Path], None]
    ) -> None:
        path = next(zoo_folder(home).glob(name))
        harm(path)
        before = contents(home)
        run = make_fast()
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
        self, make_fast: MakeLoop, home: Path, override: str, difference: str
    ) -> None:
        before = contents(home)
        run = make_fast(f"zoo.path={zoo_folder(home)}", override)
        with pytest.raises(ZooForeignError, match=difference):
            run.run()
        assert run.error["code"] == ZooForeignError.code
        assert contents(home) == before
        assert not run.exchanges

    def test_the_right_one_is_taken_from_anywhere(
        self, make_fast: MakeLoop, home: Path, tmp_path: Path
    ) -> None:
        moved = tmp_path / "a zoo"
        shutil.move(zoo_folder(home), moved)
        run = make_fast(f"zoo.path='{moved}'").run()
        assert run.trained() == []
        assert run.summary["counts"]["experts"] == 6


def test_a_wrong_configuration_is_told_with_its_code(make_fast: MakeLoop, cold_home: Path) -> None:
    run = make_fast("generator=nope", "no.such=1")
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
            ("*/kept/trained_alone/*", False),
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
        run = make_loop(*undisturbed.overrides)
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
        assert make_loop(*undisturbed.overrides).run().rows == undisturbed.rows


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
