"""Whose a connection is, held against connections whose owner is known."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from sglora_fed.launching.guarded import is_ours
from sglora_fed.launching.processes import CONNECTIONS

pytestmark = pytest.mark.skipif(not CONNECTIONS.exists(), reason="the table is Linux's")


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of one connection over loopback: the caller's and ours."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        caller = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
        with caller, ours:
            yield caller, ours


def test_a_connection_of_our_own_is_ours(ends: tuple[socket.socket, socket.socket]) -> None:
    caller, ours = ends
    assert is_ours(caller.getsockname(), ours.getsockname())


def test_a_connection_that_is_not_there_is_not(ends: tuple[socket.socket, socket.socket]) -> None:
    caller, ours = ends
    host, port = caller.getsockname()
    assert not is_ours((host, port ^ 1), ours.getsockname())
    assert not is_ours(caller.getsockname(), (host, ours.getsockname()[1] ^ 1))


def test_a_caller_that_has_hung_up_is_not(ends: tuple[socket.socket, socket.socket]) -> None:
    # The kernel lists its socket as root's from then on.
    caller, ours = ends
    address = caller.getsockname()
    caller.close()
    assert not is_ours(address, ours.getsockname())


def test_a_table_row_of_another_user_is_not(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    caller, ours = ends
    monkeypatch.setattr("os.geteuid", lambda: 54321)
    assert not is_ours(caller.getsockname(), ours.getsockname())
