"""What claims to be an array is read without being believed."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from flwr.app import Array, ConfigRecord
from flwr.supercore.inflatable import inflatable_object
from hypothesis import given, settings
from hypothesis import strategies as st

from sglora_fed.errors import MessageError
from sglora_fed.federation.codec import Reader, pack, wire_bytes

NUMBERS = np.arange(7.0)


def reader(data: bytes) -> Reader:
    """Of a body whose array says float64 [7] and holds some bytes."""
    body = pack({}, {"numbers": NUMBERS})
    honest = body["arrays"]["numbers"]
    body["arrays"]["numbers"] = Array("float64", (7,), honest.stype, data)
    return Reader(body)


def test_records_and_fields_that_nobody_asked_for_are_not_read() -> None:
    body = pack({"seed": 1, "other": 2}, {"numbers": NUMBERS, "more": NUMBERS})
    body["third"] = ConfigRecord({"x": 1})
    read = Reader(body)
    assert read.integer("seed", 0, 5) == 1
    np.testing.assert_array_equal(read.array("numbers", "float64", (7,)), NUMBERS)


@pytest.mark.parametrize("shape", [(7.0,), (True,), ("7",), (None,)])
def test_a_shape_that_is_no_whole_number_is_refused(shape: tuple[object]) -> None:
    """Flower reads it from JSON; 7.0 == 7, but nothing has 7.0 rows."""
    body = pack({}, {"numbers": NUMBERS[: 1 if shape == (True,) else 7]})
    body["arrays"]["numbers"].shape = shape
    with pytest.raises(MessageError, match="whole numbers"):
        Reader(body).array("numbers", "float64", (None,))


def test_what_is_no_array_among_arrays_is_refused() -> None:
    body = pack({}, {"numbers": NUMBERS})
    dict.__setitem__(body["arrays"]._data, "numbers", ConfigRecord({"x": 1}))
    with pytest.raises(MessageError, match="numbers is no array"):
        Reader(body).array("numbers", "float64", (7,))


def test_identifiers_that_differ_in_case_are_two() -> None:
    body = pack({"ids": ["a", "A"]}, {})
    assert Reader(body).identifiers("ids", 2) == ("a", "A")


def test_every_half_precision_number_but_nan_and_infinity_passes() -> None:
    every = np.arange(2**16).astype(np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]
    read = Reader(pack({}, {"numbers": finite}))
    np.testing.assert_array_equal(read.array("numbers", "float16", (None,)), finite)
    for number in every[~np.isfinite(every)]:
        spoilt = Reader(pack({}, {"numbers": np.array([0, number, 1], np.float16)}))
        with pytest.raises(MessageError, match="NaN or infinity"):
            spoilt.array("numbers", "float16", (3,))


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int64", "uint16", "uint64"])
@pytest.mark.parametrize("shape", [(3, 4), (0, 5), (6, 1), (2, 1, 3), ()])
def test_an_array_is_packed_as_flower_packs_it(kind: str, shape: tuple[int, ...]) -> None:
    numbers = np.arange(np.prod(shape, dtype=int)).astype(kind).reshape(shape)
    for array in (numbers, numbers.T):
        packed = pack({}, {"numbers": array})["arrays"]["numbers"]
        own = Array(np.ascontiguousarray(array))
        assert (packed.dtype, packed.shape, packed.stype) == (own.dtype, own.shape, own.stype)
        assert packed.data == own.data


def npy(descr: str = "'<f8'", order: str = "False", shape: str = "(7,)") -> bytes:
    """Bytes in NumPy's format, version 1.0, with a header of one's own."""
    header = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"
    line = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(line).to_bytes(2, "little") + line + NUMBERS.tobytes()


def test_the_honest_form_of_these_bytes_is_read() -> None:
    np.testing.assert_array_equal(reader(npy()).array("numbers", "float64", (7,)), NUMBERS)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        npy()[:60],
        npy()[:-1],
        npy() + b"\0",
        npy(shape="(10000000000000,)"),
        npy(shape=f"({10**30},)"),
        npy(shape="(-7,)"),
        npy(shape="(7, 1)"),
        npy(shape="((((("),
        npy(order="True", shape="(1, 7)"),
        npy(descr="'>f8'"),
        npy(descr="'O'"),
        npy(descr="'''<f8"),
        npy(descr="[('a', '<f8')]"),
        npy(descr="{'a': 1}"),
        npy().replace(b"\x01\x00", b"\x03\x00", 1),
        b"PK\x03\x04" + bytes(60),
        npy(descr="('<f8',)"),
        npy(descr="()"),
        npy(order="b'', b'': 1"),
    ],
)
def test_whatever_else_they_claim_is_refused(data: bytes) -> None:
    with pytest.raises(MessageError, match="numbers"):
        reader(data).array("numbers", "float64", (7,))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=8), st.integers(0, len(npy())))
def test_bytes_that_changed_on_the_way_give_numbers_or_a_refusal(new: bytes, at: int) -> None:
    data = npy()[:at] + new + npy()[at + len(new) :]
    try:
        array = reader(data).array("numbers", "float64", (7,))
    except MessageError:
        return
    assert (array.dtype, array.shape) == (np.dtype("float64"), (7,))
    assert np.isfinite(array).all()


def test_a_claim_of_much_memory_takes_none() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(MessageError):
            reader(npy(shape="(100000000,)")).array("numbers", "float64", (7,))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_bytes_on_the_wire_are_those_of_the_body_as_it_is_now() -> None:
    body = pack({"seed": 1}, {"numbers": NUMBERS})
    before = wire_bytes(body)
    assert before > NUMBERS.nbytes
    body["fields"]["more"] = "x" * 1000
    assert before + 1000 < wire_bytes(body) < before + 1100


def test_every_object_is_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[bytes] = []
    plain = inflatable_object.get_object_id

    def counted(content: bytes) -> str:
        hashed.append(content)
        return plain(content)

    monkeypatch.setattr(inflatable_object, "get_object_id", counted)
    body = pack({"seed": 1}, {"numbers": NUMBERS, "others": NUMBERS + 1})
    assert wire_bytes(body) == sum(map(len, hashed))
    assert len(set(hashed)) == len(hashed) > 4
