"""The endpoint over TLS: what it makes, whom it answers, and what it tells."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from safetensors.numpy import load

from sglora_fed.adapters.start import within_bound
from sglora_fed.edge.certificates import make_certificates
from sglora_fed.errors import CertificateError, EndpointError
from sglora_fed.generators.export import Export
from sglora_fed.serving import app, guard
from sglora_fed.serving.client import own_key
from sglora_fed.serving.limits import Limits
from sglora_fed.serving.proof import Meaning, proof_of
from sglora_fed.serving.run import log_to
from sglora_fed.serving.tls import Files, client_context
from sglora_fed.serving.wire import JSON, SAFETENSORS, AdapterRequest, as_json

Issue = Callable[..., Files]


def made_by(export: Export, embeddings: np.ndarray) -> np.ndarray:
    """By the generator itself, rounded as on the wire."""
    found = export.generator.generate(embeddings.astype(np.float32), 1, 0).adapters[:, 0]
    return within_bound(found, export.layout).astype(np.float16).astype(np.float32)


def test_an_embedding_gets_the_generators_adapter(
    running: Any, issue: Issue, export: Export, released: AdapterRequest
) -> None:
    answer = running.client(issue("node-1")).adapters(released)
    np.testing.assert_allclose(
        answer.adapters, made_by(export, released.released[None]), rtol=2e-3, atol=1e-6
    )
    assert answer.generator == export.sha256


def test_places_get_one_adapter_each_in_their_order(
    running: Any, issue: Issue, export: Export
) -> None:
    places = np.array([0, 7, 19], np.uint16)
    request = AdapterRequest(places, export.about.catalogue_sha256)
    answer = running.client(issue("node-1")).adapters(request)
    assert export.snap is not None
    np.testing.assert_allclose(
        answer.adapters, made_by(export, export.snap.embeddings[places]), rtol=2e-3, atol=1e-6
    )


def test_a_place_is_read_as_the_entries_that_are_nearest_to_its_own(
    running: Any, issue: Issue, export: Export
) -> None:
    snap = export.snap
    assert snap is not None
    request = AdapterRequest(np.array([7], np.uint16), export.about.catalogue_sha256, 5)
    answer = running.client(issue("node-1")).adapters(request)
    nearest = np.argsort(np.linalg.norm(snap.rows - snap.rows[7], axis=1))[:5]
    assert nearest[0] == 7
    np.testing.assert_allclose(
        answer.adapters, made_by(export, snap.embeddings[nearest]), rtol=2e-3, atol=1e-6
    )


class Sent:
    """Requests by hand, over one connection."""

    ahead = 0.0
    """Seconds of the client's clock."""

    def __init__(self, port: int, files: Files, name: str) -> None:
        context = client_context(files)
        self.connection = http.client.HTTPSConnection("127.0.0.1", port, context=context)
        self.connection.connect()
        shown = self.connection.sock.getpeercert(binary_form=True)
        self.audience = hashlib.sha256(shown).hexdigest()
        self.name, self.key = name, own_key(files)[1]

    def proof(self, body: bytes, content: str = SAFETENSORS, **other: Any) -> dict[str, str]:
        meaning = {"audience": self.audience, "client": self.name, "method": "POST"}
        meaning |= {"path": app.ADDRESS} | other
        whole = Meaning(content=content, body=body, **meaning)
        return proof_of(whole, self.key, lambda: time.time() + self.ahead)

    def post(
        self, body: bytes, proof: dict[str, str], content: str = SAFETENSORS
    ) -> tuple[int, bytes]:
        headers = {"content-type": content, **proof}
        self.connection.request("POST", app.ADDRESS, body, headers)
        reply = self.connection.getresponse()
        return reply.status, reply.read()


@pytest.fixture
def sent(running: Any, issue: Issue) -> Sent:
    return Sent(running.port, issue("node-7"), "node-7")


def test_json_says_the_same(sent: Sent, released: AdapterRequest) -> None:
    body, packed = as_json(released), released.pack()
    status, found = sent.post(body, sent.proof(body, JSON), JSON)
    assert status == 200
    assert found == sent.post(packed, sent.proof(packed))[1]
    assert set(load(found)) == {"adapters"}


def test_a_replayed_request_is_refused(
    sent: Sent, running: Any, issue: Issue, released: AdapterRequest
) -> None:
    body = released.pack()
    proof = sent.proof(body)
    assert sent.post(body, proof)[0] == 200
    assert [sent.post(body, proof)[0] for _ in range(3)] == [401] * 3
    # Nor from elsewhere: neither by another client, nor over another connection of the same.
    other = Sent(running.port, issue("node-8"), "node-8")
    assert other.post(body, proof)[0] == 401
    assert other.post(body, sent.proof(body))[0] == 401


@pytest.mark.parametrize(
    "other",
    [
        {"client": "node-8"},
        {"method": "PUT"},
        {"path": "/v1/adapters/"},
        {"content": JSON},
        {"body": b"x"},
    ],
)
def test_a_proof_of_anything_else_is_refused(
    sent: Sent, released: AdapterRequest, other: dict[str, Any]
) -> None:
    body = released.pack()
    meant = {"audience": sent.audience, "client": "node-7", "method": "POST", "path": app.ADDRESS}
    meaning = Meaning(**{**meant, "content": SAFETENSORS, "body": body, **other})
    assert sent.post(body, proof_of(meaning, sent.key))[0] == 401


@pytest.mark.parametrize("seconds", [-3600, -31, 31, 3600])
def test_late_and_early_ones_are_refused(
    sent: Sent, released: AdapterRequest, seconds: float
) -> None:
    sent.ahead = seconds
    body = released.pack()
    assert sent.post(body, sent.proof(body))[0] == 401


def test_a_request_to_another_endpoint_is_refused(
    sent: Sent, serve: Callable[..., Any], issue: Issue, released: AdapterRequest
) -> None:
    """One that knows the same clients, and passes on what it gets."""
    other, files = serve(Limits(), issue("endpoint")), issue("node-7")
    body, here = released.pack(), Sent(sent.connection.port, files, "node-7")
    there = Sent(other.port, files, "node-7")
    passed_on = there.proof(body)
    assert here.post(body, passed_on) == (401, b'{"error": "SGL-839"}')
    assert here.post(body, passed_on | {"sglora-audience": here.audience})[1] == (
        b'{"error": "SGL-831"}'
    )
    assert there.post(body, passed_on)[0] == 200


def test_refusals_say_a_code_in_as_many_bytes_and_nothing_else(
    sent: Sent, released: AdapterRequest
) -> None:
    body, secret = released.pack(), b'{"embedding": ["my-secret-words"]}'
    found = [
        sent.post(secret, sent.proof(secret, JSON), JSON),
        sent.post(secret, sent.proof(secret), SAFETENSORS),
        sent.post(body, sent.proof(body) | {"sglora-nonce": "my-secret-words"}),
        sent.post(b"\0" * 5000, sent.proof(b"")),
    ]
    assert [status for status, _ in found] == [400, 400, 401, 413]
    assert {len(text) for _, text in found} == {len(b'{"error": "SGL-830"}')}
    assert all(set(json.loads(text)) == {"error"} for _, text in found)


@pytest.mark.parametrize("path", ["/", "/v1", "/docs", "/v1/adapters?x=1", "/nowhere/my-secret"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_what_there_is_not(sent: Sent, method: str, path: str) -> None:
    sent.connection.request(method, path)
    reply = sent.connection.getresponse()
    assert (reply.status, reply.read()) == (404, b'{"error": "SGL-834"}')


def test_nothing_of_a_request_is_in_the_log(
    sent: Sent, released: AdapterRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.StringIO()
    for name in ("handlers", "propagate", "level"):
        monkeypatch.setattr(guard.LOG, name, getattr(guard.LOG, name))
    log_to(written)
    body, places = as_json(released), AdapterRequest(np.array([17], np.uint16), "c" * 64).pack()
    sent.post(body, sent.proof(body, JSON), JSON)
    sent.post(places, sent.proof(places))
    sent.post(b"my-secret-words", sent.proof(b"my-secret-words"))
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    assert [(line["status"], line["code"]) for line in lines] == [(200, 0), (200, 0), (400, 830)]
    assert {frozenset(line) for line in lines} == {
        frozenset(("time", "client", "status", "code", "adapters", "seconds"))
    }
    assert "my-secret" not in written.getvalue()
    assert str(float(str(released.released[0]))) not in written.getvalue()
    assert "c" * 64 not in written.getvalue()


def test_what_is_told_of_the_endpoint(sent: Sent, export: Export, running: Any) -> None:
    def get(path: str) -> tuple[int, bytes]:
        sent.connection.request("GET", path)
        reply = sent.connection.getresponse()
        return reply.status, reply.read()

    assert get("/healthz") == (200, b'{"status":"ok"}')
    facts = json.loads(get("/v1/generator")[1])
    assert facts["generator"] == export.sha256
    assert (facts["dim"], facts["places"]) == (384, 20)
    described = json.loads(get("/openapi.json")[1])
    assert {"200", "400", "401", "413", "429"} <= set(
        described["paths"][app.ADDRESS]["post"]["responses"]
    )
    assert set(described["paths"]) == {app.ADDRESS, "/v1/generator", "/healthz", "/metrics"}


def test_metrics_count_what_was_done(
    running: Any, issue: Issue, export: Export, released: AdapterRequest
) -> None:
    def counts() -> dict[str, float]:
        lines = [line for line in running.service.counted().splitlines() if line[0] != "#"]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    before, client = counts(), running.client(issue("node-1"))
    for _ in range(3):
        client.adapters(released)
    client.adapters(AdapterRequest(np.arange(5, dtype=np.uint16), "c" * 64))
    with pytest.raises(EndpointError, match="code 830"):
        client.adapters(AdapterRequest(np.arange(5, dtype=np.uint16), "d" * 64))
    after = counts()
    grown = {name: after[name] - before.get(name, 0) for name in after}
    assert grown["sglora_adapters_total"] == 8
    assert grown['sglora_answers_total{status="200",code="0"}'] == 4
    assert grown['sglora_answers_total{status="400",code="830"}'] == 1
    assert grown["sglora_answer_seconds_count"] == grown['sglora_answer_seconds_bucket{le="+Inf"}']
    assert after["sglora_active"] == 0


def health(port: int, context: ssl.SSLContext) -> bool:
    """Whether the endpoint answers at all."""
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class TestWhoIsLetIn:
    def test_a_client_of_another_authority_is_not(
        self, running: Any, tmp_path: Any, authority: Any, released: AdapterRequest
    ) -> None:
        stranger = type(authority)(tmp_path, "stranger").issue("node-1")
        files = Files(stranger.certificate, stranger.key, authority.file)
        with pytest.raises(EndpointError):
            running.client(files).adapters(released)

    def test_nor_one_whose_certificate_has_expired(
        self, running: Any, issue: Issue, released: AdapterRequest
    ) -> None:
        with pytest.raises(EndpointError):
            running.client(issue("node-1", days=-0.5)).adapters(released)

    def test_nor_one_without_a_certificate(self, running: Any, authority: Any) -> None:
        context = ssl.create_default_context(cafile=str(authority.file))
        assert not health(running.port, context)

    def test_nor_older_tls(self, running: Any, issue: Issue) -> None:
        files = issue("node-1")
        context = client_context(files)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with (
            socket.create_connection(("127.0.0.1", running.port)) as plain,
            pytest.raises(ssl.SSLError),
        ):
            context.wrap_socket(plain, server_hostname="127.0.0.1")

    def test_nor_a_revoked_one(
        self, serve: Callable[..., Any], authority: Any, released: AdapterRequest
    ) -> None:
        gone, stays = authority.issue("node-1"), authority.issue("node-2")
        own = authority.issue("endpoint", revoked=authority.revoke(gone))
        running = serve(Limits(), own)
        running.client(stays).adapters(released)
        with pytest.raises(EndpointError):
            running.client(gone).adapters(released)

    def test_nor_one_without_a_usable_name_or_key(
        self, running: Any, issue: Issue, released: AdapterRequest
    ) -> None:
        for files in (issue("no identifier"), issue("node-1", generate_rsa(65537, 2048))):
            assert not health(running.port, client_context(files))
        assert health(running.port, client_context(issue("node-1")))

    def test_keys_of_elliptic_curves_do(
        self, running: Any, issue: Issue, released: AdapterRequest
    ) -> None:
        files = issue("node-1", generate_private_key(SECP256R1()))
        assert len(running.client(files).adapters(released).adapters) == 1

    def test_a_client_refuses_an_endpoint_of_another_authority_or_name(
        self, running: Any, issue: Issue, authority: Any, tmp_path: Any, released: AdapterRequest
    ) -> None:
        own, other = issue("node-1"), type(authority)(tmp_path, "stranger")
        with pytest.raises(EndpointError, match="of another authority, or for another name"):
            running.client(Files(own.certificate, own.key, other.file)).adapters(released)
        client = running.client(own)
        client.host = "127.1"  # the same address, by a name that the certificate does not have
        with pytest.raises(EndpointError, match="of another authority, or for another name"):
            client.adapters(released)

    def test_a_client_without_tls_hears_what_may_be_wrong(
        self, running: Any, released: AdapterRequest
    ) -> None:
        with pytest.raises(EndpointError, match="one with TLS, asked without"):
            running.client(None).adapters(released)

    def test_so_does_one_with_tls_at_an_endpoint_without(
        self, serve: Callable[..., Any], issue: Issue, released: AdapterRequest
    ) -> None:
        client = serve(Limits(), None).client(issue("node-1"))
        with pytest.raises(EndpointError, match="plain HTTP"):
            client.adapters(released)

    def test_those_of_certs_init_are(
        self, serve: Callable[..., Any], tmp_path: Any, released: AdapterRequest
    ) -> None:
        made = tmp_path / "certs"
        make_certificates(made, [], ["hall", "yard"], 8000)
        server, hall = made / "server", made / "nodes" / "hall"
        own = Files(server / "server.pem", server / "server.key", server / "ca.crt")
        running = serve(Limits(), own)
        running.client(Files(hall / "client.pem", hall / "client.key", hall / "ca.crt")).adapters(
            released
        )
        # An endpoint's certificate is none of a client, nor the other way round.
        with pytest.raises(EndpointError):
            running.client(own).adapters(released)

    def test_unusable_files_are_named(self, issue: Issue, tmp_path: Any) -> None:
        own = issue("node-1")
        with pytest.raises(CertificateError, match=r"^\[SGL-838\] \S*nowhere\.pem: no such file"):
            client_context(Files(tmp_path / "nowhere.pem", own.key, own.authority))
