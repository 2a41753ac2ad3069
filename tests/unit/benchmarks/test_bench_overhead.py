"""The apps without a model answer the library's exchanges, and what is written is their rate."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from flwr.app import Context, RecordDict

from sglora_fed.federation.codec import wire_bytes
from sglora_fed.federation.inprocess import InProcessGrid

Load = Callable[[str], ModuleType]


def test_every_client_is_asked_and_answers(
    script: Load, by_path: Load, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = script("bench_overhead")
    apps = {part: by_path(f"overhead_app/{part}/app.py") for part in ("server", "client")}
    seen: dict[str, list[Any]] = {}

    class Watched(InProcessGrid):
        def _answer(self, message: Any) -> Any:
            reply = super()._answer(message)
            seen.setdefault(message.metadata.message_type, []).append(reply)
            return reply

    def run(_: Any, words: Sequence[str], output: Path, *__: Any, **___: Any) -> None:
        told = {"overrides": " ".join(words), "goal": "run", "output": str(output)}
        grid = Watched(apps["client"].app, 2, told)
        apps["server"].app(
            grid, Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=told)
        )

    monkeypatch.setattr(bench, "run_flower", run)
    bench.main(["--clients", "7", "--repeats", "2"])
    found = json.loads((results / "overhead.json").read_text())
    assert found["clients"] == 7
    assert [len(repeat) for repeat in found["seconds_requests_and_adapters"]] == [2, 2]
    assert set(seen) == {"query.describe", "evaluate.compare"}
    ids = [list(reply.content["fields"]["ids"]) for reply in seen["evaluate.compare"]]
    assert sorted(map(len, ids)) == [3, 3, 4, 4]
    assert len({name for some in ids for name in some}) == 7
    assert all(wire_bytes(reply.content) for reply in seen["query.describe"])


def test_rates_are_of_all_repeats_but_the_first(script: Load) -> None:
    found = script("bench_overhead").rates(600, [[9.0, 9.0], [1.0, 2.0], [1.0, 1.0], [2.0, 2.0]])
    assert (found["median"], found["min"], found["reached"]) == (200.0, 150.0, False)
