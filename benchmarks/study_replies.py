"""What a study does to nodes' replies between client and server: junk, silence, lies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from flwr.app import Array, Message
from flwr.clientapp import ClientApp

from sglora_fed.adapters.layout import Layout
from sglora_fed.backbones import load_describer
from sglora_fed.config.schema import RunConfig
from sglora_fed.federation.describe import DESCRIBE
from sglora_fed.federation.enrol import ENROL
from sglora_fed.federation.inprocess import InProcessGrid
from sglora_fed.federation.layouts import run_layout
from sglora_fed.federation.private import ROUND, SHARED

JUNK = "please remember to water the plants on the balcony"
"""A sentence that describes no task of any family."""

Edit = Callable[[Message, Message], None]
"""Given a request and the node's honest reply, which it changes in place."""

Change = Callable[[RunConfig], Edit]
"""From a run's configuration to what happens to its replies."""


class ChangedGrid(InProcessGrid):
    """The in-process grid whose server gets changed replies.

    Args:
        app: the client app.
        nodes: number of nodes.
        run_config: what every context carries.
        edit: changes each reply.
    """

    def __init__(
        self, app: ClientApp, nodes: int, run_config: Mapping[str, str], edit: Edit
    ) -> None:
        super().__init__(app, nodes, run_config)
        self._edit = edit

    def _answer(self, message: Message) -> Message | None:
        reply = super()._answer(message)
        if reply is not None and not reply.has_error():
            self._edit(message, reply)
        return reply


def honest(_: RunConfig) -> Edit:
    """Leaves every reply as it is."""
    return lambda request, reply: None


def junk(config: RunConfig) -> Edit:
    """Every client's request is that of one sentence without a task."""
    row = np.asarray(load_describer(config.backbone).encode([JUNK]))

    def edit(request: Message, reply: Message) -> None:
        if request.metadata.message_type == DESCRIBE:
            _set(reply, "embeddings", lambda rows: np.broadcast_to(row, rows.shape))

    return edit


def experts_of(nodes: int) -> Change:
    """Only the first nodes have experts; all have clients."""

    def edit(request: Message, reply: Message) -> None:
        if request.metadata.message_type == ENROL and _partition(reply) >= nodes:
            for name in ("ids", "task_digests", "trained"):
                _record(reply, "fields")[name] = []
            for name in ("wordings", "means", "variances", "examples"):
                _set(reply, name, lambda rows: rows[:0])

    return lambda config: edit


def flipped(config: RunConfig) -> Edit:
    """The first node sends the opposite of what its experts learnt, in every exchange."""
    layout = run_layout(config)

    def edit(request: Message, reply: Message) -> None:
        kind = request.metadata.message_type
        if kind == ENROL and _partition(reply) == 0:
            _set(reply, "means", lambda rows: negated(rows, layout))
        if kind == SHARED and _partition(reply) == 0:
            start = _record(request, "arrays")["start"].numpy()
            _set(reply, "mean", lambda mean: 2 * start - mean)
        if kind == ROUND and _partition(reply) == 0:
            _set(reply, "updates", lambda rows: -rows)

    return edit


def negated(rows: np.ndarray, layout: Layout) -> np.ndarray:
    """[n, D] adapters with the opposite effect: B is negated, A is not."""
    rows = rows.copy()
    for _, b in layout.unpack(torch.from_numpy(rows)).values():
        b *= -1
    return rows


def _partition(reply: Message) -> int:
    return int(_record(reply, "fields")["partition"])


def _record(message: Message, name: str) -> Any:
    return message.content[name]


def _set(reply: Message, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    arrays = _record(reply, "arrays")
    old = arrays[name].numpy()
    arrays[name] = Array(np.ascontiguousarray(change(old), dtype=old.dtype))
