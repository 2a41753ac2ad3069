"""A certificate that is revoked while the endpoint is up is refused, whoever holds a connection."""

from __future__ import annotations

import contextlib
import io
import shutil
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sglora_fed.errors import CertificateError, EndpointError
from sglora_fed.serving import guard
from sglora_fed.serving.limits import Limits
from sglora_fed.serving.revoked import Revoked
from sglora_fed.serving.run import log_to
from sglora_fed.serving.tls import client_context
from sglora_fed.serving.wire import AdapterRequest
from tests.unit.serving.waiting import until


@pytest.fixture
def listed(authority: Any, tmp_path: Path) -> Path:
    """The endpoint's copy of a list on which nobody is."""
    return Path(shutil.copy(authority.revoke(), tmp_path / "crl.pem"))


def replace(listed: Path, new: Path | bytes) -> None:
    """As an operator should: whole, or not at all."""
    fresh = listed.with_name("new.pem")
    fresh.write_bytes(new if isinstance(new, bytes) else new.read_bytes())
    fresh.rename(listed)


def test_whoever_is_put_on_the_list_is_cut_off_and_refused(
    serve: Callable[..., Any], authority: Any, released: AdapterRequest, listed: Path
) -> None:
    gone, stays = (authority.issue(name) for name in ("gone", "stays"))
    running = serve(Limits(), authority.issue("endpoint", revoked=listed))
    clients = [running.client(files) for files in (gone, stays)]
    for client in clients:
        client.adapters(released)
    assert len(running.unread("gone")) == 1
    replace(listed, authority.revoke(gone))
    until(lambda: not running.unread("gone"))  # it has not asked again
    with pytest.raises(EndpointError):
        clients[0].adapters(released)
    with pytest.raises(EndpointError):
        running.client(gone).adapters(released)
    assert len(running.unread("stays")) == 1
    clients[1].adapters(released)


def test_a_list_that_cannot_be_used_changes_nothing(
    serve: Callable[..., Any],
    authority: Any,
    released: AdapterRequest,
    listed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("handlers", "propagate", "level"):
        monkeypatch.setattr(guard.LOG, name, getattr(guard.LOG, name))
    log_to(written := io.StringIO())
    gone, stays = (authority.issue(name) for name in ("gone", "stays"))
    replace(listed, authority.revoke(gone))
    running = serve(Limits(), authority.issue("endpoint", revoked=listed))
    stranger = type(authority)(tmp_path, "stranger")
    for bad in (b"", b"no list", stranger.revoke(stays)):
        before = written.getvalue().count("SGL-838")
        replace(listed, bad)
        until(lambda before=before: written.getvalue().count("SGL-838") > before)
        with pytest.raises(EndpointError):
            running.client(gone).adapters(released)
        running.client(stays).adapters(released)


def test_it_is_read_only_when_it_has_changed(authority: Any, listed: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found = Revoked(listed, authority.file, context)
    assert not found.reread()
    replace(listed, authority.revoke(authority.issue("gone")))
    assert found.reread()
    assert not found.reread()
    listed.unlink()
    with pytest.raises(CertificateError, match=r"crl\.pem"):
        found.reread()


def test_a_session_from_before_lets_nobody_in(
    serve: Callable[..., Any], authority: Any, listed: Path, released: AdapterRequest
) -> None:
    """TLS looks at no certificate when a session is taken up again."""
    gone = authority.issue("gone")
    running = serve(Limits(), authority.issue("endpoint", revoked=listed))
    context = client_context(gone)

    def connected(session: ssl.SSLSession | None) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", running.port), timeout=10)
        return context.wrap_socket(plain, server_hostname="127.0.0.1", session=session)

    def asked(tls: ssl.SSLSocket) -> bytes:
        try:
            tls.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            return tls.recv(1000)
        except OSError:
            return b""

    first = connected(None)
    assert asked(first).startswith(b"HTTP/1.1 200")
    assert asked(connected(first.session)).startswith(b"HTTP/1.1 200")
    replace(listed, authority.revoke(gone))
    until(lambda: not running.unread("gone"))
    with contextlib.suppress(OSError):
        assert asked(connected(first.session)) == b""
