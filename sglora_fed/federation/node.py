"""What a node does for its virtual clients. Knows messages' types, nothing of Flower's apps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import cycle, islice

import numpy as np

from sglora_fed.adapters.data import Prepared, prepare
from sglora_fed.adapters.layout import Layout, check_vectors, layout_of
from sglora_fed.adapters.training import train_adapters
from sglora_fed.backbones import load_backbone, load_describer
from sglora_fed.backbones.minilm import DescriptionEncoder
from sglora_fed.backbones.types import DualEncoder
from sglora_fed.config.schema import RunConfig
from sglora_fed.errors import MessageError
from sglora_fed.federation.bench import LOCAL_METHODS, POLICY, Bench, federation_start, norm_bound
from sglora_fed.federation.messages import (
    WORDINGS,
    AdoptReply,
    AdoptRequest,
    DescribeReply,
    DescribeRequest,
    ExpertReply,
    SharedReply,
    TrainRequest,
)
from sglora_fed.privacy import make_mechanism
from sglora_fed.seeds import derive_seed
from sglora_fed.tasks import load_family
from sglora_fed.tasks.respelling import respelt
from sglora_fed.tasks.types import Role, Task


@dataclass(frozen=True)
class Node:
    """One node's share of a federation.

    Attributes:
        config: of the run.
        partition: this node's number, 0 <= partition < partitions.
        partitions: number of nodes.
    """

    config: RunConfig
    partition: int
    partitions: int

    def __post_init__(self) -> None:
        if not 0 <= self.partition < self.partitions:
            raise MessageError(f"partition {self.partition} of {self.partitions}; need 0 <= p < n")

    @cached_property
    def encoder(self) -> DualEncoder:
        """The frozen backbone."""
        return load_backbone(self.config.backbone, self.config.adapter)

    @cached_property
    def layout(self) -> Layout:
        """Of all adapters of this run."""
        return run_layout(self.config)

    @cached_property
    def describer(self) -> DescriptionEncoder:
        """The description encoder; runs here, on the client."""
        return load_describer(self.config.backbone)

    @cached_property
    def experts(self) -> dict[str, Task]:
        """This node's expert tasks by id."""
        return self._share("expert")

    @cached_property
    def clients(self) -> dict[str, Task]:
        """This node's virtual clients by id."""
        return self._share("client")

    def _share(self, role: Role) -> dict[str, Task]:
        tasks = load_family(self.config.family).of_role(role)
        return {task.id: task for task in tasks[self.partition :: self.partitions]}


open_node = lru_cache(maxsize=2)(Node)
"""The same node for the same arguments: in simulation a process serves many messages."""


def run_layout(config: RunConfig) -> Layout:
    """The adapters' layout that a configuration means."""
    encoder = load_backbone(config.backbone, config.adapter)
    return layout_of(encoder.model, encoder.adaptable(), config.adapter.rank, config.adapter.alpha)


def wording(task: Task, seed: int) -> str:
    """The words this client uses for its task in a run: its description or a paraphrase."""
    choices = (task.description, *task.paraphrases)
    return choices[derive_seed(seed, "wording", task.id) % len(choices)]


def train_experts(node: Node, request: TrainRequest) -> ExpertReply:
    """Train the node's next experts that the server does not know yet."""
    waiting = [task for name, task in node.experts.items() if name not in set(request.known)]
    tasks, seed = waiting[: request.limit], request.seed
    hints = node.config.adapter.hints
    parts = [prepare(node.encoder, task, task.train, hints) for task in tasks]
    trained = train_adapters(
        node.encoder,
        node.layout,
        federation_start(node.layout, seed),
        parts,
        node.config.adapter.train,
        [derive_seed(seed, "expert", task.id) for task in tasks],
    )
    return ExpertReply(
        partition=node.partition,
        ids=tuple(task.id for task in tasks),
        wordings=_embed_wordings(node, tasks),
        means=trained.mean,
        variances=trained.variance,
        examples=np.array([len(part) for part in parts], np.int64),
        remaining=len(waiting) - len(tasks),
    )


def _embed_wordings(node: Node, tasks: Sequence[Task]) -> np.ndarray:
    """[n, W, d] description and paraphrases, from the start again where there are few."""
    texts = [islice(cycle((task.description, *task.paraphrases)), WORDINGS) for task in tasks]
    rows = embed(node, [text for some in texts for text in some])
    return rows.reshape(len(tasks), WORDINGS, rows.shape[1])


def train_shared(node: Node, request: TrainRequest) -> SharedReply:
    """One round of FedAvg (McMahan et al. 2017) on the node's experts that take part."""
    if request.start is None:
        raise MessageError("a round of the shared LoRA needs a start vector")
    check_vectors(request.start, node.layout)
    tasks = [node.experts[name] for name in request.known if name in node.experts]
    steps = node.config.federation.shared_steps
    seeds = [derive_seed(request.seed, "shared", request.round, task.id) for task in tasks]
    parts = [practice(node, task, own, steps) for task, own in zip(tasks, seeds, strict=True)]
    config = replace(node.config.adapter.train, steps=steps, checkpoints=1, patience=0)
    trained = train_adapters(node.encoder, node.layout, request.start[None], parts, config, seeds)
    examples = np.array([len(task.train) for task in tasks], np.float64)
    total = examples @ trained.final.astype(np.float64).reshape(len(parts), node.layout.size)
    return SharedReply(node.partition, total, int(examples.sum()))


def practice(node: Node, task: Task, seed: int, steps: int) -> Prepared:
    """What an expert trains on in a round: its examples, or some of them in a made-up spelling."""
    config = node.config
    own = respelt(task, config.federation.respelt, steps * config.adapter.train.batch_size, seed)
    if own is task:
        return cached_train(node, task.id)
    return prepare(node.encoder, own, own.train, config.adapter.hints)


@lru_cache(maxsize=256)
def cached_train(node: Node, name: str) -> Prepared:
    """An expert's training examples, prepared once per process."""
    task = node.experts[name]
    return prepare(node.encoder, task, task.train, node.config.adapter.hints)


def describe(node: Node, request: DescribeRequest) -> DescribeReply:
    """The requests of the node's virtual clients: embed on the device, then privatise."""
    tasks = list(node.clients.values())
    clear = embed(node, [wording(task, request.seed) for task in tasks])
    mechanism = make_mechanism(node.config.privacy, clear.shape[1])
    released = [mechanism.release(embedding) for embedding in clear]
    ids = tuple(task.id for task in tasks)
    return DescribeReply(node.partition, ids, np.array(released, np.float32).reshape(clear.shape))


def embed(node: Node, texts: Sequence[str]) -> np.ndarray:
    """[n, d] embeddings of some texts, made here on the client."""
    if not texts:
        return np.empty((0, node.describer.dim), np.float32)
    return np.asarray(node.describer.encode(texts))


def adopt(node: Node, request: AdoptRequest) -> AdoptReply:
    """Check the delivered adapters, measure them, and measure the clients' alternatives.

    Raises:
        MessageError: for a client that is not on this node.
        AdapterValueError: for an adapter beyond the norm bound.
    """
    if foreign := set(request.ids) - set(node.clients):
        raise MessageError(f"{len(foreign)} of {len(request.ids)} clients are not on this node")
    bound = norm_bound(node.layout)
    check_vectors(request.adapters, node.layout, bound)
    check_vectors(request.common, node.layout, bound)
    tasks = [node.clients[name] for name in request.ids]
    bench = Bench(node.encoder, node.layout, node.config, tasks, request)
    wanted = [name for name in LOCAL_METHODS if name in node.config.experiment.methods]
    methods = [*wanted, *request.methods, *request.common_methods, POLICY]
    measured = [bench.measure(method) for method in methods]
    return AdoptReply(
        partition=node.partition,
        ids=request.ids,
        splits=tuple(task.split for task in bench.tasks),
        methods=tuple(methods),
        metrics=bench.metrics,
        values=np.stack([values for values, _ in measured], axis=1),
        seconds=np.array([seconds for _, seconds in measured]),
    )
