"""What happens to replies on their way is what the study says of it, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch
from flwr.app import Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from sglora_fed.backbones import load_describer
from sglora_fed.config import RunConfig, compose
from sglora_fed.federation.describe import DESCRIBE, DescribeReply, DescribeRequest
from sglora_fed.federation.enrol import ENROL, EnrolReply, EnrolRequest
from sglora_fed.federation.layouts import run_layout
from sglora_fed.federation.rounds import ROUND, RoundReply, RoundRequest
from sglora_fed.federation.shared import SHARED, SharedReply, SharedRequest
from sglora_fed.federation.terms import in_clear
from sglora_fed.federation.wordings import WORDINGS

CAMERAS = ("family=cameras", "backbone=cameras", "adapter=cameras")


@pytest.fixture(scope="module")
def replies(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("study_replies")


@pytest.fixture(scope="module")
def config() -> RunConfig:
    return compose(CAMERAS)


def exchanged(
    edit: Callable[[Message, Message], None],
    kind: str,
    request: RecordDict,
    reply: RecordDict,
) -> RecordDict:
    """What the server gets."""
    # A message asks Flower's process-wide identity who sends it.
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    asked = Message(request, 7, kind)
    answered = Message(reply, reply_to=asked)
    edit(asked, answered)
    return answered.content


def enrolled(partition: int, size: int, dim: int) -> EnrolReply:
    rng = np.random.default_rng(partition)
    texts = rng.normal(size=(2, WORDINGS, dim)).astype(np.float32)
    return EnrolReply(
        partition=partition,
        ids=("a", "b"),
        task_digests=("0" * 64, "1" * 64),
        trained=("a", "b"),
        wordings=texts / np.linalg.norm(texts, axis=2, keepdims=True),
        means=rng.normal(size=(2, size)).astype(np.float32),
        variances=np.ones((2, size), np.float32),
        examples=np.array([3, 4]),
        kind="labelled",
    )


def test_a_node_without_experts_has_none_and_another_keeps_its_own(
    replies: ModuleType, config: RunConfig
) -> None:
    size, dim, edit = run_layout(config).size, 5, replies.experts_of(1)(config)
    request = EnrolRequest(0, (), 8)
    for partition, ids in ((0, ("a", "b")), (1, ())):
        honest = enrolled(partition, size, dim)
        body = exchanged(edit, ENROL, request.pack(), honest.pack())
        found = EnrolReply.parse(body, dim, size).answering(request)
        assert found.ids == found.trained == ids
        assert np.array_equal(found.means, honest.means[: len(ids)])


def test_everybody_asks_with_the_same_junk(replies: ModuleType, config: RunConfig) -> None:
    describer = load_describer(config.backbone)
    own = describer.encode(["a camera upside down", "a camera with red and blue swapped"])
    honest = DescribeReply(0, ("c", "d"), np.asarray(own))
    edit = replies.junk(config)
    body = exchanged(edit, DESCRIBE, DescribeRequest(0).pack(), honest.pack())
    found = DescribeReply.parse(body, in_clear(describer.dim)).released
    expected = np.asarray(describer.encode([replies.JUNK]))
    assert np.allclose(found, np.repeat(expected, 2, axis=0), atol=1e-3)


def test_a_liar_turns_round_all_that_its_experts_learnt(
    replies: ModuleType, config: RunConfig
) -> None:
    layout, edit = run_layout(config), replies.flipped(config)
    start, trained, update = np.random.default_rng(0).normal(size=(3, layout.size))
    honest = enrolled(0, layout.size, 5)
    body = exchanged(edit, ENROL, EnrolRequest(0, (), 8).pack(), honest.pack())
    lie = EnrolReply.parse(body, 5, layout.size)
    before, after = (layout.unpack(torch.from_numpy(e.means)) for e in (honest, lie))
    for name, (a, b) in after.items():
        assert torch.equal(b @ a, -(before[name][1] @ before[name][0]))

    shared = SharedRequest(0, 1, ("a",), start).pack(), SharedReply(0, ("a",), trained).pack()
    mean = SharedReply.parse(exchanged(edit, SHARED, *shared), layout.size).mean
    assert np.allclose(mean - start, start - trained, atol=1e-5)

    rounds = RoundRequest(0, 1, ("a",), start[None]), RoundReply(0, ("a",), update[None])
    body = exchanged(edit, ROUND, *(one.pack() for one in rounds))
    assert np.allclose(RoundReply.parse(body, layout.size).updates, -update, atol=1e-2)


def test_the_other_nodes_stay_honest(replies: ModuleType, config: RunConfig) -> None:
    layout, honest = run_layout(config), enrolled(1, run_layout(config).size, 5)
    edit = replies.flipped(config)
    body = exchanged(edit, ENROL, EnrolRequest(0, (), 8).pack(), honest.pack())
    assert np.array_equal(EnrolReply.parse(body, 5, layout.size).means, honest.means)
