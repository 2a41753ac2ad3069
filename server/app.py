"""The Flower ServerApp: composes the configuration and runs the experiment on Flower's grid."""

from __future__ import annotations

import logging
import shlex
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from sglora_fed.config import RunConfig, compose, home
from sglora_fed.errors import ConfigError, FolderBusyError, SgloraError
from sglora_fed.results.running import running, write_error

logger = logging.getLogger("sglora_fed.server")

app = ServerApp()

Work = Callable[[RunConfig, Grid, Path], Path]

WORK = {
    "run": "sglora_fed.experiments.run:run_experiment",
    "zoo": "sglora_fed.experiments.run:build_zoos",
    "adopt": "sglora_fed.experiments.service:serve_adapters",
    "serve": "sglora_fed.experiments.serve:serve_for_ever",
}
"""What a run may be for, see ``goal`` in pyproject.toml, and what does it: a service that stays up
loads nothing of the experiment."""


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run one experiment, build its zoos or serve; a failure is written there and fails the run."""
    _tell_what_happens()
    asked = str(context.run_config.get("output", ""))
    fallback = home() / "results" / f"{time.strftime('%Y%m%d-%H%M%S')}-{context.run_id}"
    output = Path(asked) if asked else fallback
    try:
        with running(output, f"run {context.run_id}"):
            config = compose(shlex.split(str(context.run_config.get("overrides", ""))))
            folder = _work(str(context.run_config.get("goal", "run")))(config, grid, output)
    except FolderBusyError:
        raise
    except SgloraError as error:
        write_error(output, error)
        raise
    logger.info("finished, results in %s", folder)


def _work(goal: str) -> Work:
    if goal not in WORK:
        raise ConfigError(f"goal={goal!r}: must be one of {', '.join(WORK)}")
    module, _, name = WORK[goal].partition(":")
    work: Work = getattr(import_module(module), name)
    return work


def _tell_what_happens() -> None:
    """A line for each exchange, where Flower's log takes it up."""
    ours = logging.getLogger("sglora_fed")
    if not ours.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        ours.addHandler(handler)
        ours.setLevel(logging.INFO)
