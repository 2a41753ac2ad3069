"""What a node of one's own answers: it describes its task, and keeps the adapter that comes.

It has no experts and measures nothing for anybody else; whatever else is asked is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
from flwr.app import RecordDict

from sglora_fed.adapters.layout import check_vectors
from sglora_fed.adapters.start import norm_bound
from sglora_fed.backbones import light_backbone, light_describer
from sglora_fed.backbones.types import Describer, PlainEncoder
from sglora_fed.backbones.weights import base_model
from sglora_fed.config.schema import ITEMS, RunConfig
from sglora_fed.edge.data import own_task
from sglora_fed.edge.settings import OwnNode
from sglora_fed.edge.shelf import note_contact, put
from sglora_fed.errors import MessageError, SgloraError
from sglora_fed.federation.adopt import ADOPT, AdoptReply, AdoptRequest, taken
from sglora_fed.federation.describe import DESCRIBE, DescribeRequest, describe
from sglora_fed.federation.node import Node
from sglora_fed.files import private_files
from sglora_fed.privacy.floor import read_floor
from sglora_fed.tasks.types import Task


@dataclass(frozen=True, eq=False)
class OwnersNode(Node):
    """A node whose one client is its owner; it describes without torch.

    Attributes:
        task: the owner's.
    """

    task: Task | None = None

    @cached_property
    def describer(self) -> Describer:
        """The description encoder, in NumPy."""
        return light_describer(self.config.backbone)

    @cached_property
    def plain(self) -> PlainEncoder | None:
        """The backbone in NumPy, for an adapter or a few and some hundred examples."""
        return light_backbone(self.config.backbone)

    @cached_property
    def clients(self) -> Mapping[str, Task]:
        """The owner, by the name in the node's file."""
        return {} if self.task is None else {self.task.id: self.task}


class Answers:
    """A node's answers in a run.

    Args:
        own: the node's own file.
        config: of the run, as the server wishes it.
    """

    def __init__(self, own: OwnNode, config: RunConfig) -> None:
        self._own, self._config = own, config

    def answer(self, kind: str, body: RecordDict) -> RecordDict:
        """The body of the reply to a message; the contact is noted, whatever becomes of it.

        Raises:
            MessageError: for another kind of message, or a wrong body.
            SgloraError: of any part; nothing has changed on the node but the note.
        """
        known: dict[str, Callable[[RecordDict], RecordDict]] = {
            DESCRIBE: self._describe,
            ADOPT: self._adopt,
        }
        outcome = "failed"
        with private_files():
            try:
                if kind not in known:
                    raise MessageError(f"{kind}: a node of one's own describes and adopts alone")
                made = known[kind](body)
                outcome = "done"
            except SgloraError as error:
                outcome = f"SGL-{error.code}"
                raise
            finally:
                note_contact(self._own, kind, outcome)
        return made

    @cached_property
    def _node(self) -> OwnersNode:
        task = own_task(self._own, ITEMS[self._config.backbone.name])
        floor = read_floor(self._own.file)
        return OwnersNode(self._config, 0, 1, None, floor, task)

    def _describe(self, body: RecordDict) -> RecordDict:
        return describe(self._node, DescribeRequest.parse(body)).pack()

    def _adopt(self, body: RecordDict) -> RecordDict:
        layout = self._node.layout
        request = AdoptRequest.parse(body, layout.size)
        if request.ids != (self._own.name,):
            raise MessageError(f"adapters for {len(request.ids)} clients; need one, for this node")
        check_vectors(request.adapters, layout, norm_bound(layout))
        (vector,) = taken(self._node, request)
        backbone = self._config.backbone
        told = {
            "description_sha256": self._own.description_sha256,
            "generator_sha256": request.made_by or None,
            "confidence": request.confidence_of(0),
            "backbone": asdict(backbone),
            "layout": layout.to_dict(),
            "measured": self._measured(vector),
        }
        put(self._own, vector, layout, base_model(backbone.path, backbone.revision), told)
        return AdoptReply(0, request.ids).pack()

    def _measured(self, vector: np.ndarray) -> dict[str, dict[str, float]] | None:
        """With and without the adapter, where the node has examples of its own."""
        task = self._node.clients[self._own.name]
        if not task.test:
            return None
        from sglora_fed.edge.measuring import measured  # the model is loaded for this alone

        return measured(self._node, task, vector)
