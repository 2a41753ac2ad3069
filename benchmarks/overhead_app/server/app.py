"""Asks many virtual clients for requests and has one adapter of each measured; no model runs."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path

import numpy as np
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from sglora_fed.config import compose
from sglora_fed.experiments.progress import ProgressLog
from sglora_fed.experiments.run import open_federation
from sglora_fed.federation.compare import Delivery, compare
from sglora_fed.federation.describe import collect_requests
from sglora_fed.federation.exchange import Federation
from sglora_fed.files import write_atomically

app = ServerApp()

ADAPTED = ("ridge",)
"""Any method whose adapters are made by the server."""

CLIENTS_PER_MESSAGE = 1000
"""Flower's simulation hands a node one message in a tenth of a second, at most."""

DIFFERENT = 1000
"""Adapters that are drawn; more clients have the same again."""


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Time the two exchanges several times; the first time includes the workers' start."""
    words = shlex.split(str(context.run_config["overrides"]))
    clients, repeats = int(words[0]), int(words[2])
    output = Path(str(context.run_config["output"]))
    config = compose([f"federation.clients_per_message={CLIENTS_PER_MESSAGE}"])
    federation = open_federation(config, grid, ProgressLog(output / "progress.jsonl"))
    size = federation.layout.size
    adapters = np.resize(some_adapters(size), (clients, size))
    seconds = [timed(federation, adapters) for _ in range(repeats)]
    write_atomically(output / "summary.json", json.dumps(seconds).encode())


def some_adapters(size: int) -> np.ndarray:
    """[n, D] float16, as long as a trained one or so: none is beyond what a client takes."""
    rng = np.random.default_rng(0)
    return (0.01 * rng.standard_normal((DIFFERENT, size), np.float32)).astype(np.float16)


def timed(federation: Federation, adapters: np.ndarray) -> list[float]:
    """Seconds until all requests were there, and until all clients had answered.

    Args:
        federation: of nodes without a model.
        adapters: [n, D] float16 for the n clients.

    Raises:
        SystemError: when another number of clients has answered.
    """
    started = time.perf_counter()
    requests = collect_requests(federation)
    asked = time.perf_counter()
    rows = np.arange(len(requests.names))
    delivery = Delivery(rows, ADAPTED, {ADAPTED[0]: adapters[:, None]}, {}, None)
    answered = sum(len(one.names) for one in compare(federation, requests, delivery))
    if answered != len(adapters):
        raise SystemError(f"{len(adapters)} clients, {answered} answered")
    return [asked - started, time.perf_counter() - asked]
