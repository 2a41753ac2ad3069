"""The same work, one by one and several at once, ends in the same mean; rates are compared."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from sglora_fed.federation.inprocess import InProcessGrid

Load = Callable[[str], ModuleType]


def test_ours_and_one_client_a_message_train_the_same(script: Load, tmp_path: Path) -> None:
    work, flower, ours = map(
        script, ("rivals.work", "rivals.flower.flower_round", "rivals.ours.ours_round")
    )
    names = work.names(3)
    together = ours.lora(names, tmp_path, InProcessGrid(ours.client, 2, {}))()
    alone = flower.lora(InProcessGrid(flower.client, 3, {}), names)()
    wanted = script("rivals.run").expected(3)
    assert np.linalg.norm(wanted - work.start()) > 0.1
    assert together == pytest.approx(wanted, abs=1e-5)
    assert alone == pytest.approx(wanted, abs=1e-5)


def test_every_client_of_plain_flower_has_two_messages(script: Load) -> None:
    work, flower = script("rivals.work"), script("rivals.flower.flower_round")
    seen: list[str] = []

    class Watched(InProcessGrid):
        def _answer(self, message: Any) -> Any:
            seen.append(message.metadata.message_type)
            return super()._answer(message)

    mean = flower.noop(Watched(flower.client, 3, {}), 3)()
    assert mean == pytest.approx(work.description())
    assert sorted(seen) == ["evaluate.compare"] * 3 + ["query.describe"] * 3


def test_a_client_refuses_what_is_no_adapter(script: Load) -> None:
    work = script("rivals.work")
    row = work.adapters(1)[0]
    assert work.measured(row) == 0
    for wrong in (row[1:], np.full_like(row, np.nan)):
        with pytest.raises(ValueError, match="not an adapter"):
            work.measured(wrong)


@pytest.mark.parametrize(("rank", "writes"), [(None, True), ("0", True), ("1", False)])
def test_the_first_of_several_processes_writes(
    script: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: str | None, writes: bool
) -> None:
    times: list[int] = []

    def made(count: int) -> Callable[[], np.ndarray]:
        return lambda: times.append(count) or np.zeros(2)

    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr(sys, "argv", ["", "noop", "4", str(tmp_path / "found.json")])
    script("rivals.work").report({"noop": made})
    assert times == [4, 4]
    assert (tmp_path / "found.json").exists() is writes


def test_turns_are_kept_and_every_other_repeat_runs_backwards(
    script: Load, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = script("rivals.run")
    clients = {(entry.name, entry.kind): entry.clients for entry in run.ENTRIES}

    def measured(entry: Any, _: Path) -> dict[str, Any]:
        rate = {"ours": 200.0, "flower": 4.0, "pfl": 100.0, "pfl_alone": 50.0}[entry.name]
        return {"seconds": clients[entry.name, entry.kind] / rate, "mean": [1.0, 2.0]}

    monkeypatch.setattr(run, "measured", measured)
    monkeypatch.setattr(run, "expected", lambda _: np.array([1.0, 2.0]))
    monkeypatch.setattr(run, "versions", lambda *_: {"pfl": "9"})
    run.main(["nowhere", "--repeats", "2", "--skip", "nvflare"])
    found = json.loads((results / "rivals.json").read_text())
    order = [(one["name"], one["kind"]) for one in found["turns"]]
    entries = [(e.name, e.kind) for e in run.ENTRIES if e.name != "nvflare"]
    assert order == entries + entries[::-1]
    assert found["noop"]["ours_times"] == {"flower": 50.0, "pfl": 2.0, "pfl_alone": 4.0}
    assert found["noop"]["clients_per_second"]["pfl"] == 100
    assert all(goal["reached"] for goal in found["goals"].values())
    assert {one["distance"] for one in found["turns"] if one["kind"] == "lora"} == {0.0}
    assert found["versions"]["pfl"] == "9"
    again = [run.Turn(**one) for one in found["turns"]]
    assert run.summaries(again) == {name: found[name] for name in ("noop", "lora", "goals")}


def test_only_turns_of_the_same_repeat_are_compared(script: Load) -> None:
    """The machine is three times as fast in the second repeat; who has no third counts nothing."""
    run = script("rivals.run")
    one = run.Turn("ours", "noop", 12, 0, 0.0, 1.0, 1.0, 1, None)
    turns = [replace(one, repeat=0, seconds=3.0), replace(one, repeat=1), replace(one, repeat=2)]
    turns += [
        replace(one, name="pfl", repeat=number, seconds=s) for number, s in ((0, 6.0), (1, 2.0))
    ]
    found = run.summary(turns)
    assert found["ours_times"] == {"pfl": 2.0}
    assert found["clients_per_second"] == {"ours": 12.0, "pfl": 4.0}


def test_rivals_have_all_cores_and_as_many_clients_as_ours(script: Load) -> None:
    run = script("rivals.run")
    found = {(entry.name, entry.kind): entry for entry in run.ENTRIES}
    for kind in ("noop", "lora"):
        assert found["pfl", kind].clients == found["ours", kind].clients
        words = run.command(found["pfl", kind], Path("there"), Path("out"))
        assert words[:2] == [str(Path("there/pfl/bin/python").absolute()), "-m"]
        assert words[words.index("--nproc-per-node") + 1] == "2"


def test_another_mean_is_not_the_same_training(
    script: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = script("rivals.run")
    monkeypatch.setattr(run, "measured", lambda *_: {"seconds": 1.0, "mean": [1.0, 0.001]})
    monkeypatch.setattr(run, "expected", lambda _: np.array([1.0, 0.0]))
    entry = run.Entry("pfl", run.PFL, "lora", 2, "pfl")
    with pytest.raises(SystemExit, match=r"pfl has another mean: distance 0\.001"):
        run.turn(entry, Path("nowhere"), 0)


def test_a_turn_that_fails_says_why(script: Load, tmp_path: Path) -> None:
    run = script("rivals.run")
    with pytest.raises(run.TurnError, match=r"nobody, noop: .*can't open file"):
        run.measured(run.Entry("nobody", "nowhere.py", "noop", 1), tmp_path)


@pytest.mark.parametrize("failures", [0, 2, 3])
def test_a_turn_that_fails_has_another(
    script: Load, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    run = script("rivals.run")
    ends = iter([False] * failures + [True])

    def measured(*_: Any) -> dict[str, Any]:
        if not next(ends):
            raise run.TurnError("a port is taken")
        return {"seconds": 2.0, "mean": []}

    monkeypatch.setattr(run, "measured", measured)
    entry = run.Entry("nvflare", run.NVFLARE, "noop", 8, "nvflare")
    if failures == run.TRIES:
        with pytest.raises(run.TurnError, match="a port is taken"):
            run.turn(entry, Path("nowhere"), 0)
    else:
        one = run.turn(entry, Path("nowhere"), 0)
        assert (one.tries, one.seconds) == (failures + 1, 2.0)


def test_a_turn_without_end_is_ended_with_what_it_started(
    script: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = script("rivals.run")
    monkeypatch.setattr(run, "SECONDS", 3)
    words = ["sh", "-c", "setsid sleep 600 & echo $!; wait"]
    said = run.finished(words, os.environ, str(tmp_path))
    child, last = said.splitlines()
    assert last == "ended after 3 s"
    deadline = time.monotonic() + 60
    while alive(int(child)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended may wait for whoever inherits it."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
