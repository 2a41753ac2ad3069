"""A Grid in this process: the unmodified apps without SuperLink, Ray or network."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from uuid import uuid4

from flwr.app import Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from sglora_fed.federation.virtual import VirtualContext

ERROR_IN_CLIENT_APP = 2
"""Flower's own code for an exception in a client app."""


class InProcessGrid(Grid):
    """Runs one client app for several nodes, one message after the other.

    Args:
        app: the client app.
        nodes: number of nodes; they get partition ids 0, 1, ...
        run_config: what every context carries.
    """

    def __init__(
        self, app: ClientApp, nodes: int, run_config: Mapping[str, str | int | float | bool]
    ) -> None:
        # A message asks Flower's process-wide identity who sends it; outside a run nobody set it.
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
        self._app = app
        run_id = secrets.randbelow(2**62)  # each has ledgers of its own, as in Flower
        self._contexts = {
            1000 + i: VirtualContext(
                run_id=run_id,
                node_id=1000 + i,
                node_config={"partition-id": i, "num-partitions": nodes},
                state=RecordDict(),
                run_config=dict(run_config),
            )
            for i in range(nodes)
        }
        self._replies: dict[str, Message] = {}

    def set_run(self, run: Run) -> None:
        """There is one run only."""

    @property
    def run(self) -> Run:
        """An empty run."""
        return Run.create_empty(1)

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """A message to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """All nodes; none comes or goes."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Answer each message now and keep the reply."""
        ids = []
        for message in messages:
            ids.append(uuid4().hex)
            if (reply := self._answer(message)) is not None:
                self._replies[ids[-1]] = reply
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies to some messages, once."""
        return [self._replies.pop(name) for name in message_ids if name in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Push, then pull."""
        return self.pull_messages(self.push_messages(messages))

    def _answer(self, message: Message) -> Message | None:
        """What the node answers; None where nothing comes back."""
        try:
            return self._app(message, self._contexts[message.metadata.dst_node_id])
        except Exception as error:  # noqa: BLE001 - as Flower does: a failing app is an error reply
            reason = f"{type(error)}:<'{error}'>"
            return Message(Error(ERROR_IN_CLIENT_APP, reason), reply_to=message)
