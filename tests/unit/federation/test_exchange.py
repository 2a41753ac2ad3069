"""One liar of five nodes ends no exchange, whatever it answers and whoever is asked."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from sglora_fed.adapters.layout import Layout, ModuleShape
from sglora_fed.config import compose
from sglora_fed.errors import RepliesError
from sglora_fed.federation.adopt import AdoptRequest
from sglora_fed.federation.codec import Reader, pack
from sglora_fed.federation.describe import DESCRIBE, DescribeReply, DescribeRequest
from sglora_fed.federation.exchange import Federation, Request
from sglora_fed.federation.inprocess import InProcessGrid
from sglora_fed.federation.roster import Roster

LAYOUT, DIM, NODES = Layout((ModuleShape("query", 3, 2),), 1, 1.0), 8, 5
LIAR = 1000 + NODES - 1
Harm = Callable[[Message, Message], Message | None]
"""From an honest reply and its request to what the server gets."""


def client() -> ClientApp:
    app = ClientApp()

    @app.query("describe")
    def answer(message: Message, context: Context) -> Message:
        number = int(context.node_config["partition-id"])
        return Message(pack({"partition": number, "ids": []}, {}), reply_to=message)

    return app


class LyingGrid(InProcessGrid):
    def __init__(self, harm: Harm, liars: tuple[int, ...]) -> None:
        super().__init__(client(), NODES, {})
        self._harm, self._liars = harm, liars

    def _answer(self, message: Message) -> Message | None:
        reply = super()._answer(message)
        assert reply is not None
        lies = message.metadata.dst_node_id in self._liars
        return self._harm(reply, message) if lies else reply


def federation(harm: Harm, *liars: int, share: float = 0.8) -> Federation:
    grid = LyingGrid(harm, liars or (LIAR,))
    config = compose([f"federation.min_replies={share}", "federation.timeout=0.01"])
    silent: Callable[..., Callable[[int, int], None]] = lambda _: lambda *_: None  # noqa: E731
    nodes = tuple(grid.get_node_ids())
    return Federation(grid, nodes, config, LAYOUT, DIM, 0, silent, Roster(config.federation))


def parse(_: Request, body: RecordDict) -> DescribeReply:
    read = Reader(body)
    nobody = np.empty((0, DIM), np.float32)
    return DescribeReply(read.integer("partition", 0, 9), read.identifiers("ids", 9), nobody)


def asked(of: Federation, *nodes: int) -> list[int]:
    requests = dict.fromkeys(nodes or of.nodes, DescribeRequest(0))
    return list(of.ask(DESCRIBE, requests, parse, 0))


def with_content(content: Any) -> Harm:
    def harm(reply: Message, _: Message) -> Message:
        reply.__dict__["_content"] = content
        return reply

    return harm


def failing_with_content(reply: Message, request: Message) -> Message:
    failed = Message(Error(7, "x"), reply_to=request)
    failed.__dict__["_content"] = reply.content
    return failed


def lost(reply: Message, request: Message) -> None:
    return None


HARMS = [
    pytest.param(with_content(None), "cannot be read", id="nothing"),
    pytest.param(with_content(ArrayRecord()), "is a ArrayRecord", id="no-records"),
    pytest.param(with_content(RecordDict()), "0 records", id="empty"),
    pytest.param(
        with_content(RecordDict({"fields": ArrayRecord(), "arrays": ConfigRecord()})),
        "2 records",
        id="swapped",
    ),
    pytest.param(with_content(pack({"partition": 4}, {})), "ids", id="half"),
    pytest.param(with_content(pack({"partition": "4", "ids": []}, {})), "partition", id="text"),
    pytest.param(with_content(pack({"partition": 4, "ids": ["a" * 65]}, {})), "ids", id="long"),
    pytest.param(
        with_content(pack({"partition": 4, "ids": [], "junk": "x" * 100_000}, {})),
        "bytes",
        id="huge",
    ),
    pytest.param(failing_with_content, "code 7", id="error-and-content"),
]


@pytest.mark.parametrize(("harm", "reason"), HARMS)
def test_what_is_no_reply_is_refused_and_the_others_count(harm: Harm, reason: str) -> None:
    of = federation(harm)
    assert asked(of) == [1000, 1001, 1002, 1003]
    (told,) = of.refusals
    assert reason in told


def test_an_answer_about_somebody_who_was_not_asked_is_refused() -> None:
    of = federation(with_content(pack({"partition": 4, "ids": ["own", "stranger"]}, {})))
    refusal = "[SGL-800] 1 clients that were not asked"
    for about, refusals in ((("own", "stranger"), []), (("own",), [refusal])):
        requests = dict.fromkeys(of.nodes, AdoptRequest(about, np.zeros((2, LAYOUT.size))))
        assert (LIAR in of.ask(DESCRIBE, requests, parse, 0)) == (not refusals)
        assert of.refusals == refusals


def test_bytes_of_arrays_are_counted_both_ways_over_all_seeds() -> None:
    def saved(array: np.ndarray) -> int:
        np.save(file := io.BytesIO(), array)
        return len(file.getvalue())

    sent, told = np.zeros((2, LAYOUT.size), np.float16), np.zeros(50)
    of = federation(with_content(pack({"partition": 4, "ids": []}, {"more": told})))
    requests = dict.fromkeys(of.nodes, AdoptRequest(("own", "other"), sent))
    of.of_seed(1).ask(DESCRIBE, requests, parse, 0)
    assert of.traffic == {
        (DESCRIBE, "down"): NODES * saved(sent),
        (DESCRIBE, "up"): saved(told),
    }


def test_what_is_refused_is_not_counted() -> None:
    junk = pack({"partition": 4, "ids": ["a" * 65]}, {"more": np.zeros(50)})
    of = federation(with_content(junk))
    asked(of)
    assert of.traffic[DESCRIBE, "up"] == 0


@pytest.mark.parametrize("harm", [with_content(None), lost])
def test_a_liar_that_is_asked_alone_is_still_one_of_five(harm: Harm) -> None:
    assert asked(federation(harm), LIAR) == []
    assert asked(federation(harm), 1000, LIAR) == [1000]
    with pytest.raises(RepliesError, match="0 usable replies, need 1"):
        asked(federation(harm, share=1.0), LIAR)
    with pytest.raises(RepliesError, match="0 usable replies, need 1"):
        asked(federation(harm, LIAR, 1000), 1000, LIAR)
    with pytest.raises(RepliesError, match="3 usable replies, need 4"):
        asked(federation(harm, LIAR, 1000))


@pytest.mark.parametrize(("share", "failing"), [(0.6, 2), (0.2, 4), (0.8, 1), (1e-9, 4)])
def test_as_many_may_fail_as_are_spared_whatever_a_product_is_rounded_to(
    share: float, failing: int
) -> None:
    liars = range(1000, 1000 + failing)
    assert len(asked(federation(lost, *liars, share=share))) == NODES - failing
    with pytest.raises(RepliesError):
        asked(federation(lost, *range(1000, 1001 + failing), share=share))


def test_the_next_round_is_on_its_way_before_one_is_read_and_no_further() -> None:
    seen: list[str] = []

    class Watched(LyingGrid):
        def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
            seen.append("out")
            return super().push_messages(messages)

    of = federation(lost)
    of = replace(of, grid=Watched(lost, (LIAR,)))
    rounds = [dict.fromkeys(some, DescribeRequest(0)) for some in ([1000, 1001], of.nodes, [1002])]
    found = []
    for replies in of.ask_ahead(DESCRIBE, iter(rounds), parse, 0):
        seen.append("in")
        found.append(list(replies))
    assert found == [[1000, 1001], [1000, 1001, 1002, 1003], [1002]]
    assert seen == ["out", "out", "in", "out", "in", "in"]


def test_a_round_that_too_few_answer_ends_the_exchange_at_that_round() -> None:
    of = federation(lost, LIAR, 1000)
    rounds = [dict.fromkeys(some, DescribeRequest(0)) for some in ([1001], of.nodes, [1002])]
    exchange = of.ask_ahead(DESCRIBE, rounds, parse, 0)
    assert list(next(exchange)) == [1001]
    with pytest.raises(RepliesError, match="3 usable replies, need 4"):
        next(exchange)
