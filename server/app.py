"""The Flower ServerApp: composes the configuration and runs the experiment on Flower's grid."""

from __future__ import annotations

import json
import logging
import shlex
import time
from collections.abc import Callable
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from sglora_fed.config import RunConfig, compose, home
from sglora_fed.errors import ConfigError, SgloraError
from sglora_fed.experiments.run import build_zoos, run_experiment
from sglora_fed.experiments.service import serve_adapters
from sglora_fed.files import write_atomically

logger = logging.getLogger(__name__)

app = ServerApp()

Work = Callable[[RunConfig, Grid, Path], Path]

WORK: dict[str, Work] = {"run": run_experiment, "zoo": build_zoos, "adopt": serve_adapters}
"""What a run may be for; see ``goal`` in pyproject.toml."""


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run one experiment, or build its zoos; a failure is written there and fails the run."""
    asked = str(context.run_config.get("output", ""))
    fallback = home() / "results" / f"{time.strftime('%Y%m%d-%H%M%S')}-{context.run_id}"
    output = Path(asked) if asked else fallback
    try:
        config = compose(shlex.split(str(context.run_config.get("overrides", ""))))
        folder = _work(str(context.run_config.get("goal", "run")))(config, grid, output)
    except SgloraError as error:
        _write_error(output, error)
        raise
    logger.info("Results: %s", folder)


def _work(goal: str) -> Work:
    if goal not in WORK:
        raise ConfigError(f"goal={goal!r}: must be one of {', '.join(WORK)}")
    return WORK[goal]


def _write_error(output: Path, error: SgloraError) -> None:
    body = {"code": error.code, "message": str(error)}
    write_atomically(output / "error.json", json.dumps(body, indent=2).encode())
