"""The apps without a model answer the library's exchanges, and what is written is their rate."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sglora_fed.federation.codec import wire_bytes
from sglora_fed.federation.inprocess import InProcessGrid

Load = Callable[[str], ModuleType]


def test_every_client_is_asked_and_answers(
    script: Load, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = script("bench_overhead")
    seen: dict[str, list[Any]] = {}

    class Watched(InProcessGrid):
        def _answer(self, message: Any) -> Any:
            reply = super()._answer(message)
            seen.setdefault(message.metadata.message_type, []).append(reply)
            return reply

    # Flower itself runs the app in no test: it takes longer than all else here.
    monkeypatch.setattr(bench, "through_flower", bench.in_this_process)
    monkeypatch.setattr(bench, "InProcessGrid", Watched)
    bench.main(["--clients", "7", "--repeats", "2"])
    found = json.loads((results / "overhead.json").read_text())
    assert found["clients"] == 7
    assert [len(repeat) for repeat in found["seconds_requests_and_adapters"]] == [2, 2]
    assert set(seen) == {"query.describe", "evaluate.compare"}
    ids = [list(reply.content["fields"]["ids"]) for reply in seen["evaluate.compare"]]
    assert sorted(map(len, ids)) == [3] * 4 + [4] * 4
    assert len({name for some in ids for name in some}) == 7
    both = found["clients_per_second"], found["clients_per_second_in_one_process"]
    assert found["ratio"] == pytest.approx(both[0]["median"] / both[1]["median"], abs=1e-3)
    assert all(wire_bytes(reply.content) for reply in seen["query.describe"])


def test_rates_are_of_all_repeats_but_the_first(script: Load) -> None:
    found = script("bench_overhead").rates(600, [[9.0, 9.0], [1.0, 2.0], [1.0, 1.0], [2.0, 2.0]])
    assert found == {"median": 200.0, "min": 150.0}
