"""The messages of the calibration, and what the server makes of experts' answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pytest
from flwr.app import Array, Context, Message
from flwr.clientapp import ClientApp

from sglora_fed.adapters.layout import Layout, ModuleShape
from sglora_fed.config import compose
from sglora_fed.errors import MessageError, RepliesError
from sglora_fed.federation import calibrate as calibration
from sglora_fed.federation.calibrate import (
    UNKNOWN,
    CalibrateReply,
    CalibrateRequest,
    calibrate,
)
from sglora_fed.federation.exchange import Federation
from sglora_fed.federation.inprocess import InProcessGrid
from sglora_fed.federation.roster import Roster
from sglora_fed.generators import is_federated, make_generator
from sglora_fed.generators.confidence import Confidence
from sglora_fed.zoo import Zoo

MakeZoo = Callable[..., Zoo]
Answer = Callable[[int, CalibrateRequest], CalibrateReply]
Make = Callable[..., Federation]

DIM, SIZE, KINDS = 384, 7, 3
IDS = ("a", "b-1")


def asked(**changes: object) -> CalibrateRequest:
    adapters = np.arange(2 * KINDS * SIZE, dtype=np.float16).reshape(2, KINDS, SIZE)
    request = CalibrateRequest(3, IDS, adapters, np.ones(SIZE, np.float16))
    return dataclasses.replace(request, **changes)


def answered(**changes: object) -> CalibrateReply:
    reply = CalibrateReply(1, IDS, np.array([[0.0, 0.5, 1.0], [1.0, 1.0, 0.5]], np.float32))
    return dataclasses.replace(reply, **changes)


def test_round_trips() -> None:
    read = CalibrateRequest.parse(asked().pack(), SIZE)
    assert (read.seed, read.ids) == (3, IDS)
    np.testing.assert_array_equal(read.adapters, asked().adapters)
    np.testing.assert_array_equal(read.fallback, asked().fallback)
    reply = CalibrateReply.parse(answered().pack(), KINDS)
    assert (reply.partition, reply.ids) == (1, IDS)
    np.testing.assert_array_equal(reply.outcomes, answered().outcomes)


def test_a_node_without_experts_has_an_answer_too() -> None:
    reply = CalibrateReply(0, (), np.empty((0, KINDS)))
    assert CalibrateReply.parse(reply.pack(), KINDS).outcomes.shape == (0, KINDS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        # An exact difference in accuracy says more than was promised.
        ({"outcomes": np.full((2, KINDS), 0.25)}, "an outcome is none of"),
        ({"outcomes": np.full((2, KINDS), -1)}, "an outcome is none of"),
        ({"outcomes": np.full((2, KINDS), np.nan)}, "NaN"),
        ({"outcomes": np.full((2, KINDS), np.inf)}, "infinity"),
        ({"outcomes": np.zeros((1, KINDS))}, "outcomes"),
        ({"outcomes": np.zeros((2, KINDS + 1))}, "outcomes"),
        ({"ids": ("a", "a")}, "twice"),
        ({"ids": ("a", "call my sister")}, "identifier"),
        ({"partition": -1}, "partition"),
    ],
)
def test_a_wrong_answer_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(MessageError, match=words):
        CalibrateReply.parse(answered(**changes).pack(), KINDS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("adapters", np.zeros((2, KINDS, SIZE + 1), np.float16)),
        ("adapters", np.zeros((1, KINDS, SIZE), np.float16)),
        ("adapters", np.zeros((2, KINDS, SIZE), np.float32)),
        ("adapters", np.full((2, KINDS, SIZE), np.nan, np.float16)),
        ("fallback", np.zeros(SIZE + 1, np.float16)),
        ("fallback", np.full(SIZE, np.inf, np.float16)),
    ],
)
def test_a_wrong_request_is_refused(name: str, value: np.ndarray) -> None:
    body = asked().pack()
    body["arrays"][name] = Array(value)
    with pytest.raises(MessageError, match=name):
        CalibrateRequest.parse(body, SIZE)


def test_what_leaves_a_node_is_ids_and_outcomes() -> None:
    body = answered().pack()
    assert set(body["fields"]) == {"partition", "ids"}
    assert set(body["arrays"]) == {"outcomes"}


# The server's part, with nodes that answer as they are told.


@pytest.fixture
def zoo(make_zoo: MakeZoo) -> Zoo:
    return make_zoo(experts=9, dim=DIM, size=SIZE, wordings=3)


@pytest.fixture
def federation(enlisted: Callable[..., Roster]) -> Callable[..., Federation]:
    return partial(_federation, enlisted)


def _federation(
    enlisted: Callable[..., Roster],
    zoo: Zoo,
    answers: Mapping[int, Answer],
    backwards: bool = False,
) -> Federation:
    """Nodes that own every n-th expert of a zoo, each with its way to answer."""
    app = ClientApp()

    @app.evaluate("calibrate")
    def answer(message: Message, context: Context) -> Message:
        number = int(context.node_config["partition-id"])
        request = CalibrateRequest.parse(message.content, SIZE)
        return Message(answers[number](number, request).pack(), reply_to=message)

    grid = InProcessGrid(app, len(answers), {})
    config = compose((f"federation.nodes={len(answers)}", "generator=ridge"))
    nodes = tuple(grid.get_node_ids())
    roster = enlisted(config.federation, zoo.ids, nodes, "own-", backwards)
    layout = Layout((ModuleShape("query", 3, 2), ModuleShape("value", 1, 1)), 1, 1.0)
    return Federation(grid, nodes, config, layout, DIM, 0, lambda _: lambda *_: None, roster)


def confidence(of: Federation, zoo: Zoo) -> Confidence:
    generator = make_generator(of.config.generator)
    assert not is_federated(generator)
    generator.fit(zoo, 0)
    start = np.zeros(SIZE, np.float32)
    return calibrate(of, generator, zoo, start, start)[0]


def outcomes_for(ids: tuple[str, ...]) -> np.ndarray:
    """Made up, but always the same for an expert."""
    numbers = [int(name[-3:]) for name in ids]
    found = [[n % 2, 0.5 * (n % 3), 1 - n % 2] for n in numbers]
    return np.array(found, np.float32).reshape(-1, KINDS)


def honest(nodes: int, backwards: bool = False) -> dict[int, Answer]:
    def answer(number: int, request: CalibrateRequest) -> CalibrateReply:
        ids = tuple(reversed(request.ids) if backwards else request.ids)
        place = nodes - 1 - number if backwards else number
        return CalibrateReply(place, ids, outcomes_for(ids))

    return dict.fromkeys(range(nodes), answer)


def test_who_answers_where_and_in_which_order_changes_no_digit(
    zoo: Zoo, federation: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = confidence(federation(zoo, honest(1)), zoo)
    assert np.abs(expected.weights[1:]).max() > 0
    for nodes in (2, 12):
        for backwards in (False, True):
            found = confidence(federation(zoo, honest(nodes, backwards), backwards), zoo)
            np.testing.assert_array_equal(found.weights, expected.weights)
            np.testing.assert_array_equal(found.covariance, expected.covariance)
    monkeypatch.setattr(calibration, "EXPERTS_PER_MESSAGE", 4)
    found = confidence(federation(zoo, honest(2)), zoo)
    np.testing.assert_array_equal(found.weights, expected.weights)


def foreign(number: int, request: CalibrateRequest) -> CalibrateReply:
    return CalibrateReply(number, ("stranger",), np.ones((1, KINDS)))


def beyond_all(number: int, request: CalibrateRequest) -> CalibrateReply:
    return CalibrateReply(number, request.ids, np.full((len(request.ids), KINDS), 900.0))


def with_one_more(number: int, request: CalibrateRequest) -> CalibrateReply:
    return CalibrateReply(number, request.ids, np.ones((len(request.ids), KINDS + 1)))


def silent(number: int, request: CalibrateRequest) -> CalibrateReply:
    return CalibrateReply(number, (), np.empty((0, KINDS)))


@pytest.mark.parametrize(
    ("hostile", "reason"),
    [
        (foreign, "not asked"),
        (beyond_all, "an outcome is none of"),
        (with_one_more, "outcomes claims"),
    ],
)
def test_a_node_outside_the_protocol_is_left_out(
    zoo: Zoo, federation: Make, hostile: Answer, reason: str
) -> None:
    of = federation(zoo, {0: honest(2)[0], 1: hostile})
    found = confidence(of, zoo)
    assert len(of.refusals) == 1
    assert reason in of.refusals[0]
    without_it = confidence(federation(zoo, {0: honest(2)[0], 1: silent}), zoo)
    np.testing.assert_array_equal(found.weights, without_it.weights)


def test_what_some_judges_left_out_is_not_whole(zoo: Zoo, federation: Make) -> None:
    for answers, whole in ((honest(2), True), ({0: honest(2)[0], 1: silent}, False)):
        of = federation(zoo, answers)
        generator = make_generator(of.config.generator)
        assert not is_federated(generator)
        generator.fit(zoo, 0)
        start = np.zeros(SIZE, np.float32)
        assert calibrate(of, generator, zoo, start, start)[1] is whole


def test_no_comparison_at_all_is_an_error(zoo: Zoo, federation: Make) -> None:
    with pytest.raises(RepliesError, match="none of 9 experts"):
        confidence(federation(zoo, {0: silent}), zoo)


def test_one_expert_cannot_be_held_out(make_zoo: MakeZoo, federation: Make) -> None:
    never: dict[int, Answer] = {0: lambda n, _: pytest.fail("asked")}
    one, two = make_zoo(experts=1, dim=DIM, size=SIZE), make_zoo(experts=2, dim=DIM, size=SIZE)
    assert confidence(federation(one, never), one) is UNKNOWN
    assert np.isfinite(confidence(federation(two, honest(1)), two).weights).all()
