"""Who is at the other end of a connection, and how long and how large its talk may be."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sglora_fed.errors import CertificateError
from sglora_fed.serving.revoked import Revoked
from sglora_fed.serving.tls import PEER, Peer, peer_of

HEADER_SECONDS = 5.0
"""For a request's first line and headers."""

LONGEST_HEADERS = 16_384
"""Bytes of a request's first line and headers."""

WRITE_SECONDS = 30.0
"""For a client to read what is waiting for it."""

UNREAD = 65_536
"""Bytes that may wait for a client before no more is written."""

MOST_CONNECTIONS = 900
"""Below the 1,024 files that a process may usually have open."""

MOST_OF_ONE_CLIENT = 16


class Connection(HttpToolsProtocol):
    """HTTP/1.1 with a client whose certificate TLS has checked."""

    peer: Peer | None = None
    revoked: Revoked | None = None
    """Who is not let in, whatever TLS says."""

    _timer: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _header_bytes: int | None = 0
    """None while a body is read."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note who it is; close what is one too many."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(UNREAD)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            try:
                self.peer = peer_of(tls.getpeercert(binary_form=True))
            except CertificateError:
                self.transport.abort()
                return
            self.app_state = {**self.app_state, PEER: self.peer}
        if self.is_revoked():
            self.transport.abort()
            return
        if len(self.connections) > MOST_CONNECTIONS or self._of_this_client() > MOST_OF_ONE_CLIENT:
            self.transport.abort()
            return
        self._expect_headers()

    def is_revoked(self) -> bool:
        """Whether the client's certificate is on the list."""
        return self.peer is not None and self.revoked is not None and self.peer in self.revoked

    def _of_this_client(self) -> int:
        others: Any = self.connections
        return sum(self.peer is not None and other.peer == self.peer for other in others)

    def _expect_headers(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(HEADER_SECONDS, self.transport.abort)

    def data_received(self, data: bytes) -> None:
        """Read on, unless the headers have grown too long."""
        if self.transport.is_closing():
            return
        if self._header_bytes is not None:
            self._header_bytes += len(data)
            if self._header_bytes > LONGEST_HEADERS:
                self.transport.abort()
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """A request's first byte has come."""
        self._expect_headers()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """All headers have come."""
        self._stop_timer()
        self._header_bytes = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body has come; whatever follows are headers."""
        self._header_bytes = 0
        super().on_message_complete()

    def pause_writing(self) -> None:
        """More is waiting than may; the client has so long to read it."""
        self._unread = self.loop.call_later(WRITE_SECONDS, self.transport.abort)
        super().pause_writing()

    def resume_writing(self) -> None:
        """It has read."""
        self._stop_waiting()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection; one with something unread would not close by itself."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is left of it."""
        self._stop_timer()
        self._stop_waiting()
        super().connection_lost(exc)

    def _stop_waiting(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
