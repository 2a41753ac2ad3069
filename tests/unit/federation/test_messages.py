"""Messages survive the wire format, and whatever is not agreed is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from sglora_fed.errors import MessageError
from sglora_fed.federation.codec import pack
from sglora_fed.federation.functional import RoundReply, RoundRequest
from sglora_fed.federation.messages import (
    WORDINGS,
    AdoptReply,
    AdoptRequest,
    DescribeReply,
    DescribeRequest,
    ExpertReply,
    SharedReply,
    TrainRequest,
)
from sglora_fed.generators.functional import LinearGenerator

DIM, SIZE = 5, 7
IDS = ("a", "b-1")


def unit(rows: int) -> np.ndarray:
    values = np.random.default_rng(0).normal(size=(rows, DIM))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def expert_wordings() -> np.ndarray:
    return unit(2 * WORDINGS).reshape(2, WORDINGS, DIM)


def expert_reply(**changes: object) -> ExpertReply:
    reply = ExpertReply(
        partition=1,
        ids=IDS,
        wordings=expert_wordings(),
        means=np.arange(2 * SIZE, dtype=np.float32).reshape(2, SIZE),
        variances=np.ones((2, SIZE), np.float32),
        examples=np.array([3, 4]),
        remaining=0,
    )
    return dataclasses.replace(reply, **changes)


def adopt_request() -> AdoptRequest:
    return AdoptRequest(
        seed=3,
        ids=IDS,
        methods=("topk", "ridge", "sglora"),
        adapters=np.arange(2 * 3 * SIZE, dtype=np.float16).reshape(2, 3, SIZE),
        confidence=np.array([0.25, 0.75], np.float32),
        common_methods=("soup",),
        common=np.ones((1, SIZE), np.float16),
    )


def adopt_reply(**changes: object) -> AdoptReply:
    reply = AdoptReply(
        partition=0,
        ids=IDS,
        splits=("combo", "combo"),
        methods=("topk", "soup"),
        metrics=("accuracy",),
        values=np.full((2, 2, 1), 0.5),
        seconds=np.array([0.1, 0.2]),
    )
    return dataclasses.replace(reply, **changes)


def same(left: object, right: object) -> None:
    for field in dataclasses.fields(left):  # type: ignore[arg-type]
        one, two = getattr(left, field.name), getattr(right, field.name)
        if isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, two)
        else:
            assert one == two, field.name


def test_round_trips() -> None:
    same(expert_reply(), ExpertReply.parse(expert_reply().pack(), DIM, SIZE))
    same(adopt_request(), AdoptRequest.parse(adopt_request().pack(), SIZE))
    same(adopt_reply(), AdoptReply.parse(adopt_reply().pack()))
    same(DescribeRequest(9), DescribeRequest.parse(DescribeRequest(9).pack()))
    described = DescribeReply(1, IDS, unit(2))
    same(described, DescribeReply.parse(described.pack(), DIM))
    shared = SharedReply(0, np.linspace(0, 1, SIZE), 12)
    same(shared, SharedReply.parse(shared.pack(), SIZE))
    for start in (None, np.zeros(SIZE, np.float32)):
        request = TrainRequest(1, IDS, 4, 2, start)
        same(request, TrainRequest.parse(request.pack(), SIZE))


def test_an_empty_node_is_a_valid_reply() -> None:
    described = DescribeReply(1, (), np.empty((0, DIM), np.float32))
    assert DescribeReply.parse(described.pack(), DIM).ids == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"wordings": expert_wordings() * 2}, "norm"),
        ({"wordings": expert_wordings()[:, 1:]}, "wordings"),
        ({"means": np.full((2, SIZE), np.nan, np.float32)}, "NaN"),
        ({"means": np.full((2, SIZE), np.inf, np.float32)}, "infinity"),
        ({"means": np.zeros((2, SIZE + 1), np.float32)}, "means"),
        ({"means": np.zeros((3, SIZE), np.float32)}, "means"),
        ({"variances": np.full((2, SIZE), -1, np.float32)}, "negative"),
        ({"examples": np.array([0, 1])}, "examples"),
        ({"ids": ("a", "a")}, "twice"),
        ({"ids": ("a", "../b")}, "identifier"),
        ({"remaining": -1}, "remaining"),
        ({"partition": -1}, "partition"),
    ],
)
def test_a_wrong_expert_reply_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(MessageError, match=words):
        ExpertReply.parse(expert_reply(**changes).pack(), DIM, SIZE)


@pytest.mark.parametrize(
    "changes",
    [
        {"values": np.full((2, 2, 1), 1.5)},
        {"values": np.full((2, 2, 1), np.nan)},
        {"values": np.full((2, 1, 1), 0.5)},
        {"splits": ("combo",)},
        {"seconds": np.array([-1.0, 0.0])},
        {"methods": ("topk", "topk")},
    ],
)
def test_a_wrong_measurement_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(MessageError):
        AdoptReply.parse(adopt_reply(**changes).pack())


def test_single_precision_adapters_are_refused() -> None:
    body = adopt_request().pack()
    body["arrays"]["adapters"] = Array(np.zeros((2, 3, SIZE), np.float32))
    with pytest.raises(MessageError, match="float16"):
        AdoptRequest.parse(body, SIZE)


def test_an_array_that_lies_about_its_shape_is_refused() -> None:
    body = SharedReply(0, np.zeros(SIZE), 1).pack()
    honest = body["arrays"]["total"]
    lying = Array(dtype="float64", shape=(SIZE,), stype=honest.stype, data=b"garbage")
    body["arrays"]["total"] = lying
    with pytest.raises(MessageError, match="decoded"):
        SharedReply.parse(body, SIZE)


def test_a_pickled_array_is_refused() -> None:
    import io

    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}] * SIZE, object), allow_pickle=True)
    body = SharedReply(0, np.zeros(SIZE), 1).pack()
    stype = body["arrays"]["total"].stype
    body["arrays"]["total"] = Array("float64", (SIZE,), stype, buffer.getvalue())
    with pytest.raises(MessageError):
        SharedReply.parse(body, SIZE)


def test_a_body_without_the_agreed_records_is_refused() -> None:
    with pytest.raises(MessageError, match="fields"):
        DescribeRequest.parse(RecordDict({"x": ConfigRecord({"seed": 1})}))


values = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=True),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.booleans(),
    st.lists(st.integers(-5, 5), max_size=3),
    st.lists(st.text(max_size=3), max_size=3),
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(["seed", "known", "limit", "round", "shared"]), values))
def test_random_fields_never_raise_anything_else(fields: dict[str, object]) -> None:
    body = RecordDict({"fields": ConfigRecord(fields), "arrays": ArrayRecord({})})  # type: ignore[arg-type]
    try:
        TrainRequest.parse(body, SIZE)
    except MessageError:
        return
    # Only a complete, well-typed request may pass.
    assert set(fields) == {"seed", "known", "limit", "round", "shared"}


def test_what_travels_holds_no_text_of_a_user() -> None:
    fields = DescribeReply(1, IDS, unit(2)).pack()["fields"]
    assert set(fields) == {"partition", "ids"}


def test_a_request_needs_less_than_two_kilobytes() -> None:
    embeddings = np.zeros((1, 384), np.float32)
    embeddings[0, 0] = 1
    body = DescribeReply(1, ("new_rule-001",), embeddings).pack()
    assert sum(len(array.data) for array in body["arrays"].values()) < 2048


def test_pack_keeps_names() -> None:
    body = pack({"a": 1}, {"b": np.zeros(2)})
    assert list(body["fields"]) == ["a"]
    assert list(body["arrays"]) == ["b"]


def round_request() -> RoundRequest:
    random = np.random.default_rng(3)
    shapes = ((DIM,), (DIM, 2), (2, SIZE), (SIZE,))
    return RoundRequest(1, 2, IDS, LinearGenerator(*(random.normal(size=s) for s in shapes)))


def test_a_generator_travels_in_half_precision_to_the_same_adapters() -> None:
    request = round_request()
    read = RoundRequest.parse(request.pack(), DIM, SIZE)
    assert (read.seed, read.round, read.experts) == (1, 2, IDS)
    wanted = request.generator.adapters(unit(4))
    np.testing.assert_allclose(read.generator.adapters(unit(4)), wanted, atol=0.02)


@pytest.mark.parametrize("name", ["centre", "map", "basis", "offset"])
def test_a_generator_of_another_shape_or_with_nan_is_refused(name: str) -> None:
    for spoil in (lambda a: np.append(a, a[-1:], axis=0), lambda a: np.full_like(a, np.nan)):
        body = round_request().pack()
        array = body["arrays"][name].numpy()
        body["arrays"][name] = Array(spoil(array))
        with pytest.raises(MessageError, match=r"map|basis|centre|offset"):
            RoundRequest.parse(body, DIM, SIZE)


@pytest.mark.parametrize(
    "updates",
    [
        np.zeros((2, SIZE + 1), np.float16),
        np.zeros((1, SIZE), np.float16),
        np.full((2, SIZE), np.inf, np.float16),
        np.full((2, SIZE), np.nan, np.float16),
        np.zeros((2, SIZE), np.float64),
    ],
)
def test_garbage_updates_are_refused(updates: np.ndarray) -> None:
    body = pack({"partition": 0, "ids": list(IDS)}, {"updates": updates})
    with pytest.raises(MessageError, match="updates"):
        RoundReply.parse(body, SIZE)


def test_no_update_is_an_answer_too() -> None:
    reply = RoundReply(1, (), np.empty((0, SIZE), np.float16))
    assert RoundReply.parse(reply.pack(), SIZE).updates.shape == (0, SIZE)
