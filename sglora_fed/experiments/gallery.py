"""A few clients to look at: what they see, and what methods make of it.

No client's words or pictures are in any message. In a simulation they are here all the same, as the
configured family is; elsewhere there is no gallery. Texts that people wrote are shown nowhere.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from flwr.serverapp import Grid
from flwr.superlink.grid import InMemoryGrid
from PIL import Image
from torch import Tensor

from sglora_fed.backbones.pictures import read_picture
from sglora_fed.config.schema import SHARED_METHOD, FamilyConfig, RunConfig
from sglora_fed.federation.bench import Bench
from sglora_fed.federation.compare import Delivery
from sglora_fed.federation.describe import Requests, words
from sglora_fed.federation.exchange import Federation
from sglora_fed.federation.inprocess import InProcessGrid
from sglora_fed.federation.node import Node
from sglora_fed.results.gallery import Exhibit
from sglora_fed.tasks import load_family, unspoilt_family
from sglora_fed.tasks.types import ById, Item, Task

CLIENTS = 2
"""Of each split: the first by name with their first test pictures, so that none is chosen by its
result."""

BEST = {"retrieval": 3, "labelled": 1}
"""Candidate texts of each method."""

SIDE = 224
"""Pixels that a picture has at most along its longer side."""


def is_simulated(grid: Grid) -> bool:
    """Whether all nodes are played on this side of the network."""
    return isinstance(grid, InMemoryGrid | InProcessGrid)


def exhibits(federation: Federation, requests: Requests, delivery: Delivery) -> list[Exhibit]:
    """Those of a delivery's clients that are shown; none outside of a simulation, or of texts.

    Call it when the clients have measured the delivery: what they trained is kept by then.

    Raises:
        SgloraError: as for measuring.
    """
    if not is_simulated(federation.grid):
        return []
    config = federation.config
    chosen = _chosen(config.family)
    places = [i for i, row in enumerate(delivery.rows) if requests.names[row] in chosen]
    if not places:
        return []
    # One node for all: which one a client is on makes no difference to what it sees.
    node = Node(config, 0, 1)
    bench = Bench(node, delivery.request(federation, requests, np.array(places)))
    methods = shown_methods(config, delivery.methods)
    scores = {method: bench.scores(method)[0] for method in methods}
    shares = {name: bench.metrics_of(name, found)[:, 0] for name, found in scores.items()}
    scenes = _scenes(config)
    return [
        Exhibit(
            client=task.id,
            split=task.split,
            sentence=words(task, federation.seed),
            scene=png(scenes[task.id]) if task.id in scenes else None,
            picture=png(task.test[0].item),
            right=right_texts(task),
            best={method: best_texts(task, found[i][0]) for method, found in scores.items()},
            shares={method: float(share[i]) for method, share in shares.items()},
        )
        for i, task in enumerate(bench.tasks)
    ]


@lru_cache(maxsize=2)
def _chosen(family: FamilyConfig) -> frozenset[str]:
    return frozenset(first_clients(load_family(family).of_role("client")))


def first_clients(tasks: Sequence[Task]) -> set[str]:
    """Names of the first clients of each split, of those who have pictures."""
    splits: dict[str, list[str]] = defaultdict(list)
    for name, split in sorted((t.id, t.split) for t in tasks if t.modality == "image"):
        splits[split].append(name)
    return {name for names in splits.values() for name in names[:CLIENTS]}


def shown_methods(config: RunConfig, measured: Sequence[str]) -> list[str]:
    """Without an adapter, with the one for all, the generated and the fine-tuned one."""
    wanted = ("zero_shot", SHARED_METHOD, config.generator.name, "oracle")
    return [name for name in wanted if name in measured]


def right_texts(task: Task) -> tuple[str, ...]:
    """Every text that belongs to the first test picture: it may have several captions."""
    first = task.test[0]
    if task.kind == "labelled":
        return (task.labels[first.label],)
    return tuple(dict.fromkeys(e.label for e in task.test if e.key == first.key))


def best_texts(task: Task, scores: Tensor) -> tuple[str, ...]:
    """The candidate texts with the highest scores [candidates], each once."""
    if task.kind == "labelled":
        texts = list(task.labels.values())
    else:
        texts = [example.label for example in task.test]
    order = scores.argsort(descending=True, stable=True).tolist()
    return tuple(dict.fromkeys(texts[i] for i in order))[: BEST[task.kind]]


def _scenes(config: RunConfig) -> dict[str, Item]:
    """Client -> its first test picture with nothing wrong, where the family knows it."""
    family = unspoilt_family(config.family)
    if family is None:
        return {}
    clients = ById(family.of_role("client"))
    return {name: clients[name].test[0].item for name in _chosen(config.family)}


def png(item: Item) -> bytes:
    """A picture as a file, no larger than a page needs it."""
    picture = read_picture(item) if isinstance(item, str) else Image.fromarray(item)
    picture.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()
