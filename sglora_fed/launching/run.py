"""One run: the Flower app on a SuperLink of our own, followed to its end."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from rich.console import Console

from sglora_fed.config import RunConfig
from sglora_fed.config.overrides import with_absolute_paths
from sglora_fed.config.schema import BackboneConfig
from sglora_fed.errors import LaunchError
from sglora_fed.experiments.progress import follow
from sglora_fed.files import write_atomically
from sglora_fed.launching.bundle import app_folder, staged
from sglora_fed.launching.environment import check_environment, say_who_may_enter
from sglora_fed.launching.superlink import NAME, SuperLink, start, superlink
from sglora_fed.results.files import CLIENTS, ERROR, PAGE, RUNNING, SUMMARY, ZOOS
from sglora_fed.results.gallery import GALLERY
from sglora_fed.signals import handled, interrupt

POLL_SECONDS = 0.1
PROOF = {"run": SUMMARY, "zoo": ZOOS}
"""What a run may be for -> the last file that it writes."""

LOG_FILE, PROGRESS_FILE = "log.txt", "progress.jsonl"
OLD = (*PROOF.values(), CLIENTS, GALLERY, PAGE, ERROR, RUNNING, PROGRESS_FILE)


def run_flower(
    config: RunConfig,
    overrides: Sequence[str],
    output: Path,
    console: Console,
    goal: str = "run",
    app: Path | None = None,
) -> None:
    """Run the Flower app for a configuration in simulation.

    All processes started for it have ended on return, also after an error, Ctrl-C or a request
    to terminate; after ``kill -9`` they end by themselves.

    Args:
        config: already composed, so that its mistakes are found before anything starts.
        overrides: what ``config`` was composed from; both apps compose it again.
        output: absolute folder of the results; files of an earlier run there are removed.
        console: for the progress bars.
        goal: a key of ``PROOF``.
        app: folder of the Flower app, ours unless told.

    Raises:
        LaunchError: when Flower cannot be started or the run does not finish; the message holds
            the server's own reason, or names the log.
        SgloraError: before anything starts, as :func:`check_environment` says.
        ResultsError: when ``output`` cannot be written.
    """
    absolute = with_absolute_paths(config, overrides)
    check_environment([str(output), *absolute])
    log = output / LOG_FILE
    write_atomically(log, b"")
    for stale in OLD:
        (output / stale).unlink(missing_ok=True)
    settings = {"output": str(output), "goal": goal, "overrides": shlex.join(absolute)}
    say_who_may_enter(console)
    with handled(interrupt), superlink(log) as link, _bars(output / PROGRESS_FILE, console):
        code = _flwr_run(staged(app or app_folder(), link.home / "app"), config, settings, link)
    _check_finished(output, goal, code)


def _check_finished(output: Path, goal: str, code: int) -> None:
    if (output / ERROR).exists():
        reason = json.loads((output / ERROR).read_text(encoding="utf-8"))["message"]
        raise LaunchError(f"the server gave up: {reason}")
    if code != 0 or not (output / PROOF[goal]).exists():
        raise LaunchError(f"the run did not finish (exit code {code}); see {output / LOG_FILE}")


def _flwr_run(app: Path, config: RunConfig, settings: dict[str, str], link: SuperLink) -> int:
    """``flwr run`` until the run ends; returns its exit code."""
    file = run_settings(settings, link.home / "run.toml")
    command = [tool("flwr"), "run", str(app), NAME, "--stream"]
    command += ["--run-config", str(file), "--federation-config", _resources(config)]
    run = start(command, link.home, link.env, link.log)
    while (code := run.poll()) is None:
        link.check_alive()
        time.sleep(POLL_SECONDS)
    return code


def run_settings(settings: Mapping[str, str], file: Path) -> Path:
    """What a run is told, in a file: Flower's command line has no way to quote a quote."""
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in settings.items()]
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def _resources(config: RunConfig) -> str:
    nodes = config.federation.nodes
    gpus = _gpus_per_node(config.backbone, nodes)
    return f"num-supernodes={nodes} client-resources-num-cpus=1 client-resources-num-gpus={gpus}"


def _gpus_per_node(backbone: BackboneConfig, nodes: int) -> float:
    """Share of a GPU per node; Ray hides the GPUs from a worker that asks for none."""
    if backbone.device == "cpu":
        return 0.0
    import torch

    return min(1.0, torch.cuda.device_count() / nodes)


def tool(name: str) -> str:
    """A command of the running environment, which need not be on the PATH."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise LaunchError(f"{name} is not installed; pip install 'flwr[simulation]'")
    return found


@contextmanager
def _bars(path: Path, console: Console) -> Iterator[None]:
    path.unlink(missing_ok=True)
    stop = Event()
    thread = Thread(target=follow, args=(path, stop, console), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
