"""Many clients, slow ones and greedy ones: each holds up itself."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sglora_fed.errors import EndpointError, RateError
from sglora_fed.generators.export import Export
from sglora_fed.serving import app, connection
from sglora_fed.serving.app import Service
from sglora_fed.serving.limits import Limits
from sglora_fed.serving.tls import Files, client_context
from sglora_fed.serving.wire import SAFETENSORS, AdapterRequest

Issue = Callable[..., Files]


def opened(port: int, files: Files) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=5)
    return client_context(files).wrap_socket(plain, server_hostname="127.0.0.1")


def ended(tls: socket.socket) -> bool:
    """Whether the other end has closed, by now or soon."""
    try:
        return tls.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def healthy(tls: socket.socket) -> bool:
    """Whether the endpoint answers."""
    found = b""
    try:
        tls.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        while not found.endswith(b'{"status":"ok"}') and (more := tls.recv(1000)):
            found += more
    except OSError:
        return False
    return found.startswith(b"HTTP/1.1 200")


def test_requests_of_one_moment_are_made_together(
    running: Any, issue: Issue, released: AdapterRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sglora_fed.serving.batching.WAIT", 0.05)
    clients = [running.client(issue(f"node-{number}")) for number in range(8)]
    for client in clients:
        client.adapters(released)  # opens the connections
    before, answers = running.service.batcher.batches, [None] * len(clients)

    def ask(place: int) -> None:
        rows = np.roll(released.released, place)
        answers[place] = clients[place].adapters(AdapterRequest(rows)).adapters[0]

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(clients))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert running.service.batcher.batches - before < len(clients) / 2
    for place, found in enumerate(answers):
        alone = running.service.batcher.generate(
            np.roll(released.released, place).astype(np.float32)[None]
        )[0]
        np.testing.assert_allclose(found, alone.astype(np.float32), rtol=2e-3, atol=1e-5)


def test_who_asks_too_often_is_told_when_to_come_again(
    serve: Callable[..., Any],
    issue: Issue,
    released: AdapterRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app, "HELD", 0.2)
    running = serve(Limits(rate=0.5, burst=2), issue("endpoint"))
    greedy, other = running.client(issue("greedy")), running.client(issue("other"))
    for _ in range(2):
        greedy.adapters(released)
    started = time.perf_counter()
    with pytest.raises(EndpointError, match="code 833"):
        greedy.adapters(released)
    assert time.perf_counter() - started >= app.HELD
    other.adapters(released)
    raw = http.client.HTTPSConnection(
        "127.0.0.1", running.port, context=client_context(issue("greedy"))
    )
    raw.request("POST", app.ADDRESS, b"x", {"content-type": SAFETENSORS})
    reply = raw.getresponse()
    assert (reply.status, reply.read()) == (429, b'{"error": "SGL-833"}')
    assert 1 <= int(reply.headers["retry-after"]) <= 2


def test_who_looks_too_often_waits_and_health_checks_go_on(
    serve: Callable[..., Any],
    issue: Issue,
    released: AdapterRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app, "HELD", 0.05)
    looks = Limits(rate=1e-3, burst=4)
    running = serve(Limits(rate=1e-3, burst=1), issue("endpoint"), looks)

    def looked(name: str, method: str, path: str) -> tuple[int, str | None]:
        raw = http.client.HTTPSConnection(
            "127.0.0.1", running.port, context=client_context(issue(name))
        )
        raw.request(method, path)
        reply = raw.getresponse()
        reply.read()
        return reply.status, reply.headers["retry-after"]

    greedy = running.client(issue("greedy"))
    paths = ("/openapi.json", "/metrics", "/v1/generator", "/nowhere")
    found = [looked("greedy", "GET", path)[0] for path in paths]
    assert found == [200, 200, 200, 404]
    for method, path in (("GET", "/healthz"), ("PUT", app.ADDRESS), ("POST", "/nowhere")):
        status, wait = looked("greedy", method, path)
        # One comes back in 1,000 seconds; however slow the machine is, not yet.
        assert (status, 900 < int(wait or 0) <= 1000) == (429, True)
    assert b'status="429",code="833"} 3' in running.service.counted().encode()
    # Adapters are counted apart, and others' checks too: also of whoever has asked for too many.
    greedy.adapters(released)
    with pytest.raises(EndpointError, match="code 833"):
        greedy.adapters(released)
    balancer = running.client(issue("balancer"))
    balancer.adapters(released)
    with pytest.raises(EndpointError, match="code 833"):
        balancer.adapters(released)
    assert looked("balancer", "GET", "/healthz")[0] == 200


def test_who_is_refused_in_one_moment_is_not_told_in_one(
    export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "HELD", 0.05)
    service, told = Service(export, None), []

    async def refused(number: int) -> None:
        await service.refused_late(RateError(1.0))
        told.append(number)

    async def all_of_them() -> None:
        await asyncio.gather(*(refused(number) for number in range(50)))

    asyncio.run(all_of_them())
    service.close()
    assert sorted(told) == list(range(50))
    assert told != sorted(told)


def test_a_body_that_does_not_end_is_given_up(
    running: Any, issue: Issue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "BODY_SECONDS", 0.1)
    with opened(running.port, issue("slow")) as tls:
        tls.sendall(b"POST /v1/adapters HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nx")
        assert tls.recv(100).startswith(b"HTTP/1.1 413")
        while tls.recv(1000):
            pass  # it closes, because the rest could be anything
    assert running.service.gate.active == 0


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n"])
def test_who_shows_no_certificate_is_given_up(
    serve: Callable[..., Any], issue: Issue, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr("sglora_fed.serving.run.HANDSHAKE_SECONDS", 0.2)
    running = serve(Limits(), issue("endpoint"))
    with socket.create_connection(("127.0.0.1", running.port), timeout=4) as plain:
        plain.sendall(sent)
        while more := plain.recv(100):  # an alert may come first
            assert b"HTTP" not in more


@pytest.mark.parametrize("sent", [b"", b"P", b"POST /v1/adapters HTTP/1.1\r\nhost: x\r\nslow: "])
def test_headers_that_do_not_end_are_given_up(
    running: Any, issue: Issue, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(connection, "HEADER_SECONDS", 0.1)
    with opened(running.port, issue("slow")) as tls:
        tls.sendall(sent)
        assert ended(tls)


def test_nor_those_of_a_second_request(
    running: Any, issue: Issue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEADER_SECONDS", 0.1)
    with opened(running.port, issue("slow")) as tls:
        assert healthy(tls)
        time.sleep(0.2)  # an idle connection stays
        assert healthy(tls)
        tls.sendall(b"G")
        assert ended(tls)


def test_headers_that_are_too_long_are_given_up(running: Any, issue: Issue) -> None:
    for line in (b"x: " + b"y" * 20_000, b"x: y\r\n" * 4000):
        with opened(running.port, issue("long")) as tls:
            tls.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + line)
            assert ended(tls)


def test_one_client_has_so_many_connections_and_no_more(
    running: Any, issue: Issue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MOST_OF_ONE_CLIENT", 3)
    greedy, other = issue("greedy"), issue("other")
    found = [opened(running.port, greedy) for _ in range(5)]
    alive = [healthy(tls) for tls in found]
    assert alive == [True] * 3 + [False] * 2
    with opened(running.port, other) as tls:
        assert healthy(tls)
    for tls in found:
        tls.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET \xff HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET * HTTP/1.1\r\nhost: x\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /v1/adapters HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/adapters HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST /v1/adapters HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_no_http_gets_no_error_of_ours(running: Any, issue: Issue, sent: bytes) -> None:
    with opened(running.port, issue("odd")) as tls:
        tls.settimeout(1)
        tls.sendall(sent)
        try:
            answer = tls.recv(1000)
        except OSError:
            answer = b""
        assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))
    with opened(running.port, issue("next")) as tls:
        assert healthy(tls)
