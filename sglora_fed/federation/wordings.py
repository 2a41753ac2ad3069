"""What the server has of an expert's description: its own wordings, or those of a public list.

With ``privacy.experts=catalogue`` one place leaves the node. The server puts wordings of that entry
where the expert's would be, so whatever is made of a zoo, rounds too, knows those alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np

from sglora_fed.backbones import load_describer
from sglora_fed.backbones.types import Describer
from sglora_fed.config.schema import IN_CLEAR, RunConfig
from sglora_fed.federation.describe import let_out
from sglora_fed.federation.node import Node
from sglora_fed.federation.readings import run_catalogue
from sglora_fed.federation.terms import Terms, agree_on_experts, check_terms
from sglora_fed.privacy.catalogue import Catalogue
from sglora_fed.tasks.types import Task

WORDINGS = 8
"""Wordings of its description that an expert has: one user's words must not decide alone."""


@dataclass(frozen=True)
class Listed:
    """The catalogue in place of experts' words.

    Attributes:
        catalogue: the public list.
        describer: that embeds its entries.
    """

    catalogue: Catalogue
    describer: Describer

    def wordings(self, places: np.ndarray) -> np.ndarray:
        """[n, W, d] unit embeddings of W wordings of the entries at [n, 1] places."""
        texts = [some_of(self.catalogue.wordings[place]) for place in places[:, 0]]
        return _embedded(texts, self.describer)


def listed(config: RunConfig) -> Listed | None:
    """What takes the place of experts' words in a run; None where they come themselves.

    Raises:
        CatalogueError: when there is no catalogue for the family, or it cannot be used.
    """
    if config.privacy.experts == IN_CLEAR:
        return None
    return Listed(run_catalogue(config), load_describer(config.backbone))


def told_of(node: Node, tasks: Sequence[Task], catalogue: str) -> np.ndarray:
    """What leaves of some experts' descriptions.

    Args:
        node: theirs.
        tasks: n experts.
        catalogue: hash of the server's list; empty where it wants the words.

    Returns:
        [n, W, d] unit embeddings of their wordings, or [n, 1] uint16 places.

    Raises:
        PromiseError: when the run asks for less than the node promises; nothing was drawn.
        CatalogueError: when the two sides do not mean the same; nor then.
        BudgetError, LedgerError: when it cannot be paid; nothing leaves.
    """
    privacy = node.config.privacy
    node.floor.check_experts(privacy.experts_epsilon)
    own = None if privacy.experts == IN_CLEAR else node.catalogue
    agreement = agree_on_experts(node.config, node.describer, own)
    check_terms(agreement, Terms(catalogue))
    if (snap := agreement.snap) is None:
        texts = [some_of((task.description, *task.paraphrases)) for task in tasks]
        return _embedded(texts, node.describer)
    said = [task.description for task in tasks]
    clear = node.embed(said)
    if privacy.experts_epsilon is None:
        places = [snap.nearest(embedding, 1) for embedding in clear]
        return np.array(places, np.uint16).reshape(len(tasks), 1)
    if not tasks:
        return np.empty((0, 1), np.uint16)
    names = [task.id for task in tasks]
    return let_out(agreement, node.describer, node.floor, names, said, clear)


def some_of(texts: Sequence[str]) -> list[str]:
    """W of somebody's wordings, from the first on and over again."""
    return list(islice(cycle(texts), WORDINGS))


def _embedded(texts: Sequence[Sequence[str]], describer: Describer) -> np.ndarray:
    """[n, W, d] of n times W texts."""
    if not texts:
        return np.empty((0, WORDINGS, describer.dim), np.float32)
    rows = np.asarray(describer.encode([text for some in texts for text in some]), np.float32)
    return rows.reshape(len(texts), WORDINGS, describer.dim)
