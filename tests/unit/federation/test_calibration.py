"""The messages of the calibration, and what the server makes of experts' answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pytest
from flwr.app import Array, Context, Message
from flwr.clientapp import ClientApp

from sglora_fed.config import compose
from sglora_fed.errors import MessageError, RepliesError
from sglora_fed.federation import calibration
from sglora_fed.federation.calibration import (
    CALIBRATE,
    UNKNOWN,
    CalibrateReply,
    CalibrateRequest,
    calibrate,
)
from sglora_fed.federation.coordinator import Federation
from sglora_fed.federation.inprocess import InProcessGrid
from sglora_fed.generators import make_generator
from sglora_fed.generators.confidence import Confidence
from sglora_fed.zoo import Zoo

MakeZoo = Callable[..., Zoo]
Answer = Callable[[int, CalibrateRequest], CalibrateReply]

SIZE, KINDS = 7, 3
IDS = ("a", "b-1")


def asked(**changes: object) -> CalibrateRequest:
    adapters = np.arange(2 * KINDS * SIZE, dtype=np.float16).reshape(2, KINDS, SIZE)
    request = CalibrateRequest(3, IDS, adapters, np.ones(SIZE, np.float16))
    return dataclasses.replace(request, **changes)


def answered(**changes: object) -> CalibrateReply:
    reply = CalibrateReply(1, IDS, np.array([[0.0, 0.25, -1.0], [1.0, 0.75, 0.5]]))
    return dataclasses.replace(reply, **changes)


def test_round_trips() -> None:
    read = CalibrateRequest.parse(asked().pack(), SIZE)
    assert (read.seed, read.ids) == (3, IDS)
    np.testing.assert_array_equal(read.adapters, asked().adapters)
    np.testing.assert_array_equal(read.fallback, asked().fallback)
    reply = CalibrateReply.parse(answered().pack())
    assert (reply.partition, reply.ids) == (1, IDS)
    np.testing.assert_array_equal(reply.gains, answered().gains)


def test_a_node_without_experts_has_an_answer_too() -> None:
    reply = CalibrateReply(0, (), np.empty((0, KINDS)))
    assert CalibrateReply.parse(reply.pack()).gains.shape == (0, KINDS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gains": np.full((2, KINDS), 1.01)}, r"a gain is 1.01; must lie in \[-1, 1\]"),
        ({"gains": np.full((2, KINDS), -7.0)}, "a gain is 7"),
        ({"gains": np.full((2, KINDS), np.nan)}, "NaN"),
        ({"gains": np.full((2, KINDS), np.inf)}, "infinity"),
        ({"gains": np.zeros((1, KINDS))}, "gains"),
        ({"ids": ("a", "a")}, "twice"),
        ({"ids": ("a", "call my sister")}, "identifier"),
        ({"partition": -1}, "partition"),
    ],
)
def test_a_wrong_answer_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(MessageError, match=words):
        CalibrateReply.parse(answered(**changes).pack())


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


def test_what_leaves_a_node_is_ids_and_gains() -> None:
    body = answered().pack()
    assert set(body["fields"]) == {"partition", "ids"}
    assert set(body["arrays"]) == {"gains"}


# The server's part, with nodes that answer as they are told.


@pytest.fixture
def zoo(make_zoo: MakeZoo) -> Zoo:
    return make_zoo(experts=9, size=SIZE, wordings=3)


def federation(answers: Mapping[int, Answer], min_replies: float = 1.0) -> Federation:
    """Nodes, each with its way to answer."""
    app = ClientApp()

    @app.evaluate("calibrate")
    def answer(message: Message, context: Context) -> Message:
        number = int(context.node_config["partition-id"])
        request = CalibrateRequest.parse(message.content, SIZE)
        return Message(answers[number](number, request).pack(), reply_to=message)

    grid = InProcessGrid(app, len(answers), {})
    told = (f"federation.nodes={len(answers)}", f"federation.min_replies={min_replies}")
    nodes = tuple(grid.get_node_ids())
    return Federation(grid, nodes, compose(told).federation, 6, SIZE, 1e6)


def confidence(of: Federation, zoo: Zoo) -> Confidence:
    config = compose(["generator=ridge"]).generator
    generator = make_generator(config)
    generator.fit(zoo, 0)
    fallback = np.zeros(SIZE, np.float32)
    strange = np.eye(zoo.wordings.shape[2], dtype=np.float32)[:2]
    never = partial(pytest.fail, "trained")
    return calibrate(of, generator, config, zoo, fallback, strange, never, 0, lambda *_: None)


def share(zoo: Zoo, number: int, nodes: int) -> tuple[str, ...]:
    return zoo.ids[number::nodes]


def gains_for(ids: tuple[str, ...]) -> np.ndarray:
    """Made up, but always the same for an expert."""
    numbers = [int(name[1:]) for name in ids]
    return np.array([[n % 2, 0.25 * (n % 3), -0.5 * (n % 2)] for n in numbers])


def honest(zoo: Zoo, nodes: int, backwards: bool = False) -> dict[int, Answer]:
    def answer(number: int, request: CalibrateRequest) -> CalibrateReply:
        mine = [name for name in request.ids if name in share(zoo, number, nodes)]
        ids = tuple(reversed(mine) if backwards else mine)
        place = nodes - 1 - number if backwards else number
        return CalibrateReply(place, ids, gains_for(ids).reshape(-1, KINDS))

    return dict.fromkeys(range(nodes), answer)


def test_who_answers_where_and_in_which_order_changes_no_digit(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = confidence(federation(honest(zoo, 1)), zoo)
    assert np.abs(expected.weights[1:]).max() > 0
    for nodes in (2, 12):
        for backwards in (False, True):
            found = confidence(federation(honest(zoo, nodes, backwards)), zoo)
            np.testing.assert_array_equal(found.weights, expected.weights)
            np.testing.assert_array_equal(found.covariance, expected.covariance)
    monkeypatch.setattr(calibration, "EXPERTS_PER_MESSAGE", 4)
    found = confidence(federation(honest(zoo, 2)), zoo)
    np.testing.assert_array_equal(found.weights, expected.weights)


def foreign(number: int, request: CalibrateRequest) -> CalibrateReply:
    return CalibrateReply(number, ("stranger",), np.ones((1, KINDS)))


def not_its_own(number: int, request: CalibrateRequest) -> CalibrateReply:
    return CalibrateReply(number, request.ids, np.ones((len(request.ids), KINDS)))


def beyond_all(number: int, request: CalibrateRequest) -> CalibrateReply:
    ids = request.ids[number::2]
    return CalibrateReply(number, ids, np.full((len(ids), KINDS), 900.0))


def with_one_more(number: int, request: CalibrateRequest) -> CalibrateReply:
    ids = request.ids[number::2]
    return CalibrateReply(number, ids, np.ones((len(ids), KINDS + 1)))


@pytest.mark.parametrize(
    ("hostile", "reason"),
    [
        (foreign, "not asked"),
        (not_its_own, "came twice"),
        (beyond_all, "a gain is 900"),
        (with_one_more, "3 were asked for"),
    ],
)
def test_a_node_outside_the_protocol_is_left_out_if_the_others_are_enough(
    zoo: Zoo, hostile: Answer, reason: str
) -> None:
    answers = {0: honest(zoo, 2)[0], 1: hostile}
    with pytest.raises(RepliesError, match=f"{CALIBRATE}: 1 usable replies of 2.*{reason}"):
        confidence(federation(answers), zoo)
    lenient = federation(answers, min_replies=0.5)
    found = confidence(lenient, zoo)
    assert len(lenient.refusals) == 1
    silent = {0: honest(zoo, 2)[0], 1: lambda n, _: CalibrateReply(n, (), np.empty((0, KINDS)))}
    without_it = confidence(federation(silent), zoo)
    np.testing.assert_array_equal(found.weights, without_it.weights)


def test_no_comparison_at_all_is_an_error(zoo: Zoo) -> None:
    silent: dict[int, Answer] = {0: lambda n, _: CalibrateReply(n, (), np.empty((0, KINDS)))}
    with pytest.raises(RepliesError, match="none of 9 experts"):
        confidence(federation(silent), zoo)


def test_one_expert_cannot_be_held_out(make_zoo: MakeZoo) -> None:
    never: dict[int, Answer] = {0: lambda n, _: pytest.fail("asked")}
    assert confidence(federation(never), make_zoo(experts=1, size=SIZE)) is UNKNOWN
    two = make_zoo(experts=2, size=SIZE)
    assert np.isfinite(confidence(federation(honest(two, 1)), two).weights).all()
