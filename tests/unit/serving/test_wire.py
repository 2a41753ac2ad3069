"""Requests and replies: what is packed is read again, all else is refused without a word of it."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from sglora_fed.adapters.layout import Layout, ModuleShape
from sglora_fed.adapters.start import norm_bound
from sglora_fed.errors import ReplyError, RequestError
from sglora_fed.privacy.mechanisms.base import embedding_form, index_form
from sglora_fed.serving.wire import (
    JSON,
    LONGEST_BODY,
    SAFETENSORS,
    Accepted,
    AdapterRequest,
    as_json,
    pack_reply,
    parse_reply,
    parse_request,
    reply_bytes,
)

DIM, CATALOGUE = 384, "c" * 64
ACCEPTED = Accepted(DIM, 144, CATALOGUE)
UNIT = np.full(DIM, DIM**-0.5)


def direction(seed: int) -> np.ndarray:
    numbers = np.random.default_rng(seed).normal(size=DIM)
    return (numbers / np.linalg.norm(numbers)).astype(np.float16)


@pytest.mark.parametrize(
    "request_",
    [
        AdapterRequest(direction(0)),
        AdapterRequest(np.eye(DIM, dtype=np.float16)[3]),
        AdapterRequest(direction(1), readings=8),
        AdapterRequest(direction(1), readings=64),
        AdapterRequest(np.array([0, 7, 143], np.uint16), CATALOGUE),
        AdapterRequest(np.array([7], np.uint16), CATALOGUE, 8),
        AdapterRequest(np.arange(64, dtype=np.uint16), CATALOGUE),
    ],
)
def test_what_is_sent_is_read(request_: AdapterRequest) -> None:
    for body, content in ((request_.pack(), SAFETENSORS), (as_json(request_), JSON)):
        assert len(body) <= LONGEST_BODY
        found = parse_request(body, content, ACCEPTED)
        np.testing.assert_array_equal(found.released, request_.released)
        assert found.released.dtype == request_.released.dtype
        assert found.catalogue == request_.catalogue
        assert (found.readings, found.adapters) == (request_.readings, request_.adapters)


def test_the_form_is_that_of_a_mechanism() -> None:
    assert AdapterRequest(direction(0)).form == embedding_form(DIM)
    assert AdapterRequest(np.array([3, 5], np.uint16), CATALOGUE).form == index_form(2)


@given(st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_every_direction_fits_in_a_body(seed: int) -> None:
    request = AdapterRequest(direction(seed))
    assert len(as_json(request)) <= LONGEST_BODY
    np.testing.assert_array_equal(
        parse_request(as_json(request), JSON, ACCEPTED).released, request.released
    )


def listed(values: Any) -> str:
    return json.dumps({"embedding": values})


READ = listed([1, *[0] * (DIM - 1)]).replace("}", ', "readings": 8}')

PLACES = '{"catalogue":"' + CATALOGUE + '","places":'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        "{",
        '{"embedding": 5}',
        '{"embedding": {}}',
        listed([]),
        listed([1.0]),
        listed([*UNIT, 0.0]),
        listed([0.0] * DIM),
        listed([2.0, *[0.0] * (DIM - 1)]),
        listed([True, *[0.0] * (DIM - 1)]),
        listed(["1", *[0.0] * (DIM - 1)]),
        listed([[1.0], *[0.0] * (DIM - 1)]),
        listed([None, *[0.0] * (DIM - 1)]),
        listed([0.0] * (DIM - 1)).replace("]", ", NaN]"),
        listed([0.0] * (DIM - 1)).replace("]", ", Infinity]"),
        listed([0.0] * (DIM - 1)).replace("]", ", 1e999]"),
        listed([0.0] * (DIM - 1)).replace("]", f", {'1' * 900}]"),
        listed([1, *[0] * (DIM - 1)]).replace("}", ', "more": 1}'),
        listed([1, *[0] * (DIM - 1)]).replace("}", ', "embedding": 1}'),
        listed([1, *[0] * (DIM - 1)]) + " 5",
        "[" * 4000,
        '{"a":' * 800,
        *(READ.replace("8", count) for count in ("0", "-1", "65", "1.0", "true", '"8"', "[8]")),
        READ.replace('"embedding"', '"places"'),
        *(
            PLACES + '[1], "readings": ' + count + "}"
            for count in ("0", "65", "true", '"8"', "[8]")
        ),
        PLACES + '[1, 2], "readings": 2}',
        PLACES + "[]}",
        PLACES + "[144]}",
        PLACES + "[-1]}",
        PLACES + "[1, 1]}",
        PLACES + "[2, 1]}",
        PLACES + "[1.0]}",
        PLACES + "[true]}",
        PLACES + "5}",
        PLACES + str(list(range(65))) + "}",
        '{"places": [1]}',
        '{"places": [1], "catalogue": "d"}',
        '{"places": [1], "catalogue": 5}',
        '{"places": [1], "catalogue": "' + CATALOGUE + '", "embedding": 5}',
        "\u00e9",
    ],
)
def test_other_json_is_refused(text: str) -> None:
    for body in (text.encode(), text.encode("utf-16")):
        if len(body) <= LONGEST_BODY:
            with pytest.raises(RequestError):
                parse_request(body, JSON, ACCEPTED)


def test_a_refusal_holds_nothing_of_the_body() -> None:
    for text in ('{"my-secret": [1]}', listed(["my-secret"] * DIM)[:4000], "my-secret"):
        for content in (JSON, SAFETENSORS, "my-secret"):
            with pytest.raises(RequestError) as raised:
                parse_request(text.encode(), content, ACCEPTED)
            assert "my-secret" not in str(raised.value)


def changed(header: dict[str, Any], data: bytes = b"\0" * 2 * DIM) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


ENTRY = {"dtype": "F16", "shape": [DIM], "data_offsets": [0, 2 * DIM]}
ONE = {"dtype": "U16", "shape": [1], "data_offsets": [0, 2]}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0" * 8,
        b"\xff" * 8,
        changed({}),
        changed({"embedding": ENTRY}),  # all zero
        changed({"embedding": ENTRY}, b"\xff" * 2 * DIM),  # NaN
        changed({"embedding": ENTRY}, b"\x00\x7c" + b"\0" * (2 * DIM - 2)),  # infinity
        changed({"embedding": ENTRY | {"shape": [1, DIM]}}),
        changed({"embedding": ENTRY | {"dtype": "F32"}}),
        changed({"embedding": ENTRY | {"dtype": "U16"}}),
        changed({"embedding": ENTRY | {"data_offsets": [2, 2 * DIM + 2]}}, b"\0" * (2 * DIM)),
        changed({"embedding": ENTRY, "__metadata__": {"more": "1"}}),
        changed({"embedding": ENTRY, "more": ONE}),
        changed({"more": ENTRY}),
        changed({"places": ONE}, b"\1\0"),
        changed({"places": ONE, "__metadata__": {"catalogue": "d"}}, b"\1\0"),
        changed({"places": ONE, "__metadata__": {"readings": "8"}}, b"\1\0"),
        changed({"places": ONE, "__metadata__": {"catalogue": CATALOGUE}}, b"\xff\xff"),
        changed({"places": ONE | {"dtype": "F16"}, "__metadata__": {"catalogue": CATALOGUE}}),
        save({"embedding": direction(0)}) + b"\0",
        save({"embedding": direction(0)})[:-1],
    ],
)
def test_other_files_are_refused(body: bytes) -> None:
    with pytest.raises(RequestError):
        parse_request(body, SAFETENSORS, ACCEPTED)


def test_another_type_or_length_is_refused() -> None:
    body = AdapterRequest(direction(0)).pack()
    for content in ("", "text/plain", "application/json; charset=utf-8", SAFETENSORS.upper()):
        with pytest.raises(RequestError):
            parse_request(body, content, ACCEPTED)
    with pytest.raises(RequestError, match="4097 bytes"):
        parse_request(b" " * 4097, JSON, ACCEPTED)


def test_without_a_catalogue_no_places_are_taken() -> None:
    request = AdapterRequest(np.array([0], np.uint16), "")
    with pytest.raises(RequestError, match="catalogue"):
        parse_request(request.pack(), SAFETENSORS, Accepted(DIM))


@given(st.binary(max_size=200), st.sampled_from([JSON, SAFETENSORS]))
@settings(max_examples=300, deadline=None)
def test_no_bytes_do_anything_else(body: bytes, content: str) -> None:
    with pytest.raises(RequestError):
        parse_request(body, content, ACCEPTED)


LAYOUT = Layout((ModuleShape("query", 3, 2), ModuleShape("value", 3, 3)), 1, 2.0)


class TestReplies:
    made = np.linspace(-1, 1, 22, dtype=np.float32).reshape(2, 11)

    def read(self, body: bytes, count: int = 2) -> np.ndarray:
        return parse_reply(body, count, LAYOUT, norm_bound(LAYOUT))[0]

    def test_what_is_sent_is_read(self) -> None:
        body = pack_reply(self.made, "g" * 64)
        found, generator = parse_reply(body, 2, LAYOUT, norm_bound(LAYOUT))
        np.testing.assert_allclose(found, self.made, atol=5e-4)
        assert generator == "g" * 64
        assert len(body) <= reply_bytes(2, 11)
        assert load(body)["adapters"].dtype == np.float16

    def test_all_replies_of_one_form_have_one_size(self) -> None:
        sizes = {len(pack_reply(self.made * scale, "g" * 64)) for scale in (0, 0.5, 1)}
        assert len(sizes) == 1

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            pack_reply(made[:1], "g"),
            pack_reply(made[:, :10], "g"),
            pack_reply(made * np.float32(np.nan), "g"),
            pack_reply(made * np.float32(np.inf), "g"),
            pack_reply(made * 1e4, "g"),
            pack_reply(made, "g")[:-1],
            save({"adapters": made}, {"generator": "g"}),
            save({"adapters": made.astype(np.float16)}),
            save({"adapters": made.astype(np.float16)}, {"generator": "g", "more": "1"}),
            save({"adapters": made.astype(np.float16), "more": made}, {"generator": "g"}),
        ],
    )
    def test_others_are_refused(self, body: bytes) -> None:
        with pytest.raises(ReplyError), np.errstate(over="ignore", invalid="ignore"):
            self.read(body)


@pytest.mark.parametrize("told", ["", "0", "-1", "65", "100", "8.0", " 8", "\u0668", "x"])
def test_other_numbers_of_readings_are_refused(told: str) -> None:
    with pytest.raises(RequestError):
        parse_request(save({"embedding": direction(0)}, {"readings": told}), SAFETENSORS, ACCEPTED)


@pytest.mark.parametrize(("places", "most"), [(0, 1), (3, 4), (144, 64)])
def test_there_are_no_more_readings_than_entries(places: int, most: int) -> None:
    accepted = Accepted(DIM, places, CATALOGUE if places else "")
    body = AdapterRequest(direction(0), readings=max(most, 2))
    if most > 1:
        assert parse_request(body.pack(), SAFETENSORS, accepted).readings == most
    with pytest.raises(RequestError, match=f"need 1 to {most} readings"):
        parse_request(AdapterRequest(direction(0), readings=most + 1).pack(), SAFETENSORS, accepted)


def test_a_place_has_no_reading_but_entries() -> None:
    accepted, place = Accepted(DIM, 3, CATALOGUE), np.array([1], np.uint16)
    for count, fits in ((3, True), (4, False)):
        body = AdapterRequest(place, CATALOGUE, count).pack()
        if fits:
            assert parse_request(body, SAFETENSORS, accepted).adapters == count
        else:
            with pytest.raises(RequestError, match="need 1 to 3 readings"):
                parse_request(body, SAFETENSORS, accepted)
