"""Starts the endpoint and keeps it up until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import socket
import sys
import time
from dataclasses import dataclass
from types import FrameType
from typing import Any

import uvicorn

from sglora_fed.errors import CertificateError, EndpointError
from sglora_fed.generators.export import Export
from sglora_fed.serving.app import Service, make_app
from sglora_fed.serving.connection import Connection
from sglora_fed.serving.guard import LOG
from sglora_fed.serving.limits import Budget, Limits
from sglora_fed.serving.revoked import Revoked
from sglora_fed.serving.tls import Files, audience_of, server_context
from sglora_fed.signals import handled

LOOPBACKS = ("127.0.0.1", "::1", "localhost")

IDLE_SECONDS = 60
"""For which a connection without a request stays open."""

HANDSHAKE_SECONDS = 5.0
"""For whoever connects to show a certificate."""

GOODBYE_SECONDS = 1.0
"""For the other end to agree that a connection ends."""

STOP_SECONDS = 5
"""For requests that are being answered when the endpoint is told to stop."""


@dataclass(frozen=True)
class Where:
    """Where an endpoint listens.

    Attributes:
        host: an address of this machine.
        port: 0 for any that is free.
        files: certificates; None for plain HTTP, on loopback only.

    Raises:
        EndpointError: for plain HTTP on another address.
    """

    host: str = "127.0.0.1"
    port: int = 8443
    files: Files | None = None

    def __post_init__(self) -> None:
        if self.files is None and self.host not in LOOPBACKS:
            raise EndpointError(
                f"host {self.host}: without certificates the endpoint is bound to loopback only,"
                f" one of {', '.join(LOOPBACKS)}"
            )

    def listening(self) -> socket.socket:
        """A socket of this address.

        Raises:
            EndpointError: when it cannot be had.
        """
        try:
            family, _, _, _, address = socket.getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM
            )[0]
            found = socket.socket(family, socket.SOCK_STREAM)
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
            found.listen()
        except OSError as error:
            raise EndpointError(f"{self.host}:{self.port}: {error.strerror or error}") from error
        return found


LOOK_TICKS = 10
"""Ticks, of a tenth of a second, between two looks at the list of revoked certificates."""


class Server(uvicorn.Server):
    """One that waits for a handshake no longer than for anything else.

    Args:
        config: of uvicorn.
        revoked: certificates that are not let in, or not any longer.
    """

    def __init__(self, config: uvicorn.Config, revoked: Revoked | None) -> None:
        super().__init__(config)
        self._revoked = revoked

    async def on_tick(self, counter: int) -> bool:
        """Look whether more are revoked."""
        if self._revoked is not None and counter % LOOK_TICKS == 0:
            self._reread(self._revoked)
        return await super().on_tick(counter)

    def _reread(self, revoked: Revoked) -> None:
        """Cut the connections of those that a new list names; a bad list changes nothing."""
        try:
            if not revoked.reread():
                return
        except CertificateError as error:
            LOG.error(json.dumps({"time": round(time.time(), 3), "crl": str(error)}))
            return
        for one in list(self.server_state.connections):
            if isinstance(one, Connection) and one.is_revoked():
                one.transport.abort()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen at sockets that are bound."""
        config, loop, self.servers = self.config, asyncio.get_running_loop(), []
        told: dict[str, Any] = {}
        if config.ssl:
            told = {
                "ssl_handshake_timeout": HANDSHAKE_SECONDS,
                "ssl_shutdown_timeout": GOODBYE_SECONDS,
            }

        def connection() -> asyncio.Protocol:
            made = Connection(config, self.server_state, {})
            made.revoked = self._revoked
            return made

        for one in sockets or []:
            self.servers.append(
                await loop.create_server(
                    connection, sock=one, ssl=config.ssl, backlog=config.backlog, **told
                )
            )
        self.started = True


def server_of(app: Any, files: Files | None) -> Server:
    """A server that is not running yet.

    Raises:
        CertificateError: when a certificate cannot be used.
    """
    context, revoked = server_context(files) if files else None, None
    if files and context and files.revoked:
        revoked = Revoked(files.revoked, files.authority, context)
    config = uvicorn.Config(
        app,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
        ssl_context_factory=(lambda *_: context) if context else None,
    )
    return Server(config, revoked)


def serve_export(
    export: Export, where: Where, limits: Limits, budget: Budget | None, page: bool
) -> None:
    """Answer requests for an exported generator's adapters until a signal says stop.

    Args:
        export: the generator.
        where: to listen.
        limits: of each client.
        budget: of each client, or None.
        page: whether there is a page to look at; for the cameras alone.

    Raises:
        EndpointError: when the address cannot be had, or the page is not of this generator.
        CertificateError: when a certificate cannot be used.
        ResultsError: when the file of the budget cannot be used.
    """
    service = Service(export, audience_of(where.files) if where.files else None, limits, budget)
    app = make_app(service)
    if page:
        from sglora_fed.serving.page import add_page  # the backbone takes seconds to load

        add_page(app, service)
    log_to(sys.stderr)
    server, listening = server_of(app, where.files), where.listening()
    # What is loaded stays: the collector need not go through it while requests wait.
    gc.collect()
    gc.freeze()
    host, port = listening.getsockname()[:2]
    LOG.info(json.dumps({"listening": f"{host}:{port}", "tls": where.files is not None}))
    try:
        with handled(_stop):
            server.run(sockets=[listening])
    finally:
        service.close()
        listening.close()


def _stop(_number: int, _frame: FrameType | None) -> None:
    """Leave as told; uvicorn, once it has answered what it was answering, raises a signal again."""
    sys.exit(0)


def log_to(stream: Any) -> None:
    """Lines of JSON, as they are; uvicorn's own below warnings are not told."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s"))
    LOG.handlers, LOG.propagate = [handler], False
    LOG.setLevel(logging.INFO)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
