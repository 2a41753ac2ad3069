"""Clients' requests, kept while a run is not finished: nobody is asked twice, nobody pays twice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from sglora_fed.errors import RepliesError, ResultsError
from sglora_fed.federation.describe import Requests, collect_requests
from sglora_fed.federation.exchange import Federation
from sglora_fed.federation.terms import Agreement
from sglora_fed.files import write_atomically

NAMES, RELEASED = "requests.json", "requests.safetensors"


def requests_of(federation: Federation, agreement: Agreement, folder: Path) -> Requests:
    """What clients released in the run that is continued, or what they release now.

    Nodes have other ids in each run; who they are is told by their partitions.

    Args:
        federation: whose nodes have answered before.
        agreement: mechanism and terms of the releases.
        folder: where they are kept.

    Raises:
        RepliesError: when too few nodes answer, or one that had clients is away.
        ResultsError: when a file is damaged, or the disk is full.
    """
    if not (folder / NAMES).exists():
        found = collect_requests(federation, agreement)
        _keep(federation, found, folder)
        return found
    try:
        told = json.loads((folder / NAMES).read_text(encoding="utf-8"))
        own_ids, partitions = tuple(told["own_ids"]), np.array(told["partitions"])
        released = load((folder / RELEASED).read_bytes())["released"]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ResultsError(f"{folder} holds damaged requests; remove it") from error
    nodes = np.empty(len(own_ids), object)
    for partition in np.unique(partitions):
        here = partitions == partition
        node = federation.roster.node_of(int(partition))
        nodes[here] = node
        federation.roster.bind(node, "clients", [own_ids[row] for row in np.flatnonzero(here)])
    names = [
        federation.roster.client_name(node, own) for node, own in zip(nodes, own_ids, strict=True)
    ]
    if names != told["names"]:
        raise RepliesError("the clients of the run that is continued were named in another order")
    return Requests(tuple(names), own_ids, nodes, released, agreement.decoded(released))


def _keep(federation: Federation, found: Requests, folder: Path) -> None:
    """The names last: they say that all is there."""
    place = federation.roster.place
    partitions = [place(node)[0] for node in found.nodes]
    released = np.ascontiguousarray(found.released)
    write_atomically(folder / RELEASED, save({"released": released}))
    told = {"names": found.names, "own_ids": found.own_ids, "partitions": partitions}
    write_atomically(folder / NAMES, json.dumps(told).encode())
