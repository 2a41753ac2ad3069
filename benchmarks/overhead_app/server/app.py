"""Asks many virtual clients for requests and delivers an adapter to each; no model runs."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path

import numpy as np
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from sglora_fed.config.schema import FederationConfig
from sglora_fed.federation.coordinator import Federation, collect_requests, deliver
from sglora_fed.federation.exchange import wait_for_nodes
from sglora_fed.files import write_atomically

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Time the two exchanges several times; the first time includes the workers' start."""
    words = shlex.split(str(context.run_config["overrides"]))
    clients, dim, size, repeats = (int(word) for word in words)
    config = FederationConfig(clients_per_message=500)
    nodes = tuple(wait_for_nodes(grid, config))
    federation = Federation(grid, nodes, config, dim, size, float("inf"))
    adapters = np.random.default_rng(0).normal(size=(clients, size)).astype(np.float16)
    seconds = []
    for repeat in range(repeats):
        started = time.perf_counter()
        requests = collect_requests(federation, repeat)
        asked = time.perf_counter()
        replies = deliver(federation, repeat, requests, {"any": adapters}, {}, lambda *_: None)
        seconds.append([asked - started, time.perf_counter() - asked])
        if sum(len(reply.ids) for reply in replies) != clients:
            raise SystemError(f"{clients} clients, {len(replies)} replies")
    path = Path(str(context.run_config["output"])) / "summary.json"
    write_atomically(path, json.dumps(seconds).encode())
