"""Enrolment: each reply is stored at once, names cannot be taken, changed tasks train again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from sglora_fed.adapters.layout import Layout
from sglora_fed.config import compose
from sglora_fed.federation.enrol import EnrolReply, EnrolRequest, enrol
from sglora_fed.federation.exchange import Federation
from sglora_fed.federation.inprocess import InProcessGrid
from sglora_fed.federation.roster import Roster
from sglora_fed.federation.wordings import WORDINGS
from sglora_fed.zoo import Zoo, ZooIdentity, ZooStore, open_zoo, read_store

MakeZoo = Callable[..., Zoo]
DIM, LIMIT = 6, 2


@dataclass
class Owner:
    """A node: own id -> (hash of its task, a number that its adapter is made of).

    Attributes:
        experts: as it says.
        asked: requests that it got.
        answer: changes an honest reply.
    """

    experts: dict[str, tuple[str, float]]
    asked: list[EnrolRequest] = field(default_factory=list)
    answer: Callable[[EnrolReply], EnrolReply] = lambda reply: reply

    def reply(self, number: int, request: EnrolRequest, size: int) -> EnrolReply:
        self.asked.append(request)
        ids = [own for own in self.experts if own not in request.known][: request.limit]
        values = np.array([self.experts[own][1] for own in ids], np.float32)
        honest = EnrolReply(
            number,
            tuple(self.experts),
            tuple(digest for digest, _ in self.experts.values()),
            tuple(ids),
            np.tile(np.eye(DIM, dtype=np.float32)[0], (len(ids), WORDINGS, 1)),
            np.tile(values[:, None], (1, size)),
            np.zeros((len(ids), size), np.float32),
            np.full(len(ids), 5),
            "labelled",
        )
        return self.answer(honest)


@pytest.fixture
def store(tmp_path: Path, identity: ZooIdentity) -> ZooStore:
    return open_zoo(tmp_path / "zoo", identity)


def enrolled(store: ZooStore, owners: Sequence[Owner], *overrides: str, skipped: int = 0) -> Roster:
    """Enrol from nodes 1000, 1001, ... behind those skipped; all claim partition 0, as on edges."""
    app, layout = ClientApp(), Layout.from_dict(store.identity.layout)

    @app.train("expert")
    def train(message: Message, context: Context) -> Message:
        owner = owners[int(context.node_config["partition-id"]) - skipped]
        reply = owner.reply(0, EnrolRequest.parse(message.content), layout.size)
        return Message(reply.pack(), reply_to=message)

    grid = InProcessGrid(app, skipped + len(owners), {})
    told = (f"federation.clients_per_message={LIMIT}", "federation.min_replies=0.1", *overrides)
    config = compose(told)
    roster, nodes = Roster(config.federation), tuple(grid.get_node_ids())[skipped:]
    of = Federation(grid, nodes, config, layout, DIM, 0, lambda _: lambda *_: None, roster)
    enrol(of, store)
    return roster


def means(store: ZooStore) -> dict[str, float]:
    zoo = store.load()
    return {name: float(zoo.means[row, 0]) for row, name in enumerate(zoo.ids)}


def honest(prefix: str, count: int, start: float) -> Owner:
    return Owner({f"{prefix}{n}": (f"{prefix}{n:063d}", start + n / 10) for n in range(count)})


def test_everybody_is_enrolled_in_as_many_turns_as_it_takes(store: ZooStore) -> None:
    one, two = honest("a", 5, 0.1), honest("b", 1, 0.5)
    roster = enrolled(store, [one, two])
    assert means(store) == pytest.approx({f"a{n}": 0.1 + n / 10 for n in range(5)} | {"b0": 0.5})
    assert [len(request.known) for request in one.asked] == [0, 2, 4]
    assert len(two.asked) == 1
    assert roster.owners == dict.fromkeys([f"a{n}" for n in range(5)], 1000) | {"b0": 1001}
    assert set(store.load().owners) == {"1000", "1001"}


def test_a_zoo_that_is_whole_trains_nobody(store: ZooStore) -> None:
    enrolled(store, [honest("a", 3, 0.1)])
    before = means(store)
    again = honest("a", 3, 0.9)
    roster = enrolled(store, [again], skipped=5)
    assert [request.limit for request in again.asked] == [0]
    assert means(store) == before
    assert set(roster.owners.values()) == {1005}
    assert set(read_store(store.path).owners().values()) == {"1005"}


def test_a_changed_task_is_trained_again_and_replaces_the_old_one(store: ZooStore) -> None:
    enrolled(store, [honest("a", 3, 0.1)])
    changed = honest("a", 3, 0.1)
    changed.experts["a1"] = ("c" * 64, 0.8)
    enrolled(store, [changed])
    assert means(store) == pytest.approx({"a0": 0.1, "a1": 0.8, "a2": 0.3})


def test_nobody_replaces_the_expert_of_another_node(store: ZooStore) -> None:
    enrolled(store, [honest("a", 2, 0.1)])
    liar = Owner({"a0": ("d" * 64, -0.9), "a1": ("e" * 64, -0.9)})
    roster = enrolled(store, [honest("a", 2, 0.1), liar])
    found = means(store)
    assert (found["a0"], found["a1"]) == pytest.approx((0.1, 0.2))
    assert sorted(found) == ["a0", "a0.dddddddd", "a1", "a1.eeeeeeee"]
    assert roster.owners["a0"] == 1000
    assert roster.owners["a0.dddddddd"] == 1001


def test_who_does_not_know_the_task_cannot_claim_its_expert(store: ZooStore) -> None:
    enrolled(store, [honest("a", 2, 0.1)])
    liar = Owner({"a0": ("d" * 64, -0.9)})
    roster = enrolled(store, [liar], skipped=7)
    assert roster.owners == {"a0.dddddddd": 1007}
    assert means(store)["a0"] == pytest.approx(0.1)


def test_a_name_that_another_node_took_on_purpose_is_passed_over(store: ZooStore) -> None:
    squatter = Owner({"a0": ("d" * 64, 0.0), "a0.aaaaaaaa": ("e" * 64, 0.0)})
    victim = Owner({"a0": ("a" * 64, 0.7)})
    roster = enrolled(store, [squatter, victim])
    (name,) = (name for name, node in roster.owners.items() if node == 1001)
    assert name == f"a0.{'a' * 32}"
    assert means(store)[name] == pytest.approx(0.7)


def test_a_node_sends_no_more_than_it_may_own(store: ZooStore) -> None:
    greedy, modest = honest("g", 5, 0.0), honest("m", 2, 0.2)
    enrolled(store, [greedy, modest], "federation.experts_per_node=4")
    assert set(means(store)) == {"m0", "m1"}


def test_one_expert_at_a_time_is_no_way_to_keep_everybody_waiting(store: ZooStore) -> None:
    slow = honest("s", 40, 0.0)
    slow.answer = lambda reply: replace(
        reply,
        trained=reply.trained[:1],
        wordings=reply.wordings[:1],
        means=reply.means[:1],
        variances=reply.variances[:1],
        examples=reply.examples[:1],
    )
    enrolled(store, [slow, honest("m", 2, 0.2)])
    assert len(slow.asked) == 1
    assert set(means(store)) == {"m0", "m1"}


def test_who_fails_after_the_others_are_done_ends_nothing(store: ZooStore) -> None:
    """Only the liar is asked then: it is one of five nodes all the same."""
    liar = honest("l", 3, 0.0)
    liar.answer = lambda reply: reply if len(liar.asked) < 2 else replace(reply, partition=-1)
    others = [honest(prefix, 2, 0.1) for prefix in "abcd"]
    enrolled(store, [*others, liar], "federation.min_replies=0.8")
    assert len(liar.asked) == 2
    assert set(means(store)) == {f"{p}{n}" for p in "abcdl" for n in range(2)}


def test_an_honest_node_of_many_experts_is_not_too_long(store: ZooStore) -> None:
    """What an inventory weighs is no part of the numbers."""
    big = Owner({f"{'e' * 50}{n}": (f"{n:064d}", 0.1) for n in range(1500)})
    told = ("federation.experts_per_node=2000", "federation.clients_per_message=1500")
    assert len(enrolled(store, [big], *told).owners) == 1500


def test_a_flood_ends_after_the_first_message(store: ZooStore) -> None:
    """More experts than were asked for, again and again."""
    flood = honest("f", 40, 0.0)
    flood.answer = lambda reply: replace(
        reply,
        trained=reply.ids[:10],
        wordings=np.tile(reply.wordings[:1], (10, 1, 1)),
        means=np.tile(reply.means[:1], (10, 1)),
        variances=np.tile(reply.variances[:1], (10, 1)),
        examples=np.full(10, 5),
    )
    modest = honest("m", 2, 0.2)
    enrolled(store, [flood, modest])
    assert len(flood.asked) == 1
    assert set(means(store)) == {"m0", "m1"}
