"""What a node of its owner keeps of several readings: as torch would choose, and without it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from sglora_fed.adapters.unpaired import MOST_ITEMS, agreements, plain_agreements
from sglora_fed.config import compose
from sglora_fed.edge.answering import OwnersNode
from sglora_fed.federation.answers import chosen
from sglora_fed.federation.node import Node
from sglora_fed.privacy.floor import UNTOLD
from sglora_fed.tasks import load_family


@pytest.fixture(scope="module")
def node() -> OwnersNode:
    config = compose(["experiment=cameras", "generator.readings=4"])
    task = load_family(config.family).of_role("client")[3]
    return OwnersNode(config, 0, 1, None, UNTOLD, task)


@pytest.fixture(scope="module")
def adapters(node: OwnersNode) -> np.ndarray:
    rng = np.random.default_rng(2)
    scales = np.array([1.0, 0.1, 0.0, 0.5])[None, :, None]
    return (rng.normal(size=(1, 4, node.layout.size)) * scales).astype(np.float32)


def test_shares_are_those_of_torch(node: OwnersNode, adapters: np.ndarray) -> None:
    assert node.plain is not None
    assert node.task is not None
    candidates = list(adapters.swapaxes(0, 1))
    mine = plain_agreements(node.plain, node.layout, [node.task], 0, 24, candidates)
    theirs = agreements(node.encoder, node.layout, [node.task], 0, 24, candidates)
    np.testing.assert_array_equal(mine, theirs)
    assert len(set(mine.ravel())) > 1


def test_the_owner_keeps_what_a_virtual_client_keeps_and_loads_no_model(
    node: OwnersNode, adapters: np.ndarray
) -> None:
    assert node.task is not None
    own = replace(node)
    kept = chosen(own, [node.task], 0, adapters, None)
    assert "encoder" not in vars(own)
    virtual = Node(node.config, 0, 1)
    np.testing.assert_array_equal(kept, chosen(virtual, [node.task], 0, adapters, None))
    shares = partial(plain_agreements, node.plain, node.layout, [node.task])
    found = shares(0, MOST_ITEMS, list(adapters.swapaxes(0, 1)))
    np.testing.assert_array_equal(kept, adapters[:, found.argmax()])
