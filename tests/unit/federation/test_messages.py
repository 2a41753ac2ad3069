"""Messages survive the wire format, and whatever is not agreed is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from sglora_fed.errors import MessageError
from sglora_fed.federation.adopt import AdoptReply, AdoptRequest
from sglora_fed.federation.codec import MOST_CLIENTS, pack, wire_bytes
from sglora_fed.federation.comparison import CompareReply, CompareRequest
from sglora_fed.federation.describe import DescribeReply, DescribeRequest
from sglora_fed.federation.enrol import EnrolReply, EnrolRequest
from sglora_fed.federation.rounds import RoundReply, RoundRequest
from sglora_fed.federation.shared import SharedReply, SharedRequest
from sglora_fed.federation.terms import in_clear
from sglora_fed.federation.wordings import WORDINGS
from sglora_fed.privacy.mechanisms.shares import Answers

DIM, SIZE, METHODS = 5, 7, 2
IDS = ("a", "b-1")
CLEAR = in_clear(DIM)


def unit(rows: int) -> np.ndarray:
    values = np.random.default_rng(0).normal(size=(rows, DIM))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def expert_wordings() -> np.ndarray:
    return unit(2 * WORDINGS).reshape(2, WORDINGS, DIM)


def enrol_reply(**changes: object) -> EnrolReply:
    reply = EnrolReply(
        partition=1,
        ids=(*IDS, "c"),
        task_digests=("1" * 64, "2" * 64, "3" * 64),
        trained=IDS,
        wordings=expert_wordings(),
        means=np.arange(2 * SIZE, dtype=np.float32).reshape(2, SIZE),
        variances=np.ones((2, SIZE), np.float32),
        examples=np.array([3, 4]),
        kind="retrieval",
    )
    return dataclasses.replace(reply, **changes)


def compare_request(**changes: object) -> CompareRequest:
    request = CompareRequest(
        seed=3,
        ids=IDS,
        methods=("topk", "oracle", "soup", "ridge", "policy"),
        made=("topk", "ridge"),
        adapters=np.arange(2 * 2 * SIZE, dtype=np.float16).reshape(2, 2, SIZE),
        common=("soup",),
        shared=np.ones((1, SIZE), np.float16),
        confidence=np.array([0.25, 0.75], np.float32),
    )
    return dataclasses.replace(request, **changes)


def compare_reply(**changes: object) -> CompareReply:
    reply = CompareReply(
        partition=0,
        ids=IDS,
        splits=("combo", "combo"),
        metrics=("accuracy",),
        values=np.full((2, METHODS, 1), 0.5),
        seconds=np.array([0.1, 0.2]),
        trust=np.array([[0.25, 0], [1, 1]], np.float32),
        peak_mb=512,
    )
    return dataclasses.replace(reply, **changes)


def parsed(reply: CompareReply) -> CompareReply:
    return CompareReply.parse(reply.pack(), METHODS, longest=60.0, judged=True)


def same(left: object, right: object) -> None:
    for field in dataclasses.fields(left):  # type: ignore[arg-type]
        one, two = getattr(left, field.name), getattr(right, field.name)
        if isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, two)
        else:
            assert one == two, field.name


def test_round_trips() -> None:
    same(enrol_reply(), EnrolReply.parse(enrol_reply().pack(), DIM, SIZE))
    same(EnrolRequest(1, IDS, 4), EnrolRequest.parse(EnrolRequest(1, IDS, 4).pack()))
    same(compare_request(), CompareRequest.parse(compare_request().pack(), SIZE))
    same(compare_reply(), parsed(compare_reply()))
    for some in (DescribeRequest(9), DescribeRequest(9, ids=IDS, most=3)):
        same(some, DescribeRequest.parse(some.pack()))
    asked = SharedRequest(1, 2, IDS, np.linspace(0, 1, SIZE).astype(np.float32))
    same(asked, SharedRequest.parse(asked.pack(), SIZE))
    shared = SharedReply(0, IDS, np.linspace(0, 1, SIZE))
    same(shared, SharedReply.parse(shared.pack(), SIZE))
    starts = RoundRequest(1, 2, IDS, np.arange(2 * SIZE, dtype=np.float16).reshape(2, SIZE))
    same(starts, RoundRequest.parse(starts.pack(), SIZE))
    adopted = AdoptRequest(IDS, np.arange(2 * SIZE, dtype=np.float16).reshape(2, SIZE))
    same(adopted, AdoptRequest.parse(adopted.pack(), SIZE))
    told = dataclasses.replace(
        adopted, made_by="a" * 64, confidence=np.array([0.25, 1], np.float32)
    )
    same(told, AdoptRequest.parse(told.pack(), SIZE))
    for wrong in ([0.5], [0.5, 1.5], [-0.1, 0.5]):
        bad = dataclasses.replace(told, confidence=np.array(wrong, np.float32))
        with pytest.raises(MessageError):
            AdoptRequest.parse(bad.pack(), SIZE)
    same(AdoptReply(1, IDS), AdoptReply.parse(AdoptReply(1, IDS).pack()))


def test_a_request_travels_in_half_precision_and_stays_a_direction() -> None:
    read = DescribeReply.parse(DescribeReply(1, IDS, unit(2)).pack(), CLEAR)
    assert (read.partition, read.ids) == (1, IDS)
    np.testing.assert_allclose(read.released, unit(2), atol=2**-11)


@pytest.mark.parametrize(
    "changes",
    [{"most": 0}, {"most": MOST_CLIENTS + 1}, {"ids": ("a", "a")}, {"ids": ("../b",)}],
)
def test_impossible_clients_are_not_asked(changes: dict[str, object]) -> None:
    asked = dataclasses.replace(DescribeRequest(9), **changes)  # type: ignore[arg-type]
    with pytest.raises(MessageError):
        DescribeRequest.parse(asked.pack())


def test_who_has_more_clients_than_are_wanted_at_once_names_them_alone() -> None:
    every, names = DescribeReply(1, IDS, unit(2)), DescribeReply(1, IDS, unit(0))
    assert DescribeReply.parse(names.pack(), CLEAR, most=1).ids == IDS
    assert len(DescribeReply.parse(every.pack(), CLEAR, most=2).released) == 2
    for reply, most in ((every, 1), (names, 2)):
        with pytest.raises(MessageError, match="claims"):
            DescribeReply.parse(reply.pack(), CLEAR, most)


def answers_for(clients: int, servers: int, entries: int, size: int) -> Answers:
    rng = np.random.default_rng(0)
    own = rng.integers(2**64, size=(2, 2, SIZE), dtype=np.uint64)
    sums = rng.integers(2**16, size=(clients, servers, entries, size), dtype=np.uint16)
    return Answers(own, sums)


@pytest.mark.parametrize("entries", [0, 3])
def test_two_servers_answers_arrive_bit_by_bit(entries: int) -> None:
    sent = answers_for(2, 2, entries, SIZE)
    none = np.empty((2, 0, SIZE), np.float16)
    for read in (
        AdoptRequest.parse(AdoptRequest(IDS, none[0], shares=sent).pack(), SIZE),
        CompareRequest.parse(compare_request(made=(), adapters=none, shares=sent).pack(), SIZE),
    ):
        assert read.shares is not None
        np.testing.assert_array_equal(read.shares.own, sent.own)
        np.testing.assert_array_equal(read.shares.entries, sent.entries)


@pytest.mark.parametrize("shape", [(1, 2, 3, SIZE), (2, 3, 3, SIZE), (2, 2, 3, SIZE + 1)])
def test_answers_of_another_shape_are_refused(shape: tuple[int, int, int, int]) -> None:
    sent = AdoptRequest(IDS, np.empty((0, SIZE), np.float16), shares=answers_for(*shape))
    with pytest.raises(MessageError, match="entries claims"):
        AdoptRequest.parse(sent.pack(), SIZE)


def test_an_empty_node_is_a_valid_reply() -> None:
    described = DescribeReply(1, (), np.empty((0, DIM), np.float32))
    assert DescribeReply.parse(described.pack(), CLEAR).ids == ()
    empty = np.empty((0, SIZE), np.float32)
    nobody = EnrolReply(
        *(1, (), (), (), np.empty((0, WORDINGS, DIM), np.float32)),
        *(empty, empty, np.empty(0, np.int64), "labelled"),
    )
    assert EnrolReply.parse(nobody.pack(), DIM, SIZE).ids == ()


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
        ({"trained": ("a", "a")}, "twice"),
        ({"task_digests": ("1", "2", "three words here")}, "identifier"),
        ({"partition": -1}, "partition"),
    ],
)
def test_a_wrong_expert_reply_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(MessageError, match=words):
        EnrolReply.parse(enrol_reply(**changes).pack(), DIM, SIZE)


def test_places_of_a_list_take_the_wordings_place() -> None:
    sent = enrol_reply(wordings=np.array([[4], [0]], np.uint16))
    same(sent, EnrolReply.parse(sent.pack(), DIM, SIZE, 5))
    for other in (EnrolRequest(3, ("a",), 2, "f" * 64), EnrolRequest(3, ("a",), 2)):
        assert EnrolRequest.parse(other.pack()) == other


@pytest.mark.parametrize(
    ("wordings", "entries", "words"),
    [
        (np.array([[5], [0]], np.uint16), 5, "beyond the 5"),
        (np.array([[1, 2], [0, 1]], np.uint16), 5, "places"),
        (np.array([[1]], np.uint16), 5, "places"),
        (np.array([[1], [0]], np.uint16), 0, "'wordings' is missing"),
        (expert_wordings(), 5, "'places' is missing"),
    ],
)
def test_words_where_places_are_due_and_the_other_way_round(
    wordings: np.ndarray, entries: int, words: str
) -> None:
    sent = enrol_reply(wordings=wordings)
    with pytest.raises(MessageError, match=words):
        EnrolReply.parse(sent.pack(), DIM, SIZE, entries)


@pytest.mark.parametrize(
    ("request_", "changes", "words"),
    [
        (EnrolRequest(0, (), 2), {"task_digests": ("1", "2")}, "2 task hashes of 3"),
        (EnrolRequest(0, (), 1), {}, "2 experts, of which 0 were not asked for; at most 1"),
        (EnrolRequest(0, ("a",), 2), {}, "of which 1 were not asked"),
        (EnrolRequest(0, (), 2), {"trained": ("a", "x")}, "of which 1 were not asked"),
        # An inventory alone is what limit 0 asks for; else the server would ask for ever, or long.
        (EnrolRequest(0, ("a",), 2), {"trained": ()}, "0 experts came where 2 were due"),
        (EnrolRequest(0, (), 3), {}, "2 experts came where 3 were due"),
    ],
)
def test_what_was_not_asked_for_is_refused(
    request_: EnrolRequest, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(MessageError, match=words):
        enrol_reply(**changes).answering(request_)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"values": np.full((2, 2, 1), 1.5)}, "outside"),
        ({"peak_mb": -1}, "peak_mb is -1"),
        ({"peak_mb": 2**31}, "peak_mb"),
        ({"values": np.full((2, 2, 1), np.nan)}, "NaN"),
        ({"values": np.full((2, 1, 1), 0.5)}, "values"),
        # Results of a method that nobody asked for, or of one less.
        ({"values": np.full((2, 3, 1), 0.5)}, "values"),
        ({"splits": ("combo",)}, "1 splits for 2"),
        ({"seconds": np.array([-1.0, 0.0])}, "a time"),
        # Its mean over clients would be infinite, and no summary could be written.
        ({"seconds": np.array([1e308, 0.0])}, "a time"),
        ({"metrics": ("luck",)}, "no task's"),
        ({"metrics": (), "values": np.empty((2, 2, 0))}, "0 metrics"),
        ({"metrics": ("i2t_r1",)}, "1 metrics"),
    ],
)
def test_a_wrong_measurement_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(MessageError, match=words):
        parsed(compare_reply(**changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"made": ("topk", "luck")}, "1 methods that are not to be measured"),
        ({"confidence": np.array([0.5, 1.1], np.float32)}, "outside"),
        ({"confidence": np.array([0.5], np.float32)}, "confidence"),
        ({"methods": ("topk", "ridge", "soup")}, "confidence"),
    ],
)
def test_a_wrong_delivery_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(MessageError, match=words):
        CompareRequest.parse(compare_request(**changes).pack(), SIZE)


def test_single_precision_adapters_are_refused() -> None:
    body = compare_request().pack()
    body["arrays"]["adapters"] = Array(np.zeros((2, 2, SIZE), np.float32))
    with pytest.raises(MessageError, match="float16"):
        CompareRequest.parse(body, SIZE)


def test_an_array_that_lies_about_its_shape_is_refused() -> None:
    body = SharedReply(0, IDS, np.zeros(SIZE)).pack()
    honest = body["arrays"]["mean"]
    lying = Array(dtype="float64", shape=(SIZE,), stype=honest.stype, data=b"garbage")
    body["arrays"]["mean"] = lying
    with pytest.raises(MessageError, match="decoded"):
        SharedReply.parse(body, SIZE)


def test_a_pickled_array_is_refused() -> None:
    import io

    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}] * SIZE, object), allow_pickle=True)
    body = SharedReply(0, IDS, np.zeros(SIZE)).pack()
    stype = body["arrays"]["mean"].stype
    body["arrays"]["mean"] = Array("float64", (SIZE,), stype, buffer.getvalue())
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
@given(st.dictionaries(st.sampled_from(["seed", "known", "limit"]), values))
def test_random_fields_never_raise_anything_else(fields: dict[str, object]) -> None:
    body = RecordDict({"fields": ConfigRecord(fields), "arrays": ArrayRecord({})})  # type: ignore[arg-type]
    try:
        EnrolRequest.parse(body)
    except MessageError:
        return
    # Only a complete, well-typed request may pass.
    assert set(fields) == {"seed", "known", "limit"}


def test_what_travels_holds_no_text_of_a_user() -> None:
    fields = DescribeReply(1, IDS, unit(2)).pack()["fields"]
    assert set(fields) == {"partition", "ids"}


def test_a_request_needs_less_than_two_kilobytes() -> None:
    embeddings = np.zeros((1, 384), np.float32)
    embeddings[0, 0] = 1
    body = DescribeReply(1, ("new_rule-001",), embeddings).pack()
    assert wire_bytes(body) < 2048


def test_pack_keeps_names() -> None:
    body = pack({"a": 1}, {"b": np.zeros(2)})
    assert list(body["fields"]) == ["a"]
    assert list(body["arrays"]) == ["b"]


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
