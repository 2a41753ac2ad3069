"""Flower's SuperLink for the user who started it, and for nobody else on the machine.

Flower's open-source SuperLink has no accounts: whoever reaches its port may submit code, which runs
as its owner. On loopback that is every local user. TLS would not help, because it proves who the
server is and not who calls. So every request is checked against the kernel's table of connections,
which knows the owner of the calling socket.

``python -m sglora_fed.launching.guarded FILE`` serves a simulation on a free port of loopback and
writes the port to the file.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import uvicorn
from flwr.supercore.http_logging import get_uvicorn_log_config
from flwr.supercore.logger import console_handler
from flwr.superlink.cli.flower_superlink import SuperLinkLifespan, _parse_superlink_lifespan_config
from flwr.superlink.main import create_app
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from sglora_fed.files import write_atomically
from sglora_fed.launching.processes import CONNECTIONS

LOOPBACK = "127.0.0.1"
ESTABLISHED = "01"
Address = tuple[str, int]


def own_user_only(app: ASGIApp) -> ASGIApp:
    """The same application, closed (403) to connections of other users of this machine."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or is_ours(scope["client"], scope["server"]):
            await app(scope, receive, send)
        else:
            refusal = PlainTextResponse("this SuperLink serves its own user", status_code=403)
            await refusal(scope, receive, send)

    return guarded


def is_ours(caller: Address, server: Address) -> bool:
    """Whether the process at the other end of a connection runs as our user.

    Args:
        caller: host and port of the other end.
        server: host and port of our end.
    """
    ends = [_hexadecimal(caller), _hexadecimal(server)]
    rows = (row.split() for row in CONNECTIONS.read_text().splitlines()[1:])
    # A socket that its process has closed has no inode, and the kernel calls root its owner.
    return any(
        row[1:4] == [*ends, ESTABLISHED] and row[7] == str(os.geteuid()) and row[9] != "0"
        for row in rows
    )


def _hexadecimal(address: Address) -> str:
    """An IPv4 address as the kernel writes it: its four bytes as one number of this machine."""
    host = int.from_bytes(socket.inet_aton(address[0]), sys.byteorder)
    return f"{host:08X}:{address[1]:04X}"


def serve(port_file: Path) -> None:
    """Serve a simulation until a signal; the port is ours before anything asks for it."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        port = str(listener.getsockname()[1])
        sys.argv[1:] = ["--insecure", "--simulation", "--host", LOOPBACK, "--port", port]
        config = _parse_superlink_lifespan_config()
        app = create_app(config, SuperLinkLifespan)
        logging = get_uvicorn_log_config(console_handler.level)
        guarded = own_user_only(app) if CONNECTIONS.exists() else app
        server = uvicorn.Server(uvicorn.Config(guarded, log_config=logging))
        write_atomically(port_file, port.encode())
        server.run(sockets=[listener])


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
