"""Experts that compare adapters on their own data, and what is kept of their word."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, Message

from sglora_fed.adapters.start import federation_start
from sglora_fed.config import compose
from sglora_fed.errors import AdapterValueError, GeneratorFileError
from sglora_fed.federation.calibrate import CALIBRATE, CalibrateRequest, judge
from sglora_fed.federation.enrol import ENROL, EnrolRequest, train_experts
from sglora_fed.federation.layouts import run_layout
from sglora_fed.federation.node import Node

MakeLoop = Callable[..., Any]

EXPERTS = 3
JUDGED = ("experiment.methods=[zero_shot,policy]",)


@pytest.fixture(scope="module")
def node() -> Node:
    told = (
        "experiment=assistant",
        f"family.rule_experts={EXPERTS}",
        "family.style_experts=0",
        "family.clients_per_split=1",
    )
    return Node(compose(told), 0, 1)


@pytest.fixture(scope="module")
def request_(node: Node) -> CalibrateRequest:
    """For each expert the adapter that it trained itself, the fall-back once more, and its own."""
    reply = train_experts(node, EnrolRequest(0, (), EXPERTS))
    fallback = federation_start(node.layout, 0)[0].astype(np.float16)
    again = np.broadcast_to(fallback, reply.means.shape)
    own = reply.means.astype(np.float16)
    adapters = np.stack([own, again, own], axis=1)
    return CalibrateRequest(0, reply.trained, adapters, fallback)


class TestJudge:
    def test_what_was_trained_on_the_same_data_wins_and_equals_are_equal(
        self, node: Node, request_: CalibrateRequest
    ) -> None:
        reply = judge(node, request_)
        assert reply.ids == request_.ids == tuple(sorted(node.experts))
        np.testing.assert_array_equal(reply.outcomes, [[1.0, 0.5, 1.0]] * EXPERTS)

    def test_the_worse_one_loses(self, node: Node, request_: CalibrateRequest) -> None:
        own, start = request_.adapters[:1, 0], request_.fallback
        swapped = np.stack([np.stack([start, own[0], start])])
        reply = judge(node, CalibrateRequest(0, request_.ids[:1], swapped, own[0]))
        won = judge(node, CalibrateRequest(0, request_.ids[:1], request_.adapters[:1], start))
        np.testing.assert_array_equal(reply.outcomes, 1 - won.outcomes)

    def test_experts_of_other_nodes_are_left_to_them(
        self, node: Node, request_: CalibrateRequest
    ) -> None:
        ids = ("elsewhere", request_.ids[1], "nowhere")
        reply = judge(node, CalibrateRequest(0, ids, request_.adapters, request_.fallback))
        assert reply.ids == (request_.ids[1],)
        assert reply.outcomes.shape == (1, 3)

    @pytest.mark.parametrize("spoilt", ["adapters", "fallback"])
    def test_an_adapter_beyond_the_bound_is_not_used(
        self, node: Node, request_: CalibrateRequest, spoilt: str
    ) -> None:
        arrays = {"adapters": request_.adapters, "fallback": request_.fallback}
        arrays[spoilt] = arrays[spoilt] * np.float16(1000)
        with pytest.raises(AdapterValueError):
            judge(node, CalibrateRequest(0, request_.ids, **arrays))

    def test_no_text_of_an_expert_leaves_the_node(
        self, node: Node, request_: CalibrateRequest
    ) -> None:
        body = judge(node, request_).pack()
        assert set(body["fields"]["ids"]) == set(node.experts)
        sent = [str(body["fields"]).encode(), *(a.data for a in body["arrays"].values())]
        for task in node.experts.values():
            said = [words if isinstance(words, str) else words[0] for words in task.hints.values()]
            texts = {task.description, *task.paraphrases, *said}
            texts |= {example.item for example in task.train}
            assert not [text for text in texts if any(text.encode() in part for part in sent)]


def spoilt_confidence(name: str, value: object) -> str:
    fine = {"weights": [0.0] * 4, "covariance": [[0.0] * 4] * 4}
    return json.dumps(fine | {name: value})


def kept_file(home: Path) -> Path:
    (path,) = home.glob("kept/confidence/*.json")
    return path


class TestKept:
    def test_experts_are_asked_once_for_the_same_settings(
        self, make_fast: MakeLoop, home: Path
    ) -> None:
        first = make_fast(*JUDGED).run()
        assert len(first.of_kind(CALIBRATE)) == 2
        before = kept_file(home).read_bytes()
        again = make_fast("experiment.methods=[topk,policy]", output="again").run()
        assert not again.of_kind(CALIBRATE)
        assert again.summary["confidence"] == first.summary["confidence"]
        assert kept_file(home).read_bytes() == before
        for number, other in enumerate(
            ("generator.ridge=3", "generator=topk", "experiment.methods=[shared_lora,policy]")
        ):
            run = make_fast(
                *JUDGED, other, "federation.shared_rounds=1", output=f"other {number}"
            ).run()
            assert run.of_kind(CALIBRATE)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "[]",
            '{"weights": [1, 2, 3, 4]}',
            '{"weights": [1, 2], "covariance": [[1, 0], [0, 1]]}',
            spoilt_confidence("weights", [math.nan, 0, 0, 0]),
            spoilt_confidence("covariance", [["a"] * 4] * 4),
        ],
    )
    def test_a_damaged_file_is_refused_by_its_name(
        self, make_fast: MakeLoop, home: Path, text: str
    ) -> None:
        make_fast(*JUDGED).run()
        path = kept_file(home)
        path.write_text(text)
        run = make_fast(*JUDGED, output="again")
        with pytest.raises(GeneratorFileError, match=path.name):
            run.run()
        assert run.error["code"] == GeneratorFileError.code
        assert not run.path("summary.json").exists()
        assert path.read_text() == text


def test_a_refused_answer_is_counted_and_the_run_goes_on(make_fast: MakeLoop, home: Path) -> None:
    def between(exchange: Any) -> Message:
        if exchange.kind == CALIBRATE and exchange.partition == 1:
            arrays: Any = exchange.reply.content["arrays"]
            arrays["outcomes"] = Array(arrays["outcomes"].numpy() * 0 + np.float32(0.7))
        reply: Message = exchange.reply
        return reply

    run = make_fast(*JUDGED, between=between).run()
    assert run.summary["counts"]["refused_replies"] == 1
    assert run.summary["counts"]["clients"] == 6


TWELVE = (
    "family.rule_experts=12",
    "family.clients_per_split=1",
    "federation.clients_per_message=6",
)


def test_an_expert_far_outside_the_others_is_counted_and_not_used(
    make_fast: MakeLoop, cold_home: Path
) -> None:
    poisoned: list[str] = []

    def between(exchange: Any) -> Message:
        reply: Message = exchange.reply
        if exchange.kind == ENROL and exchange.partition == 1 and not poisoned:
            poisoned.append(exchange.fields()["trained"][0])
            arrays: Any = reply.content["arrays"]
            means = arrays["means"].numpy().copy()
            means[0] = turned(means[0])
            arrays["means"] = Array(means)
        return reply

    honest = make_fast(*TWELVE, *JUDGED, f"zoo.path={cold_home / 'honest'}", output="honest").run()
    assert honest.summary["counts"]["distrusted_experts"] == 0
    run = make_fast(*TWELVE, *JUDGED, between=between).run()
    counts = run.summary["counts"]
    assert (counts["experts"], counts["distrusted_experts"]) == (11, 1)
    assert {name for e in run.of_kind(CALIBRATE) for name in asked_of(e)}.isdisjoint(poisoned)
    assert run.of_kind(CALIBRATE)
    assert len(poisoned) == 1


def asked_of(exchange: Any) -> list[str]:
    return list(exchange.request.content["fields"]["ids"])


def turned(vector: np.ndarray) -> np.ndarray:
    """Every B times -10: the opposite of what was learnt, and louder."""
    layout = run_layout(
        compose(("experiment=assistant", "adapter.targets=[query,value]", "adapter.layers=[4,5]"))
    )
    factors = layout.unpack(torch.from_numpy(vector[None]))
    poison = layout.pack({name: (a[0], -10 * b[0]) for name, (a, b) in factors.items()})
    return np.asarray(poison)
