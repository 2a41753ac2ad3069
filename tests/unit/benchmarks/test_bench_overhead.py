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
    bench.main(["--clients", "5", "7", "--repeats", "2"])
    found = json.loads((results / "overhead.json").read_text())
    small, large = found["sizes"]
    assert [small["clients"], large["clients"]] == [5, 7]
    assert [len(repeat) for repeat in large["seconds_requests_and_adapters"]] == [2, 2]
    spent = sum(large["seconds_requests_and_adapters"][0])
    assert spent < large["seconds_with_start"] < spent + 60
    assert set(seen) == {"query.describe", "evaluate.compare"}
    ids = [list(reply.content["fields"]["ids"]) for reply in seen["evaluate.compare"]]
    # Two repeats of 5, of 7, and of 5 again in one process.
    assert sorted(map(len, ids)) == [2] * 4 + [3] * 6 + [4] * 2
    assert len({name for some in ids for name in some}) == 7
    both = small["clients_per_second"], found["clients_per_second_in_one_process"]
    assert found["ratio"] == pytest.approx(both[0]["median"] / both[1]["median"], abs=1e-3)
    assert all(wire_bytes(reply.content) for reply in seen["query.describe"])


def test_rates_are_of_all_repeats_but_the_first(script: Load) -> None:
    found = script("bench_overhead").rates(600, [[9.0, 9.0], [1.0, 2.0], [1.0, 1.0], [2.0, 2.0]])
    assert found == {"median": 200.0, "min": 150.0}


def test_the_rate_of_one_more_client_leaves_out_what_any_number_costs(script: Load) -> None:
    """One second whatever the number, and a millisecond for each client."""
    sizes = [
        {"clients": clients, "clients_per_second": {"median": clients / (1 + clients / 1000)}}
        for clients in (1000, 10_000)
    ]
    found = script("bench_overhead").marginal(*sizes)
    assert found == {"clients": 9000, "clients_per_second": pytest.approx(1000)}
