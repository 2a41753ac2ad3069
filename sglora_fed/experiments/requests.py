"""Clients' requests, in files until a run is finished: nobody is asked twice, nobody pays twice."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from flwr.app import RecordDict

from sglora_fed.errors import MessageError, RepliesError, ResultsError
from sglora_fed.federation.describe import (
    DESCRIBE,
    Clients,
    DescribeReply,
    DescribeRequest,
    Requests,
    bytes_of,
    call_roll,
)
from sglora_fed.federation.exchange import Federation
from sglora_fed.federation.terms import Agreement
from sglora_fed.files import write_atomically
from sglora_fed.zoo.rows import Piece, Rows

CLIENTS, NAMES = "clients.json", "requests.json"
"""Who is asked; who has answered, once all have."""

RELEASED, KNOWN = "requests.bin", "known.bin"
"""A row for each client that is asked, and a byte that says whether it is there."""

AT_ONCE = 1024
"""Clients of all nodes whose requests are in memory together."""


def requests_of(federation: Federation, agreement: Agreement, folder: Path) -> Requests:
    """What clients released in the run that is continued, and what the others release now.

    Nodes have other ids in each run; who they are is told by their partitions.

    Args:
        federation: whose nodes have answered before.
        agreement: mechanism and terms of the releases.
        folder: where they are kept.

    Raises:
        RepliesError: when too few nodes answer, or one that had clients is away.
        ResultsError: when a file is damaged, or the disk is full.
    """
    if (folder / NAMES).exists():
        clients = _recalled(federation, folder, NAMES)
    else:
        clients = _answered(federation, agreement, folder)
    known = _known(agreement, folder)
    if len(clients.names) != known.sum():
        raise _damaged(folder)
    released = _released(agreement, folder, known)
    return Requests(clients.names, clients.own_ids, clients.nodes, released, agreement)


def _released(agreement: Agreement, folder: Path, known: np.ndarray) -> np.ndarray | Rows:
    """[n, ...] of those that are known."""
    form, rows = agreement.mechanism.form, np.flatnonzero(known)
    if not form.nbytes:
        return np.empty((len(rows), *form.shape), form.dtype)
    piece = Piece(folder / RELEASED, 0, len(known))
    return Rows((piece,), np.dtype(form.dtype), form.shape, rows)


def _answered(federation: Federation, agreement: Agreement, folder: Path) -> Clients:
    """Those who answer, when all have been asked whose requests are not there."""
    each = max(1, AT_ONCE // len(federation.nodes))
    if (folder / CLIENTS).exists():
        clients = _recalled(federation, folder, CLIENTS)
    else:
        clients, replies = call_roll(federation, agreement, each)
        _begin(folder, len(clients.names), agreement.mechanism.form.nbytes)
        _keep(federation, clients, folder / CLIENTS)
        for rows, released in replies:
            _put(agreement, folder, rows, released)
    _ask(federation, agreement, clients, folder, each)
    here = np.flatnonzero(_known(agreement, folder))
    if not len(here):
        raise RepliesError(f"{DESCRIBE}: none of {len(clients.names)} clients answered")
    answered = Clients(
        tuple(clients.names[row] for row in here), clients.called(here), clients.nodes[here]
    )
    _keep(federation, answered, folder / NAMES)
    return answered


def _ask(
    federation: Federation, agreement: Agreement, clients: Clients, folder: Path, each: int
) -> None:
    """Ask those whose requests are not there, some at a time."""
    known, every = _known(agreement, folder), len(clients.names)
    if len(known) != every:
        raise _damaged(folder)
    missing, done = np.flatnonzero(~known), int(known.sum())
    report = federation.reporter("describe")
    report(done, every)
    rounds = list(_pieces(clients.nodes, missing, each))
    asked = (
        {
            node: DescribeRequest(federation.seed, agreement.terms, clients.called(rows))
            for node, rows in some.items()
        }
        for some in rounds
    )

    def parse(request: DescribeRequest, body: RecordDict) -> DescribeReply:
        reply = DescribeReply.parse(body, agreement)
        if reply.ids != request.ids:
            raise MessageError(f"requests of {len(reply.ids)} clients are not those asked for")
        return reply

    replies = federation.ask_ahead(DESCRIBE, asked, parse, bytes_of(agreement, each))
    for some, found in zip(rounds, replies, strict=True):
        for node, reply in found.items():
            _put(agreement, folder, some[node], reply.released)
            done += len(reply.ids)
        report(done, every)


def _pieces(nodes: np.ndarray, rows: np.ndarray, each: int) -> Iterator[dict[int, np.ndarray]]:
    """Message by message, node -> so many of its rows at most."""
    own = {node: rows[nodes[rows] == node] for node in sorted(set(nodes[rows]))}
    for start in range(0, max(map(len, own.values()), default=0), each):
        some = {node: every[start : start + each] for node, every in own.items()}
        yield {node: here for node, here in some.items() if len(here)}


def _recalled(federation: Federation, folder: Path, name: str) -> Clients:
    try:
        told = json.loads((folder / name).read_text(encoding="utf-8"))
        own_ids, partitions = tuple(told["own_ids"]), np.array(told["partitions"], np.int64)
        before = told["names"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(folder) from error
    if partitions.shape != (len(own_ids),):
        raise _damaged(folder)
    nodes = np.empty(len(own_ids), object)
    for partition in np.unique(partitions):
        here = partitions == partition
        node = federation.roster.node_of(int(partition))
        nodes[here] = node
        federation.roster.bind(node, "clients", [own_ids[row] for row in np.flatnonzero(here)])
    names = [
        federation.roster.client_name(node, own) for node, own in zip(nodes, own_ids, strict=True)
    ]
    if names != before:
        raise RepliesError("the clients of the run that is continued were named in another order")
    return Clients(tuple(names), own_ids, nodes)


def _keep(federation: Federation, clients: Clients, path: Path) -> None:
    place = federation.roster.place
    partitions = [place(node)[0] for node in clients.nodes]
    told = {"names": clients.names, "own_ids": clients.own_ids, "partitions": partitions}
    write_atomically(path, json.dumps(told).encode())


def _begin(folder: Path, clients: int, size: int) -> None:
    """Files with room for all; the system gives a row its place when it is written."""
    try:
        for name, each in ((RELEASED, size), (KNOWN, 1)):
            with (folder / name).open("wb") as file:
                file.truncate(clients * each)
    except OSError as error:
        raise ResultsError(f"{folder} cannot be written: {error.strerror}") from error


def _put(agreement: Agreement, folder: Path, rows: np.ndarray, released: np.ndarray) -> None:
    """Write some rows, then that they are there: whatever ends the run, what is known is whole."""
    released = released.astype(agreement.mechanism.form.dtype, copy=False)
    _write(folder / RELEASED, rows, [one.tobytes() for one in released])
    _write(folder / KNOWN, rows, [b"\1"] * len(rows))


def _write(path: Path, rows: np.ndarray, values: list[bytes]) -> None:
    try:
        with path.open("r+b") as file:
            for row, value in zip(rows.tolist(), values, strict=True):
                file.seek(row * len(value))
                file.write(value)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ResultsError(f"{path} cannot be written: {error.strerror}") from error


def _known(agreement: Agreement, folder: Path) -> np.ndarray:
    """[n] whether each client's request is there."""
    try:
        known = np.frombuffer((folder / KNOWN).read_bytes(), np.uint8)
        size = (folder / RELEASED).stat().st_size
    except OSError as error:
        raise _damaged(folder) from error
    if known.max(initial=0) > 1 or size != len(known) * agreement.mechanism.form.nbytes:
        raise _damaged(folder)
    return known.astype(bool)


def _damaged(folder: Path) -> ResultsError:
    return ResultsError(f"{folder} holds damaged requests; remove it")
