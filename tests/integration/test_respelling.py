"""What experts train on in a round when some make up a spelling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sglora_fed.adapters import data
from sglora_fed.adapters.start import federation_start
from sglora_fed.cache import ByteCache
from sglora_fed.config import compose
from sglora_fed.federation import node as nodes
from sglora_fed.federation.node import Node
from sglora_fed.federation.rounds import RoundRequest, train_round
from sglora_fed.federation.shared import SharedRequest, train_shared_round
from tests.integration.conftest import TINY

# Writing styles beside rules, which stay as they are; a round takes fewer examples than an expert
# has, and rounds of the two kinds not as many.
STYLES = (
    "family.style_experts=5",
    "adapter.train.batch_size=3",
    "federation.generator_steps=3",
)


def opened(share: float) -> Node:
    return Node(compose([*TINY, *STYLES, f"federation.respelt={share}"]), 0, 1)


def one_round(node: Node, kind: str) -> np.ndarray:
    """What the node's experts make of a round."""
    start, experts = federation_start(node.layout, 0)[0], tuple(sorted(node.experts))
    if kind == "shared":
        return train_shared_round(node, SharedRequest(0, 1, experts, start)).mean
    starts = np.tile(start, (len(experts), 1)).astype(np.float16)
    return train_round(node, RoundRequest(0, 1, experts, starts)).updates


@pytest.fixture
def studied(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """Every task and its examples as they are prepared."""
    found: list[tuple[Any, Any]] = []
    prepare = data.prepare

    def watched(encoder: Any, task: Any, examples: Any, hints: str) -> Any:
        found.append((task, examples))
        return prepare(encoder, task, examples, hints)

    monkeypatch.setattr(data, "prepare", watched)
    fresh = ByteCache[Any](2**30, lambda part: [*part.items, *part.texts])
    monkeypatch.setattr(nodes, "PREPARED", fresh)
    return found


@pytest.mark.parametrize(("kind", "steps"), [("shared", 2), ("functional", 3)])
def test_all_or_nobody_respells(kind: str, steps: int, studied: list[tuple[Any, Any]]) -> None:
    plain, strange = opened(0.0), opened(1.0)
    usual = one_round(plain, kind)
    assert {task.id for task, _ in studied} == set(plain.experts)
    assert all(examples == plain.experts[task.id].train for task, examples in studied)
    studied.clear()
    made = one_round(strange, kind)
    assert {task.id for task, _ in studied} == set(strange.experts)
    spelt = [(task, examples) for task, examples in studied if task not in plain.experts.values()]
    assert {len(task.labels) > 3 for task, _ in spelt} == {True}
    assert len(spelt) == 5
    for task, examples in spelt:
        own = strange.experts[task.id]
        said = {word for words in task.hints.values() for word in words}
        assert not {e.item for e in examples} <= {e.item for e in own.train}
        assert {e.label for e in examples} == {e.label for e in own.train}
        assert len(examples) == max(3 * steps, len({e.label for e in own.train}))
        assert any(word not in str(own.hints) for word in said)
    assert not np.allclose(usual, made)
    np.testing.assert_array_equal(made, one_round(strange, kind))


def test_another_round_has_other_spellings(studied: list[tuple[Any, Any]]) -> None:
    node = opened(1.0)
    start, experts = federation_start(node.layout, 0)[0], tuple(sorted(node.experts))
    texts = []
    for number in (1, 2):
        studied.clear()
        train_shared_round(node, SharedRequest(0, number, experts, start))
        some = [examples for task, examples in studied if task not in node.experts.values()]
        texts.append({example.item for examples in some for example in examples})
    assert len(texts[0] & texts[1]) < 0.3 * len(texts[0])
