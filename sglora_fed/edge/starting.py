"""A new node's folder, and the command that connects it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sglora_fed.config.schema import MECHANISMS
from sglora_fed.edge.certificates import AUTHORITY, NODE_KEY
from sglora_fed.edge.settings import OwnNode, node_toml
from sglora_fed.errors import FloorError, NodeFileError
from sglora_fed.files import private_files
from sglora_fed.privacy.floor import CLEAR, NOTHING_SENT, SIMULATED, Floor, floor_of
from sglora_fed.privacy.ledger import create_ledger

LEDGER, FLOWER = "ledger", "flower"

NOT_COUNTED = (CLEAR, NOTHING_SENT, SIMULATED)
"""Mechanisms that no table of a new node names."""

PROMISE: Mapping[str, float] = {
    "epsilon": 8.0,
    "delta": 1e-6,
    "total_epsilon": 24.0,
    "total_delta": 3e-6,
}
"""What a node promises whose owner says nothing else: three descriptions at epsilon 8."""


@dataclass(frozen=True)
class Connection:
    """Where a node's SuperLink is, and what makes the connection safe.

    Attributes:
        superlink: ``HOST:PORT``.
        port: of the SuperNode itself, on loopback.
        certificates: folder of the node's key and the authority's certificate; None: plaintext.
    """

    superlink: str
    port: int
    certificates: Path | None


def promise(clear: bool, given: Mapping[str, float | None]) -> dict[str, Any]:
    """The table ``[privacy]`` of a new node.

    Args:
        clear: descriptions may go in clear.
        given: numbers of the table, in place of those of ``PROMISE``.

    Raises:
        FloorError: for numbers beside ``clear``, of which none would hold.
    """
    told = {name: value for name, value in given.items() if value is not None}
    if clear and told:
        raise FloorError(f"clear promises nothing: leave it out, or {', '.join(told)}")
    if clear:
        return {"mechanisms": [CLEAR]}
    numbers = {name: told.get(name, value) for name, value in PROMISE.items()}
    counted = [name for name in MECHANISMS if name not in NOT_COUNTED]
    return {"mechanisms": counted, **numbers, "ledger": LEDGER}


def make_node(node: OwnNode, privacy: Mapping[str, Any]) -> Floor:
    """Write a new node's folder: its file, and the ledger where it counts what it releases.

    Args:
        node: what to write; its folder is made, or empty.
        privacy: its table ``[privacy]``.

    Raises:
        NodeFileError: when the folder holds something, or cannot be written.
        FloorError: when the table is impossible; nothing is written then.
        LedgerError: when the ledger cannot be made.
    """
    floor = floor_of(privacy, node.folder)
    try:
        node.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(node.folder.iterdir()):
            raise NodeFileError(f"{node.folder} is not empty; choose a new folder")
        with private_files():
            if floor.ledger is not None:
                create_ledger(floor.ledger)
            (node.folder / FLOWER).mkdir()
            node.file.write_text(node_toml(node, privacy), encoding="utf-8")
    except OSError as error:
        raise NodeFileError(f"{node.folder} cannot be made: {error.strerror}") from error
    return floor


def environment(node: OwnNode) -> dict[str, str]:
    """What a node's SuperNode needs in its environment: a home of its own, and no calls home."""
    return {
        "FLWR_HOME": str(node.folder / FLOWER),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
    }


def supernode_command(node: OwnNode, connection: Connection) -> list[str]:
    """What starts a node's SuperNode.

    Raises:
        NodeFileError: when the SuperLink has no port, a certificate is missing, or the file's name
            cannot be told to Flower.
    """
    host, _, port = connection.superlink.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or "/" in host:
        raise NodeFileError(f"superlink {connection.superlink!r}; need HOST:PORT")
    command = ["flower-supernode", "--superlink", connection.superlink]
    if connection.certificates is None:
        command.append("--insecure")
    else:
        folder = connection.certificates
        if missing := [name for name in (AUTHORITY, NODE_KEY) if not (folder / name).is_file()]:
            raise NodeFileError(f"{folder} has no {', '.join(missing)}; certs init makes them")
        command += ["--root-certificates", str(folder / AUTHORITY)]
        command += ["--auth-supernode-private-key", str(folder / NODE_KEY)]
    # A TOML text in single quotes takes every path but one that holds such a quote.
    if "'" in str(node.file) or '"' in str(node.file):
        raise NodeFileError(f"{node.file} holds a quote; Flower's command cannot name it")
    command += ["--port", str(connection.port), "--node-config", f'node="{node.file}"']
    return command


def shell_line(node: OwnNode, connection: Connection) -> str:
    """The command with its environment, to be copied; files that it makes are its owner's alone."""
    told = [f"{name}={shlex.quote(value)}" for name, value in environment(node).items()]
    return " ".join(["umask 077;", *told, shlex.join(supernode_command(node, connection))])
