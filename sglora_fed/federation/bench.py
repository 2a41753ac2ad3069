"""What a virtual client measures: every method on its own test examples."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from sglora_fed.adapters.data import Prepared, prepare
from sglora_fed.adapters.evaluation import score_tasks
from sglora_fed.adapters.layout import Layout, initial_vector
from sglora_fed.backbones.metrics import task_metrics
from sglora_fed.backbones.types import DualEncoder
from sglora_fed.config.schema import SHARED_METHOD, RunConfig
from sglora_fed.federation.finetuned import FINE_TUNED, examples_of, training_of
from sglora_fed.federation.messages import AdoptRequest
from sglora_fed.federation.trained import Lesson, train_or_recall
from sglora_fed.generators.confidence import SURE
from sglora_fed.seeds import derive_seed
from sglora_fed.tasks.types import Task

NORM_BOUND = 10.0
"""An adapter may have this many times the norm of an untrained one, not more."""

POLICY = "policy"
"""The client's default: the generated adapter if the server is sure enough of it, else the shared
LoRA, or no adapter where none was trained."""

HINTS = {"zero_shot": "none", "described": "phrases"}
"""Methods without an adapter -> the client's own words in the candidate texts."""

LOCAL_METHODS = (*HINTS, *FINE_TUNED)


def federation_start(layout: Layout, seed: int) -> np.ndarray:
    """[1, D] the LoRA that every expert of a run starts from."""
    return initial_vector(layout, derive_seed(seed, "adapter_start")).numpy()[None]


def norm_bound(layout: Layout) -> float:
    """The largest norm of an adapter that a client or the server takes."""
    return NORM_BOUND * float(np.linalg.norm(federation_start(layout, 0)))


class Bench:
    """Some virtual clients of a node; all methods see the same test examples.

    Args:
        encoder: the frozen backbone.
        layout: of the vectors.
        config: of the run.
        tasks: of n clients, at least one.
        request: what was delivered to them.
    """

    def __init__(
        self,
        encoder: DualEncoder,
        layout: Layout,
        config: RunConfig,
        tasks: Sequence[Task],
        request: AdoptRequest,
    ) -> None:
        self._encoder, self._layout, self._config = encoder, layout, config
        self.tasks, self._request = tasks, request
        self._prepared: dict[str, list[Prepared]] = {}
        self.metrics: tuple[str, ...] = ()

    def measure(self, method: str) -> tuple[np.ndarray, float]:
        """[n, K] metrics of a method and its mean seconds per client, training included."""
        vectors, trained = self._adapters(method)
        tests = self._tests(method)
        started = time.perf_counter()
        layout = None if vectors is None else self._layout
        scores = score_tasks(self._encoder, tests, layout, vectors)
        scored = (time.perf_counter() - started) / len(self.tasks)
        found = [
            task_metrics(part.kind, score, part.targets, [(e.key, e.label) for e in task.test])
            for part, score, task in zip(tests, scores, self.tasks, strict=True)
        ]
        self.metrics = tuple(found[0])
        values = np.array([[row[name] for name in self.metrics] for row in found])
        return values, trained + scored

    def _tests(self, method: str) -> list[Prepared]:
        hints = HINTS.get(method, self._config.adapter.hints)
        if hints not in self._prepared:
            tests = [prepare(self._encoder, task, task.test, hints) for task in self.tasks]
            self._prepared[hints] = tests
        return self._prepared[hints]

    def _adapters(self, method: str) -> tuple[np.ndarray | None, float]:
        """[n, D] float32, and the seconds that a client needed to train its own."""
        if method in HINTS:
            return None, 0.0
        if method == POLICY:
            return self._chosen(), 0.0
        if method in LOCAL_METHODS:
            return self._trained(method)
        return self._delivered(method), 0.0

    def _chosen(self) -> np.ndarray:
        sure = self._request.confidence >= SURE
        adopted = self._delivered(self._config.generator.name)
        if SHARED_METHOD in self._request.common_methods:
            fallback = self._delivered(SHARED_METHOD)
        else:
            fallback = federation_start(self._layout, self._request.seed)
        return np.where(sure[:, None], adopted, fallback)

    def _delivered(self, method: str) -> np.ndarray:
        request = self._request
        if method in request.methods:
            return request.adapters[:, request.methods.index(method)].astype(np.float32)
        shared = request.common[request.common_methods.index(method)].astype(np.float32)
        return np.broadcast_to(shared, (len(self.tasks), shared.size))

    def _trained(self, method: str) -> tuple[np.ndarray, float]:
        config, seed = self._config, self._request.seed
        lessons = [
            Lesson(
                task, examples_of(method, task, seed), start, derive_seed(seed, "local", task.id)
            )
            for task, start in zip(self.tasks, self._starts(method), strict=True)
        ]
        train = training_of(getattr(config.experiment.tuning, method), config)
        vectors, seconds = train_or_recall(
            self._encoder, self._layout, train, lessons, config.adapter.hints
        )
        return vectors, float(seconds.mean())

    def _starts(self, method: str) -> np.ndarray:
        """[n, D] float32."""
        where = FINE_TUNED[method].start
        if where != "untrained":
            sent = {"generated": self._config.generator.name, "shared": SHARED_METHOD}
            return self._delivered(sent[where])
        start = federation_start(self._layout, self._request.seed)
        return np.broadcast_to(start, (len(self.tasks), self._layout.size))
