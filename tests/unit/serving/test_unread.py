"""Clients that ask and do not read: each holds little, for a while, and nobody else waits."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sglora_fed.generators.export import Export
from sglora_fed.serving import connection
from sglora_fed.serving.app import ADDRESS, Service
from sglora_fed.serving.client import own_key
from sglora_fed.serving.limits import Limits
from sglora_fed.serving.proof import Meaning, proof_of
from sglora_fed.serving.tls import Files, audience_of, client_context, digest_of
from sglora_fed.serving.wire import SAFETENSORS, AdapterRequest
from tests.unit.serving.waiting import until

Issue = Callable[..., Files]
BODY = AdapterRequest(np.arange(64, dtype=np.uint16), "c" * 64).pack()
REPLY = 64 * 9216 * 2
"""Bytes."""


def silent(port: int, files: Files, requests: int) -> ssl.SSLSocket:
    """A client that sends requests behind one another and reads no answer."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.connect(("127.0.0.1", port))
    tls = client_context(files).wrap_socket(plain, server_hostname="127.0.0.1")
    key, audience = own_key(files)[1], digest_of(tls.getpeercert(binary_form=True) or b"")
    for _ in range(requests):
        told = {"host": "x", "content-type": SAFETENSORS, "content-length": str(len(BODY))}
        told |= proof_of(Meaning(audience, "silent", "POST", ADDRESS, SAFETENSORS, BODY), key)
        lines = "".join(f"{name}: {value}\r\n" for name, value in told.items())
        tls.sendall(f"POST {ADDRESS} HTTP/1.1\r\n{lines}\r\n".encode() + BODY)
    return tls


@pytest.fixture
def large(large_export: Export, running_of: Any, issue: Issue) -> Any:
    limits = Limits(rate=10_000, burst=10_000, concurrent=2)
    own = issue("endpoint")
    with running_of(Service(large_export, audience_of(own), limits), own) as found:
        yield found


def test_who_does_not_read_is_given_up(
    large: Any, issue: Issue, released: AdapterRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "WRITE_SECONDS", 0.5)
    tls = silent(large.port, issue("silent"), 8)
    until(lambda: len(large.unread("silent")) == 1)
    assert len(large.client(issue("other")).adapters(released).adapters) == 1
    until(lambda: not large.unread("silent") and large.service.gate.active == 0)
    # Not all that was asked for was made, and what was sent of it has an end.
    assert large.service.metrics.answers[200, 0] < 9
    received = 0
    tls.settimeout(10)
    try:
        while more := tls.recv(1 << 16):
            received += len(more)
    except (ssl.SSLError, ConnectionError):
        pass
    assert received < 8 * REPLY
    tls.close()


def test_it_holds_as_many_answers_as_it_may_ask_for_together(
    large: Any, issue: Issue, released: AdapterRequest
) -> None:
    files = issue("silent")
    found = [silent(large.port, files, 12) for _ in range(6)]
    until(lambda: sum(large.unread("silent")) > REPLY)
    until(lambda: large.service.metrics.answers[429, 833] >= 8)
    assert sum(large.unread("silent")) < 2 * (REPLY + connection.UNREAD) + 4 * connection.UNREAD
    large.client(issue("other")).adapters(released)
    for tls in found:
        tls.close()
    until(lambda: large.service.gate.active == 0)


def test_a_slow_reader_gets_its_answers_whole(large: Any, issue: Issue) -> None:
    tls = silent(large.port, issue("silent"), 2)
    received = 0
    while received < 2 * REPLY:
        time.sleep(0.001)
        received += len(tls.recv(1 << 15))
    until(lambda: large.service.gate.active == 0)
    tls.close()
