"""The client against endpoints that answer anything, late or not at all."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from sglora_fed.errors import EndpointError, ReplyError, SgloraError
from sglora_fed.generators.export import Export
from sglora_fed.serving.client import EndpointClient
from sglora_fed.serving.limits import Limits
from sglora_fed.serving.tls import Files
from sglora_fed.serving.wire import AdapterRequest, pack_reply


def _read_request(connection: socket.socket) -> None:
    """All of it: who closes with something unread resets the connection, and takes the answer
    back that the client has not read yet."""
    with connection.makefile("rb") as stream:
        stream.readline()
        stream.read(int(http.client.parse_headers(stream)["content-length"]))


class Liar:
    """Answers each connection with the same bytes, then closes it."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._answer_all, daemon=True)
        self._thread.start()

    def _answer_all(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                try:
                    _read_request(connection)
                    connection.sendall(self._answer)
                except OSError:
                    continue

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


@pytest.fixture
def asked(export: Export, released: AdapterRequest) -> Iterator[Callable[[bytes], Any]]:
    """A function that asks an endpoint which answers with some bytes."""
    liars: list[Liar] = []

    def ask(answer: bytes) -> Any:
        liars.append(Liar(answer))
        client = EndpointClient("127.0.0.1", liars[-1].port, export.layout, None)
        return client.adapters(released)

    yield ask
    for liar in liars:
        liar.close()


def answered(body: bytes, status: str = "200 OK", length: int | None = None) -> bytes:
    length = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n".encode() + body


def test_a_good_answer_is_taken(asked: Callable[[bytes], Any], export: Export) -> None:
    made = np.full((1, export.layout.size), 0.01, np.float32)
    found = asked(answered(pack_reply(made, "g")))
    np.testing.assert_allclose(found.adapters, made, rtol=1e-3)
    assert found.generator == "g"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", EndpointError),
        (b"nonsense", EndpointError),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 1000, EndpointError),
        (answered(b"x", length=10), ReplyError),
        (answered(b'{"error": "SGL-833"}', "429 Too Many Requests"), EndpointError),
        (answered(b'{"error": "\x1b[2J"}', "400 Bad Request"), EndpointError),
        (answered(b"x" * 100_000, "500 Internal Server Error"), ReplyError),
        (answered(b""), ReplyError),
        (answered(b"x" * 500), ReplyError),
        (answered(b"x" * 10_000_000), ReplyError),
        (answered(b"\xff" * 8), ReplyError),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 10_000_000, ReplyError),
    ],
)
def test_any_other_is_refused(
    asked: Callable[[bytes], Any], answer: bytes, error: type[SgloraError]
) -> None:
    with pytest.raises(error) as raised:
        asked(answer)
    assert str(raised.value).isprintable()


def test_adapters_of_another_size_or_beyond_the_bound_are_refused(
    asked: Callable[[bytes], Any], export: Export
) -> None:
    for made in (
        np.zeros((2, export.layout.size)),
        np.zeros((1, export.layout.size + 1)),
        np.full((1, export.layout.size), 1000.0),
        np.full((1, export.layout.size), np.nan),
    ):
        with pytest.raises(ReplyError):
            asked(answered(pack_reply(made, "g")))


def test_nobody_there(export: Export, released: AdapterRequest) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(EndpointError, match="ConnectionRefusedError: nobody listens there"):
        EndpointClient("127.0.0.1", port, export.layout, None).adapters(released)


def test_an_idle_connection_that_was_closed_is_opened_again(
    serve: Callable[..., Any], issue: Callable[..., Files], released: AdapterRequest
) -> None:
    running = serve(Limits(), issue("endpoint"))
    client = running.client(issue("node-1"))
    client.adapters(released)
    for connection in list(running._server.server_state.connections):
        connection.loop.call_soon_threadsafe(connection.transport.abort)
    while running._server.server_state.connections:
        time.sleep(0.005)
    client.adapters(released)


def test_without_tls_on_loopback(serve: Callable[..., Any], released: AdapterRequest) -> None:
    running = serve(Limits(), None)
    assert len(running.client(None).adapters(released).adapters) == 1
