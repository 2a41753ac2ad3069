"""A run on the nodes of a SuperLink that is up: started, followed, and its end told truly.

Flower's own ``flwr run`` ends with exit code 0 even where the run failed.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sglora_fed.errors import LaunchError
from sglora_fed.launching.bundle import app_folder, staged
from sglora_fed.launching.run import run_settings, tool
from sglora_fed.signals import handled, interrupt

COMPLETED = "finished:completed"

HOME_HINT = "FLWR_HOME must name the folder of a config.toml that knows it, as certs init makes one"


def run_deployed(superlink: str, overrides: Sequence[str], output: Path, goal: str) -> None:
    """Run the Flower app on a SuperLink, printing its log, until it ends.

    Ctrl-C, or a request to terminate, stops the run.

    Args:
        superlink: what Flower's configuration calls it.
        overrides: for server and nodes.
        output: absolute folder of the results, on the SuperLink's machine.
        goal: as in pyproject.toml.

    Raises:
        LaunchError: when the SuperLink does not take the run, or it does not end well; the message
            holds Flower's reason.
    """
    settings = {"output": str(output), "goal": goal, "overrides": shlex.join(overrides)}
    with tempfile.TemporaryDirectory(prefix="sglora-") as folder, handled(interrupt):
        app = staged(app_folder(), Path(folder) / "app")
        told = run_settings(settings, Path(folder) / "run.toml")
        run = _flwr("run", str(app), superlink, "--run-config", str(told))["run-id"]
        try:
            subprocess.run([tool("flwr"), "log", run, superlink, "--stream"], check=False)
        except KeyboardInterrupt:
            sys.stderr.write(f"stopping run {run}\n")
            _flwr("stop", run, superlink)
            raise
        (found,) = _flwr("list", superlink, "--run-id", run)["runs"]
    if found["status"] != COMPLETED:
        raise LaunchError(f"run {run} is {found['status']}: {found['status-details']}")


def _flwr(*command: str) -> dict[str, Any]:
    """What a command of Flower answers, as JSON."""
    told = [tool("flwr"), *command, "--format", "json"]
    done = subprocess.run(told, capture_output=True, text=True, check=False)
    try:
        values = dict(json.loads(done.stdout))
    except ValueError:
        values = {}
    if done.returncode or not values.get("success"):
        # What it says of an error stands among its answers, or in its log.
        reason = values.get("error-message") or (done.stderr or done.stdout).strip()
        hint = f"; {HOME_HINT}" if "not found in the Flower configuration" in reason else ""
        raise LaunchError(f"flwr {command[0]}: {reason.strip()}{hint}")
    sys.stderr.write(done.stderr)
    return values
