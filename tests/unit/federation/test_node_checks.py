"""What a node does with messages of a server that is wrong, or worse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sglora_fed.adapters.start import norm_bound
from sglora_fed.config import compose
from sglora_fed.errors import (
    AdapterValueError,
    CatalogueError,
    LayoutError,
    MessageError,
    PromiseError,
)
from sglora_fed.federation.adopt import AdoptRequest, adopt
from sglora_fed.federation.bench import measure
from sglora_fed.federation.calibrate import CalibrateRequest, judge
from sglora_fed.federation.compare import CompareRequest
from sglora_fed.federation.describe import DescribeRequest, describe
from sglora_fed.federation.enrol import EnrolRequest, train_experts
from sglora_fed.federation.node import Node
from sglora_fed.federation.rounds import RoundRequest, train_round
from sglora_fed.federation.shared import SharedRequest, train_shared_round
from sglora_fed.federation.terms import Terms
from sglora_fed.privacy.floor import UNTOLD, Floor
from sglora_fed.privacy.ledger import Budget

TINY = (
    "experiment=assistant", "family.rule_experts=2", "family.style_experts=0",
    "family.clients_per_split=1", "adapter.layers=[5]", "adapter.targets=[query]",
    "adapter.train.steps=1", "adapter.train.checkpoints=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Node:
    folder = tmp_path_factory.mktemp("adapters")
    return Node(compose(TINY), 0, 1, folder, Floor(("none",)))


def comparing(node: Node, **changes: Any) -> CompareRequest:
    ids, size = tuple(node.clients)[:1], node.layout.size
    honest = CompareRequest(
        seed=0,
        ids=ids,
        methods=("zero_shot",),
        made=(),
        adapters=np.empty((len(ids), 0, size), np.float16),
        common=(),
        shared=np.empty((0, size), np.float16),
        confidence=np.empty(0, np.float32),
    )
    return replace(honest, **changes)


def asking(node: Node, vector: np.ndarray) -> list[Callable[[], object]]:
    """All ways to give a node a vector."""
    expert, person = tuple(node.experts)[:1], tuple(node.clients)[:1]
    fine = np.zeros(node.layout.size, np.float16)
    made = {"methods": ("x",), "made": ("x",), "adapters": vector[None, None]}
    common = {"methods": ("x",), "common": ("x",), "shared": vector[None]}
    return [
        lambda: train_shared_round(node, SharedRequest(0, 1, expert, vector)),
        lambda: train_round(node, RoundRequest(0, 1, expert, vector[None])),
        lambda: judge(node, CalibrateRequest(0, expert, vector[None, None], fine)),
        lambda: judge(node, CalibrateRequest(0, expert, fine[None, None], vector)),
        lambda: adopt(node, AdoptRequest(person, vector[None])),
        lambda: measure(node, comparing(node, **made)),
        lambda: measure(node, comparing(node, **common)),
    ]


@pytest.mark.parametrize("way", range(7))
def test_vectors_that_no_training_made_are_refused(node: Node, way: int) -> None:
    size = node.layout.size
    long = np.zeros(size, np.float16)
    long[0] = norm_bound(node.layout) * 1.01
    for bad in (long, np.full(size, np.nan, np.float16), np.full(size, np.inf, np.float16)):
        with pytest.raises(AdapterValueError):
            asking(node, bad)[way]()
    with pytest.raises(LayoutError):
        asking(node, np.zeros(size - 1, np.float16))[way]()
    assert node.adapters is not None
    assert not list(node.adapters.iterdir())


def test_somebody_elses_clients_are_refused(node: Node) -> None:
    vectors = np.zeros((1, node.layout.size), np.float16)
    with pytest.raises(MessageError, match="1 of 1 clients are not on this node"):
        adopt(node, AdoptRequest(("stranger",), vectors))
    with pytest.raises(MessageError, match="1 of 1 clients are not on this node"):
        measure(node, comparing(node, ids=("stranger",)))
    assert node.adapters is not None
    assert not list(node.adapters.iterdir())


@pytest.mark.parametrize("method", ["topk", "rm -rf", "policy", "generated_5shot", "shared_full"])
def test_methods_that_nothing_came_for_are_refused(node: Node, method: str) -> None:
    told = {"methods": (method,), "confidence": np.ones(1, np.float32)}
    with pytest.raises(MessageError, match="no adapter came for the method"):
        measure(node, comparing(node, **told))


@pytest.mark.parametrize("floor", [UNTOLD, Floor(("local",))])
def test_a_node_that_answers_nothing_in_clear_measures_nothing_for_a_server(
    node: Node, floor: Floor
) -> None:
    # Which of many adapters do well says what the task is, and no ledger counts it.
    with pytest.raises(PromiseError):
        measure(replace(node, floor=floor), comparing(node))


def test_no_file_is_opened_that_a_server_names(node: Node, tmp_path: Path) -> None:
    told = ("privacy=krr", f"privacy.catalogue={tmp_path}", "experiment.methods=[zero_shot,ridge]")
    floor = Floor(("krr",), 8.0, 0.0, Budget(8.0), tmp_path / "ledger")
    config = compose([*TINY, "generator=ridge", *told])
    asked = DescribeRequest(0, Terms("c" * 64))
    with pytest.raises(CatalogueError, match="own table"):
        describe(replace(node, config=config, floor=floor), asked)


def test_experts_whose_examples_are_protected_judge_nothing(node: Node) -> None:
    private = ("privacy.training.epsilon=8", "experiment.methods=[zero_shot,ridge]")
    config = compose([*TINY, "generator=ridge", *private])
    fine = np.zeros((1, 1, node.layout.size), np.float16)
    asked = CalibrateRequest(0, tuple(node.experts)[:1], fine, fine[0, 0])
    assert judge(node, asked).ids == asked.ids
    with pytest.raises(PromiseError):
        judge(replace(node, config=config), asked)


def test_a_server_that_lowers_the_promise_to_experts_gets_nothing(
    node: Node, tmp_path: Path
) -> None:
    """In every exchange that looks at their examples, whatever was asked for before."""
    floor = Floor(("none",), training_epsilon=4.0, ledger=tmp_path / "ledger")
    expert, start = tuple(node.experts)[:1], np.zeros(node.layout.size, np.float32)
    half = start[None].astype(np.float16)
    methods = ("experiment.methods=[zero_shot,ridge]", "generator=ridge")
    for wish in ((), ("privacy.training.epsilon=4.1",)):
        lowered = replace(node, config=compose([*TINY, *methods, *wish]), floor=floor)
        asked: list[Callable[[Node], object]] = [
            lambda one: train_experts(one, EnrolRequest(0, (), 1)),
            lambda one: train_experts(one, EnrolRequest(0, (), 0)),
            lambda one: train_shared_round(one, SharedRequest(0, 1, expert, start)),
            lambda one: train_round(one, RoundRequest(0, 1, expert, half)),
            lambda one: judge(one, CalibrateRequest(0, expert, half[None], half[0])),
        ]
        for ask in asked:
            with pytest.raises(PromiseError):
                ask(lowered)


def test_experts_that_a_node_lacks_are_passed_over(node: Node) -> None:
    start = np.zeros(node.layout.size, np.float32)
    strangers = ("x", "y")
    assert train_shared_round(node, SharedRequest(0, 1, strangers, start)).ids == ()
    starts = np.zeros((2, node.layout.size), np.float16)
    assert train_round(node, RoundRequest(0, 10**6, strangers, starts)).ids == ()
    everything = train_experts(node, EnrolRequest(0, strangers, 100_000))
    assert everything.trained == everything.ids == tuple(node.experts)
