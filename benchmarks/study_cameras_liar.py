"""One expert that sends the opposite of what it learnt, among honest ones on the same node."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flwr.app import Array, Message

from client.app import app
from sglora_fed.config import compose
from sglora_fed.federation.enrol import ENROL
from sglora_fed.federation.inprocess import InProcessGrid
from sglora_fed.federation.layouts import run_layout
from sglora_fed.federation.private import ROUND, SHARED
from sglora_fed.federation.shared import SharedReply, SharedRequest
from study_replies import negated

LIAR = "camera-expert-001"


class OneLiar(InProcessGrid):
    """The nodes, one of whose experts lies.

    Args:
        enrols: it lies from its enrolment on, else in the rounds alone.
        nodes: number of nodes.
        run_config: what every context carries.
    """

    def __init__(self, enrols: bool, nodes: int, run_config: Mapping[str, str]) -> None:
        super().__init__(app, nodes, run_config)
        self._layout = run_layout(compose(shlex.split(run_config["overrides"])))
        self._lies: dict[str, Callable[[Message, Message, int], None]] = {
            SHARED: self._shared,
            ROUND: self._round,
        }
        if enrols:
            self._lies[ENROL] = self._enrol

    def _answer(self, message: Message) -> Message | None:
        reply = super()._answer(message)
        lie = self._lies.get(message.metadata.message_type)
        if lie and reply is not None and not reply.has_error():
            fields = _record(reply, "fields")
            names = list(fields["trained"] if "trained" in fields else fields["ids"])
            if LIAR in names:
                lie(message, reply, names.index(LIAR))
        return reply

    def _enrol(self, message: Message, reply: Message, row: int) -> None:
        def turned(means: np.ndarray) -> None:
            means[row] = negated(means[row : row + 1], self._layout)[0]

        _change(reply, "means", turned)

    def _round(self, message: Message, reply: Message, row: int) -> None:
        def turned(updates: np.ndarray) -> None:
            updates[row] *= -1

        _change(reply, "updates", turned)

    def _shared(self, message: Message, reply: Message, row: int) -> None:
        """Asked for alone, its own LoRA is known, and what its node's mean would be without it."""
        request = SharedRequest.parse(message.content, self._layout.size)
        alone = SharedRequest(request.seed, request.round, (LIAR,), request.start)
        answer = super()._answer(Message(alone.pack(), message.metadata.dst_node_id, SHARED))
        assert answer is not None
        own = SharedReply.parse(answer.content, self._layout.size).mean
        count = len(list(_record(reply, "fields")["ids"]))

        def turned(mean: np.ndarray) -> None:
            mean += 2 * (request.start - own) / count

        _change(reply, "mean", turned)


def _record(message: Message, name: str) -> Any:
    return message.content[name]


def _change(reply: Message, name: str, change: Callable[[np.ndarray], None]) -> None:
    """An array of a reply, changed in place."""
    arrays = _record(reply, "arrays")
    values = arrays[name].numpy().copy()
    change(values)
    arrays[name] = Array(values)
