"""From a description to an adapter on the disk, by way of the endpoint.

What leaves is what the configured mechanism releases, debited in the ledger first; which of several
adapters is kept stays here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from sglora_fed.backbones import load_describer
from sglora_fed.backbones.weights import base_model
from sglora_fed.config import RunConfig
from sglora_fed.config.schema import ITEMS
from sglora_fed.edge.answering import OwnersNode
from sglora_fed.edge.data import own_task
from sglora_fed.edge.settings import OwnNode
from sglora_fed.edge.shelf import note_contact, put
from sglora_fed.errors import EndpointError
from sglora_fed.federation.answers import chosen
from sglora_fed.federation.describe import let_out
from sglora_fed.federation.readings import check_count, is_read
from sglora_fed.federation.terms import agree
from sglora_fed.privacy.floor import Floor, read_floor
from sglora_fed.privacy.mechanisms import promise
from sglora_fed.serving.client import Answer, EndpointClient
from sglora_fed.serving.wire import AdapterRequest
from sglora_fed.tasks.types import Task


@dataclass(frozen=True)
class Asker:
    """Somebody who wants an adapter.

    Attributes:
        task: its own; the ledger counts releases under its id, and its examples choose among
            several adapters.
        config: names the description encoder and the mechanism, which the floor may refuse.
        floor: the weakest promise that is kept, and the ledger.
    """

    task: Task
    config: RunConfig
    floor: Floor

    def ask(self, client: EndpointClient) -> Answer:
        """One adapter, checked: of those that came the one which suits the task best.

        The same description again sends the same bytes and costs nothing.

        Raises:
            PromiseError: for a mechanism that the floor does not allow.
            CatalogueError: when the catalogue cannot be used, or has too few entries.
            BudgetError, LedgerError: when it cannot be paid; nothing leaves.
            EndpointError: when the endpoint cannot be reached, refuses, or does not take what the
                mechanism releases.
            ReplyError: when what comes is not what was asked for.
        """
        describer = load_describer(self.config.backbone)
        self.floor.check(self.config.privacy.mechanism, *promise(self.config.privacy))
        agreement = agree(self.config, describer, own_catalogue=self.floor.catalogue)
        form = agreement.mechanism.form
        if not form.nbytes or form.dtype not in ("float16", "uint16"):
            raise EndpointError(
                f"{agreement.mechanism.name} sends neither an embedding nor places of a catalogue"
            )
        read = is_read(self.config, self.floor.catalogue)
        readings = self.config.generator.readings if read else 1
        if read and agreement.snap is not None:
            check_count(readings, len(agreement.snap.rows), own=0)
        said, own = [self.task.description], np.asarray(describer.encode([self.task.description]))
        released = let_out(agreement, describer, self.floor, [self.task.id], said, own)
        places = None if read or agreement.snap is None else released
        request = AdapterRequest(released[0], agreement.terms.catalogue, readings)
        answer = client.adapters(request)
        kept = chosen(self._node, [self.task], 0, answer.adapters[None], places)
        return Answer(kept, answer.generator)

    @property
    def _node(self) -> OwnersNode:
        """One that chooses; unlike a run's, this configuration is the owner's own."""
        told = self.config.privacy.catalogue
        named = self.floor.catalogue or (Path(told).expanduser() if told else None)
        floor = replace(self.floor, catalogue=named)
        return OwnersNode(self.config, 0, 1, None, floor, self.task)


def adopt(node: OwnNode, config: RunConfig, client: EndpointClient) -> Answer:
    """Ask for a node's adapter and put it where the node keeps its own, whole or not at all.

    Args:
        node: whose adapter it is; its file states the floor.
        config: as for :class:`Asker`.
        client: of the endpoint; its layout is that of the configuration.

    Raises:
        SgloraError: as :meth:`Asker.ask`, :func:`~sglora_fed.edge.data.own_task` and
            :func:`~sglora_fed.edge.shelf.put`; the adapter in use stays as it was then.
    """
    backbone = config.backbone
    task = own_task(node, ITEMS[backbone.name])
    made = Asker(task, config, read_floor(node.file)).ask(client)
    told = {
        "description_sha256": node.description_sha256,
        "generator_sha256": made.generator,
        "confidence": None,
        "backbone": asdict(backbone),
        "layout": client.layout.to_dict(),
        "measured": None,
    }
    base = base_model(backbone.path, backbone.revision)
    put(node, made.adapters[0], client.layout, base, told)
    note_contact(node, "fetch", "done")
    return made
