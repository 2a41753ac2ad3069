"""Whose a reply is, and replies that nobody can read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from sglora_fed.federation.codec import pack
from sglora_fed.federation.inprocess import InProcessGrid
from sglora_fed.federation.post import MALFORMED, pause, posted, replies


def app() -> ClientApp:
    made = ClientApp()

    @made.query("who")
    def answer(message: Message, context: Context) -> Message:
        number = int(context.node_config["partition-id"])
        return Message(pack({"number": number}, {}), reply_to=message)

    return made


def told(grid: InProcessGrid, timeout: float = 0.0) -> dict[int, int | None]:
    messages = {node: Message(pack({}, {}), node, "query.who") for node in grid.get_node_ids()}
    return {
        node: None if reply is None else int(reply.content["fields"]["number"])  # type: ignore[index]
        for node, reply in replies(grid, posted(grid, messages), timeout)
    }


def test_everybody_is_heard_once() -> None:
    assert told(InProcessGrid(app(), 3, {})) == {1000: 0, 1001: 1, 1002: 2}


def test_a_reply_is_of_the_node_that_was_asked_whoever_it_says_it_is() -> None:
    class Impersonating(InProcessGrid):
        def _answer(self, message: Message) -> Message | None:
            reply = super()._answer(message)
            assert reply is not None
            reply.metadata.__dict__["_src_node_id"] = 1000
            reply.metadata.__dict__["_reply_to_message_id"] = "another"
            return reply

    assert told(Impersonating(app(), 3, {})) == {1000: 0, 1001: 1, 1002: 2}


@pytest.mark.parametrize("error", [UnicodeDecodeError("utf-8", b"", 0, 1, ""), KeyError("Bomb")])
def test_one_that_cannot_be_read_is_nobody_elses_matter(error: Exception) -> None:
    class Garbled(InProcessGrid):
        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            found = list(super().pull_messages(message_ids))
            if any(message.metadata.src_node_id == 1001 for message in found):
                raise error
            return found

    assert isinstance(error, MALFORMED)
    assert told(Garbled(app(), 3, {})) == {1000: 0, 1001: None, 1002: 2}


def test_only_the_first_answer_counts() -> None:
    class Twice(InProcessGrid):
        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            found = list(super().pull_messages(message_ids))
            second: Any = [Message(pack({"number": 9}, {}), 1000, "query.who") for _ in found]
            return [*found, *second]

    assert told(Twice(app(), 2, {})) == {1000: 0, 1001: 1}


def test_who_is_silent_and_who_could_not_be_asked_are_missing() -> None:
    class Silent(InProcessGrid):
        def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
            names: list[Any] = [*super().push_messages(messages)]
            return ["", *names[1:-1], "unknown"]

    assert told(Silent(app(), 3, {})) == {1001: 1}


@pytest.mark.parametrize("length", [0.1, 1.0, 3.0, 600.0])
def test_a_reply_is_seen_soon_and_looked_for_seldom(length: float) -> None:
    """For an exchange of so many seconds: how late its end is seen, and after how many looks."""
    waited, looks = 0.0, 1
    while waited < length:
        waited, looks = waited + pause(waited), looks + 1
    assert waited - length <= max(0.02, min(0.05 * length, 0.5)) + 1e-9
    assert looks <= 90 + 2 * length
