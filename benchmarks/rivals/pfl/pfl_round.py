"""pfl-research: each virtual client a call; what clients find is summed at once.

    PYTHONPATH=.:benchmarks ENV/bin/python benchmarks/rivals/pfl/pfl_round.py noop 200 OUT

With ``-m torch.distributed.run --standalone --nproc-per-node 2`` behind ``python`` two processes
share the clients, as pfl-research's own guide to distributed simulations has it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import Any

import numpy as np
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import FederatedAlgorithm
from pfl.common_types import Population
from pfl.context import CentralContext
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.hyperparam.base import AlgorithmHyperParams, ModelHyperParams
from pfl.internal.ops import pytorch_ops
from pfl.internal.ops.selector import set_framework_module
from pfl.metrics import Metrics, Weighted
from pfl.stats import MappedVectorStatistics

from rivals import work

Answer = Callable[[Any], tuple[np.ndarray | None, float]]
"""What one client does with its data: a vector to sum, where it has one, and a number."""


class Asked(FederatedAlgorithm):  # type: ignore[misc]
    """Every client is asked once.

    Args:
        answer: what each does.
    """

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self._answer = answer

    def get_next_central_contexts(self, *_: Any, **__: Any) -> Any:
        """No rounds but those that are gathered here."""
        raise NotImplementedError

    def process_aggregated_statistics(self, *_: Any, **__: Any) -> Any:
        """Nor a model to update."""
        raise NotImplementedError

    def simulate_one_user(
        self, model: Any, user_dataset: Any, central_context: Any
    ) -> tuple[Any, Metrics]:
        """A client's vector and number."""
        vector, value = self._answer(user_dataset.raw_data[0][0])
        metrics = Metrics([("accuracy", Weighted(value, 1))])
        if vector is None:
            return None, metrics
        return MappedVectorStatistics({"row": torch.from_numpy(vector)}, weight=1.0), metrics


def gathered(data: list[Any], answer: Answer) -> np.ndarray | None:
    """The mean of all clients' vectors, in each process.

    Raises:
        SystemError: when another number of clients has answered.
    """
    turns = cycle(range(len(data)))
    clients = FederatedDataset(
        lambda number: Dataset([np.asarray(data[number])[None]], user_id=str(number)),
        lambda: next(turns),
    )
    context = CentralContext(
        current_central_iteration=0,
        do_evaluation=False,
        cohort_size=len(data),
        population=Population.TRAIN,
        algorithm_params=AlgorithmHyperParams(),
        model_train_params=ModelHyperParams(),
        model_eval_params=ModelHyperParams(),
    )
    backend = SimulatedBackend(clients, clients)
    found, metrics = backend.gather_results(None, Asked(answer), central_context=context)
    if (answered := metrics["accuracy"].weight) != len(data):
        raise SystemError(f"{len(data)} clients, {answered} answered")
    if found is None:
        return None
    found.average()
    return np.asarray(found["row"])


def noop(count: int) -> work.Round:
    """Both exchanges."""
    rows = list(work.adapters(count))

    def once() -> np.ndarray:
        mean = gathered(list(range(count)), lambda _: (work.description(), 0.0))
        gathered(rows, lambda row: (None, work.measured(row)))
        return np.asarray(mean)

    return once


def lora(count: int) -> work.Round:
    """One round, client after client."""
    every = list(work.names(count))

    def once() -> np.ndarray:
        vector = work.start()
        return np.asarray(gathered(every, lambda name: (work.trained((str(name),), vector), 0.0)))

    return once


if __name__ == "__main__":
    set_framework_module(pytorch_ops)
    work.report({"noop": noop, "lora": lora})
