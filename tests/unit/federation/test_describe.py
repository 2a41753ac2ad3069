"""Requests of all nodes together: names that nobody can take, and no flood."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from sglora_fed.adapters.layout import Layout, ModuleShape
from sglora_fed.config import compose
from sglora_fed.errors import MessageError, RepliesError
from sglora_fed.federation.describe import (
    DescribeReply,
    DescribeRequest,
    Requests,
    collect_requests,
    describe,
)
from sglora_fed.federation.exchange import Federation
from sglora_fed.federation.inprocess import InProcessGrid
from sglora_fed.federation.node import Node
from sglora_fed.federation.roster import Roster
from sglora_fed.privacy.floor import virtual_floor

DIM = 8
LAYOUT = Layout((ModuleShape("query", 3, 2),), 1, 1.0)


def row(number: int) -> np.ndarray:
    """A unit vector of its own for each number."""
    made: np.ndarray = np.roll(np.eye(DIM, dtype=np.float32)[:1], number, axis=1)
    return made


def federation(replies: Sequence[DescribeReply], *overrides: str) -> Federation:
    app = ClientApp()

    @app.query("describe")
    def answer(message: Message, context: Context) -> Message:
        number = int(context.node_config["partition-id"])
        return Message(replies[number].pack(), reply_to=message)

    grid = InProcessGrid(app, len(replies), {})
    config = compose(["federation.min_replies=0.5", *overrides])
    silent: Callable[..., Callable[[int, int], None]] = lambda _: lambda *_: None  # noqa: E731
    roster, nodes = Roster(config.federation), tuple(grid.get_node_ids())
    return Federation(grid, nodes, config, LAYOUT, DIM, 0, silent, roster)


def described(partition: int, *ids: str) -> DescribeReply:
    rows = [row(partition + place) for place in range(len(ids))]
    return DescribeReply(partition, ids, np.concatenate([*rows, np.empty((0, DIM), np.float32)]))


def of(requests: Requests, node: int) -> dict[str, list[float]]:
    return {
        requests.own_ids[i]: requests.embeddings[np.array([i])][0, 0].tolist()
        for i in range(len(requests.names))
        if requests.nodes[i] == node
    }


def test_who_repeats_anothers_id_changes_nothing_of_the_other() -> None:
    honest, liar = described(0, "a", "b"), described(1, "b", "a.2")
    alone = collect_requests(federation([honest]))
    both = collect_requests(federation([honest, liar]))
    assert of(both, 1000) == of(alone, 1000)
    assert both.names == ("a", "a.2", "b", "b.2")
    assert both.own_ids == ("a", "a.2", "b", "b")
    assert both.nodes.tolist() == [1000, 1001, 1000, 1001]


def test_a_liar_that_claims_another_place_in_a_later_seed_takes_nobodys_name() -> None:
    """A client is paired with itself over seeds by its name."""
    replies = [described(0, "a", "b"), described(1, "a")]
    first = federation(replies)
    before = collect_requests(first)
    second = first.of_seed(1)
    replies[1] = described(1, "a")
    replies[0] = described(2, "a", "b")  # refused: it was 0
    after = collect_requests(second)
    assert before.names == ("a", "a.2", "b")
    assert (after.names, after.nodes.tolist()) == (("a.2",), [1001])


def test_equal_claims_of_a_partition_are_ordered_by_node() -> None:
    replies = [described(0, "x"), described(0, "x"), described(0, "x")]
    assert collect_requests(federation(replies)).nodes.tolist() == [1000, 1001, 1002]


def test_a_flood_of_clients_is_refused_before_anything_is_made_for_them() -> None:
    flood = DescribeReply(1, tuple(f"c{n}" for n in range(300)), np.tile(row(0), (300, 1)))
    of_all = federation([described(0, "a"), flood], "federation.clients_per_node=256")
    assert collect_requests(of_all).names == ("a",)
    assert len(of_all.refusals) == 1


def test_a_run_without_any_client_says_so() -> None:
    with pytest.raises(RepliesError, match="2 nodes have no client"):
        collect_requests(federation([described(0), described(1)]))


def test_those_who_are_asked_answer_in_the_order_in_which_they_are_asked(tmp_path: Path) -> None:
    config = compose(["family.clients_per_split=2"])
    node = Node(config, 0, 1, None, virtual_floor(config.privacy, 1, tmp_path))
    whole = describe(node, DescribeRequest(0))
    assert whole.ids == tuple(node.clients)
    rows = [4, 0, 2]
    some = describe(node, DescribeRequest(0, ids=tuple(whole.ids[row] for row in rows)))
    assert some.ids == tuple(whole.ids[row] for row in rows)
    np.testing.assert_allclose(some.released, whole.released[rows], atol=1e-5)
    assert np.abs(whole.released[4] - whole.released[0]).max() > 0.01
    few = describe(node, DescribeRequest(0, most=len(whole.ids) - 1))
    assert (few.ids, len(few.released)) == (whole.ids, 0)
    with pytest.raises(MessageError, match="1 of 2 clients are not on this node"):
        describe(node, DescribeRequest(0, ids=(whole.ids[0], "somebody-else")))
