"""Faults of the endpoint itself: told by a code, counted, logged without a word of the request."""

from __future__ import annotations

import http.client
import io
import json
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sglora_fed.errors import EndpointError
from sglora_fed.generators.export import Export
from sglora_fed.serving import guard
from sglora_fed.serving.app import FAILING, Service
from sglora_fed.serving.limits import Limits
from sglora_fed.serving.run import log_to
from sglora_fed.serving.wire import AdapterRequest

SECRET = "my-secret-words"
POISON = AdapterRequest(np.eye(384, dtype=np.float16)[0])


@pytest.fixture
def faulty(serve: Callable[..., Any], export: Export, monkeypatch: pytest.MonkeyPatch) -> Any:
    right = export.generator.generate

    def generate(embeddings: np.ndarray, *rest: Any) -> Any:
        if (embeddings[:, 0] == 1).any():
            raise ZeroDivisionError(SECRET)
        return right(embeddings, *rest)

    monkeypatch.setattr(export.generator, "generate", generate)
    return serve(Limits(rate=10_000, burst=10_000, concurrent=100), None)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    written = io.StringIO()
    for name in ("handlers", "propagate", "level"):
        monkeypatch.setattr(guard.LOG, name, getattr(guard.LOG, name))
    log_to(written)
    return written


def got(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", path)
    reply = connection.getresponse()
    return reply.status, reply.read()


def test_a_fault_is_answered_with_a_code_and_logged_without_its_text(
    faulty: Any, released: AdapterRequest, log: io.StringIO
) -> None:
    with pytest.raises(EndpointError, match="code 835"):
        faulty.client(None).adapters(POISON)
    assert len(faulty.client(None).adapters(released).adapters) == 1
    failure, refused, answered = map(json.loads, log.getvalue().splitlines())
    assert "ZeroDivisionError" in failure["failure"]
    assert "test_faults.py" in failure["failure"]
    assert (refused["code"], answered["code"]) == (835, 0)
    assert SECRET not in log.getvalue()


def test_who_is_in_a_batch_with_it_gets_an_adapter(
    faulty: Any, released: AdapterRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sglora_fed.serving.batching.WAIT", 0.3)
    clients = [faulty.client(None) for _ in range(6)]
    answers: list[int] = [0] * len(clients)

    def ask(place: int) -> None:
        try:
            clients[place].adapters(POISON if place == 2 else released)
            answers[place] = 200
        except EndpointError:
            answers[place] = 500

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(clients))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faulty.service.batcher.batches < len(clients)
    assert answers == [200, 200, 500, 200, 200, 200]


def test_many_faults_in_a_row_are_no_health(faulty: Any, released: AdapterRequest) -> None:
    for count in range(FAILING):
        assert got(faulty.port, "/healthz") == (200, b'{"status":"ok"}')
        with pytest.raises(EndpointError):
            faulty.client(None).adapters(POISON)
        assert f"sglora_failures_in_a_row {count + 1}\n".encode() in got(faulty.port, "/metrics")[1]
    assert got(faulty.port, "/healthz") == (503, b'{"status":"failing"}')
    faulty.client(None).adapters(released)
    assert got(faulty.port, "/healthz")[0] == 200


def test_a_fault_at_any_other_address_is_the_same(
    export: Export, running_of: Any, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    service = Service(export, None)
    with running_of(service, None) as running:
        monkeypatch.setattr(service, "facts", lambda: 1 / len(""))
        assert got(running.port, "/v1/generator") == (500, b'{"error": "SGL-835"}')
        assert got(running.port, "/healthz")[0] == 200
    assert "ZeroDivisionError" in log.getvalue()
    assert 'code="835"} 1' in service.counted()
