"""NVFlare's simulator: each virtual client a site in a process of its own, all at work at once.

    PYTHONPATH=.:benchmarks ENV/bin/python benchmarks/rivals/nvflare/nvflare_round.py noop 8 OUT

A controller and an executor of our own, both asked through NVFlare's own messages: no script is
started for a task and nothing is written between rounds.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from nvflare.apis.executor import Executor
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.utils.fl_model_utils import FLModelUtils
from nvflare.app_common.workflows.model_controller import ModelController

from rivals import work

POLL_SECONDS = 0.005
"""After which the controller looks for answers, and a client for its next task: unless told,
NVFlare's server asks it to come back after 2 s, which would be nearly all of the time here."""


class Client(Executor):  # type: ignore[misc]
    """Does what a task's name says."""

    def execute(
        self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal
    ) -> Shareable:
        """The vector or the number of one client."""
        told = FLModelUtils.from_shareable(shareable)
        if task_name == "describe":
            made = {"row": work.description()}
        elif task_name == "compare":
            made = {"row": np.array([work.measured(told.params["row"])])}
        else:
            made = {"row": work.trained((told.meta["id"],), told.params["row"])}
        return FLModelUtils.to_shareable(FLModel(params=made))


class Server(ModelController):  # type: ignore[misc]
    """Does the work twice and writes the second time's seconds.

    Args:
        kind: ``noop`` or ``lora``.
        output: file to write.
    """

    def __init__(self, kind: str, output: str) -> None:
        super().__init__(task_check_period=POLL_SECONDS)
        self.kind, self.output = kind, output

    def run(self) -> None:
        """Both times."""
        sites = sorted(client.name for client in self.engine.get_clients())
        rows, ids = work.adapters(len(sites)), work.names(len(sites))
        seconds: list[float] = []
        for _ in range(2):
            started = time.perf_counter()
            if self.kind == "noop":
                found = self._asked("describe", sites, [np.zeros(1)] * len(sites), ids)
                self._asked("compare", sites, list(rows), ids)
            else:
                found = self._asked("lora", sites, [work.start()] * len(sites), ids)
            mean = np.mean(found, axis=0)
            seconds.append(time.perf_counter() - started)
        Path(self.output).write_text(json.dumps({"seconds": seconds[1], "mean": mean.tolist()}))

    def _asked(self, task: str, sites: list[str], rows: list[Any], ids: Any) -> list[Any]:
        """One message to each site, and what all answered."""
        found: list[Any] = []
        for site, row, name in zip(sites, rows, ids, strict=False):
            body = FLModel(params={"row": row}, meta={"id": name})
            self.send_model(task, body, targets=[site], callback=found.append)
        while len(found) < len(sites):
            if self.abort_signal.triggered:
                raise SystemError("the simulation gave up")
            time.sleep(POLL_SECONDS)
        return [reply.params["row"] for reply in found]


def main() -> None:
    """In the simulator, with as many sites as clients."""
    from nvflare.job_config.api import FedJob

    from rivals.nvflare import nvflare_round

    kind, count, output = sys.argv[1], int(sys.argv[2]), str(Path(sys.argv[3]).absolute())
    job = FedJob(name="round")
    job.to_server(nvflare_round.Server(kind, output))
    job.to_server({"server": {"task_request_interval": POLL_SECONDS}})
    job.to_clients({"default_task_fetch_interval": POLL_SECONDS})
    job.to_clients(nvflare_round.Client(), tasks=["describe", "compare", "lora"])
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / "local"
        local.mkdir()
        allowed = ["rivals.nvflare.nvflare_round.Server", "rivals.nvflare.nvflare_round.Client"]
        policy = {"format_version": 2, "class_allow_list": allowed}
        (local / "resources.json.default").write_text(json.dumps(policy))
        job.simulator_run(folder, n_clients=count, threads=count)


if __name__ == "__main__":
    main()
