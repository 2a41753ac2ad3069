"""The node's side of ``evaluate.compare``: many methods on some clients' own test examples."""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from functools import cached_property

import numpy as np
from torch import Tensor

from sglora_fed.adapters.data import Prepared, prepare
from sglora_fed.adapters.evaluation import score_tasks
from sglora_fed.adapters.layout import check_vectors
from sglora_fed.adapters.start import configured_start, norm_bound
from sglora_fed.adapters.unpaired import MOST_ITEMS, agreements
from sglora_fed.backbones.metrics import task_metrics
from sglora_fed.config.schema import POLICY_METHOD, SHARED_METHOD
from sglora_fed.errors import MessageError
from sglora_fed.federation.answers import added, chosen, made_here
from sglora_fed.federation.compare import HINTS, LOCAL_METHODS
from sglora_fed.federation.comparison import CompareReply, CompareRequest
from sglora_fed.federation.finetuned import METHODS, PRIVATELY_TUNED, examples_of, training_of
from sglora_fed.federation.node import Node
from sglora_fed.generators.confidence import SURE
from sglora_fed.kept.local import Lesson, own_noise, train_or_recall
from sglora_fed.memory import peak_mb
from sglora_fed.seeds import derive_seed
from sglora_fed.tasks.types import Example, Task


def measure(node: Node, request: CompareRequest) -> CompareReply:
    """Check the delivered adapters, measure them, and measure the clients' alternatives.

    Raises:
        PromiseError: when the node measures nothing for a server; nothing was looked at.
        MessageError: for a client that is not on this node.
        AdapterValueError: for an adapter beyond the norm bound.
    """
    node.floor.check_measured()
    if foreign := [own for own in request.ids if own not in node.clients]:
        raise MessageError(f"{len(foreign)} of {len(request.ids)} clients are not on this node")
    bound = norm_bound(node.layout)
    check_vectors(request.adapters, node.layout, bound)
    check_vectors(request.shared, node.layout, bound)
    bench = Bench(node, request)
    measured = [bench.measure(method) for method in request.methods]
    return CompareReply(
        partition=node.partition,
        ids=request.ids,
        splits=tuple(task.split for task in bench.tasks),
        metrics=bench.metrics,
        values=np.stack([values for values, _ in measured], axis=1),
        seconds=np.array([seconds for _, seconds in measured]),
        trust=bench.trust,
        peak_mb=round(peak_mb()),
    )


class Bench:
    """Some virtual clients of a node; all methods see the same test examples.

    Args:
        node: that carries them.
        request: what was delivered to them; at least one client.
    """

    def __init__(self, node: Node, request: CompareRequest) -> None:
        self._encoder, self._layout, self._config = node.encoder, node.layout, node.config
        self._node = node
        self._taken: dict[str, tuple[np.ndarray, float]] = {}
        self._choices: dict[str, tuple[list[Tensor], float]] = {}
        self.tasks = [node.clients[name] for name in request.ids]
        self._request = request
        self._prepared: dict[str, list[Prepared]] = {}
        self.metrics: tuple[str, ...] = ()
        self.trust = np.empty((0, 2))
        """[n, 2] once the policy is measured: the confidence in each adapter, and who adopted."""

    def measure(self, method: str) -> tuple[np.ndarray, float]:
        """[n, K] metrics of a method and its mean seconds per client, all its own work included."""
        scores, seconds = self.scores(method)
        return self.metrics_of(method, scores), seconds

    def scores(self, method: str) -> tuple[list[Tensor], float]:
        """For each client [items, texts] of a method, and its mean seconds per client."""
        if method == POLICY_METHOD:
            return self._chosen()
        if method in self._choices:
            return self._choices[method]
        vectors, trained = self._adapters(method)
        scores, seconds = self._scored(method, vectors)
        if method in (self._config.generator.name, SHARED_METHOD):
            self._choices[method] = scores, trained + seconds
        return scores, trained + seconds

    def _scored(self, method: str, vectors: np.ndarray | None) -> tuple[list[Tensor], float]:
        """The scores with some adapters on a method's test examples, and seconds per client."""
        tests = self._tests(method)
        started = time.perf_counter()
        layout = None if vectors is None else self._layout
        scores = score_tasks(self._encoder, tests, layout, vectors)
        return scores, (time.perf_counter() - started) / len(self.tasks)

    def metrics_of(self, method: str, scores: Sequence[Tensor]) -> np.ndarray:
        """[n, K] of the scores that a method gives each client."""
        found = [
            task_metrics(part.kind, score, part.targets, pairs)
            for part, score, pairs in zip(self._tests(method), scores, self._pairs, strict=True)
        ]
        self.metrics = tuple(found[0])
        return np.array([[row[name] for name in self.metrics] for row in found])

    @cached_property
    def _pairs(self) -> list[list[tuple[str, str]]]:
        """Of each client what tells its test examples apart: a picture's name is a hash."""
        return [[(example.key, example.label) for example in task.test] for task in self.tasks]

    def _tests(self, method: str) -> list[Prepared]:
        hints = HINTS.get(method, self._config.adapter.hints)
        if hints not in self._prepared:
            made: dict[Hashable, Prepared] = {}
            names = [
                (tuple(pairs), tuple(task.labels.items()), tuple(task.hints.items()))
                for task, pairs in zip(self.tasks, self._pairs, strict=True)
            ]
            for task, name in zip(self.tasks, names, strict=True):
                if name not in made:
                    made[name] = prepare(self._encoder, task, task.test, hints)
            # Who is tested with the same has the same object: it is scored once.
            self._prepared[hints] = [made[name] for name in names]
        return self._prepared[hints]

    def _adapters(self, method: str) -> tuple[np.ndarray | None, float]:
        """[n, D] float32, and the seconds that a client needed to choose or train its own."""
        if method in HINTS:
            return None, 0.0
        if method in LOCAL_METHODS:
            return self._trained(method)
        return self._timed(method)

    def _chosen(self) -> tuple[list[Tensor], float]:
        """The policy: what was generated where it is trusted, else the fall-back.

        Both are measured as methods of their own: nothing is scored a second time.
        """
        adopted, fallback = self._delivered(self._config.generator.name), self._fallback()
        if self.tasks[0].kind == "retrieval":
            self.trust = self._tried(adopted, fallback)
        elif len(sure := self._request.confidence):
            self.trust = np.stack([sure, sure >= SURE], axis=1)
        else:
            raise MessageError("no confidence came, and clients of labelled tasks have none")
        ours, seconds = self.scores(self._config.generator.name)
        if SHARED_METHOD in self._request.common:
            theirs, _ = self.scores(SHARED_METHOD)
        else:
            theirs, _ = self._scored(POLICY_METHOD, fallback)
        adopts = self.trust[:, 1] > 0
        return [a if own else b for a, b, own in zip(ours, theirs, adopts, strict=True)], seconds

    def _fallback(self) -> np.ndarray:
        """[n, D] what clients without a generated adapter use."""
        if SHARED_METHOD in self._request.common:
            return self._delivered(SHARED_METHOD)
        start = configured_start(self._config, self._layout, self._request.seed)
        return np.broadcast_to(start, (len(self.tasks), self._layout.size))

    def _tried(self, adopted: np.ndarray, fallback: np.ndarray) -> np.ndarray:
        """[n, 2] how well each adapter suits its client's pictures, and whether better."""
        # Others than those by which an adapter was chosen: it looks better on them than it is.
        own = derive_seed(self._request.seed, "policy")
        both = [adopted, fallback]
        ours, theirs = agreements(self._encoder, self._layout, self.tasks, own, MOST_ITEMS, both)
        return np.stack([ours, ours > theirs], axis=1)

    def _delivered(self, method: str) -> np.ndarray:
        """[n, D] float32 of what came for a method, each client's own choice."""
        return self._timed(method)[0]

    def _timed(self, method: str) -> tuple[np.ndarray, float]:
        """As above, with the mean seconds that a client needed to choose."""
        if method not in self._taken:
            started = time.perf_counter()
            taken = self._take(method)
            self._taken[method] = taken, (time.perf_counter() - started) / len(self.tasks)
        return self._taken[method]

    def _take(self, method: str) -> np.ndarray:
        request, node = self._request, self._node
        if method in request.generators:
            return made_here(node, self.tasks, request.seed, method, request.generators[method])
        if request.shares is not None and method == self._config.generator.name:
            return added(node, self.tasks, request.seed, request.shares)
        if method in request.made:
            return self._choice(request.made.index(method))
        if method not in request.common:
            raise MessageError(f"no adapter came for the method {method!r}")
        shared = request.shared[request.common.index(method)].astype(np.float32)
        return np.broadcast_to(shared, (len(self.tasks), shared.size))

    def _choice(self, number: int) -> np.ndarray:
        """[n, D] of the adapters that came for a method, by its number."""
        request = self._request
        replies = request.adapters.shape[1] // len(request.made)
        own = request.adapters[:, number * replies : (number + 1) * replies].astype(np.float32)
        return chosen(self._node, self.tasks, request.seed, own, request.places)

    def _trained(self, method: str) -> tuple[np.ndarray, float]:
        config, seed = self._config, self._request.seed
        starts, before = self._starts(method)
        lessons = [
            _lesson(task, examples_of(method, task, seed), start, seed)
            for task, start in zip(self.tasks, starts, strict=True)
        ]
        train = training_of(getattr(config.experiment.tuning, method), config)
        noise = own_noise(config) if method in PRIVATELY_TUNED else None
        vectors, seconds = train_or_recall(
            self._encoder, self._layout, train, lessons, config.adapter.hints, noise
        )
        return vectors, before + float(seconds.mean())

    def _starts(self, method: str) -> tuple[np.ndarray, float]:
        """[n, D] float32, and the mean seconds that a client needed to choose its own."""
        where = METHODS[method].start
        if where != "untrained":
            sent = {"generated": self._config.generator.name, "shared": SHARED_METHOD}
            return self._timed(sent[where])
        start = configured_start(self._config, self._layout, self._request.seed)
        return np.broadcast_to(start, (len(self.tasks), self._layout.size)), 0.0


def _lesson(task: Task, examples: tuple[Example, ...], start: np.ndarray, seed: int) -> Lesson:
    """Batches in an order that the labels decide: who has the same examples learns the same.

    Labels alone, as a picture in memory and its file are told apart by other hashes.
    """
    labels = [example.label for example in examples]
    return Lesson(task, examples, start, derive_seed(seed, "local", *labels))
