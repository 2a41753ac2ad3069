"""Start a Flower run on a SuperLink of our own, follow it, and leave no process behind."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import psutil
from rich.console import Console

from sglora_fed.config import RunConfig
from sglora_fed.errors import LaunchError
from sglora_fed.experiments.progress import follow
from sglora_fed.experiments.results import SUMMARY

STARTUP_SECONDS = 60.0
GRACE_SECONDS = 8.0
LOG_FILE = "log.txt"


@dataclass(frozen=True)
class _SuperLink:
    """A running SuperLink: where it listens and what marks its processes as ours."""

    port: int
    home: Path
    env: dict[str, str]


def run_flower(config: RunConfig, overrides: Sequence[str], output: Path, console: Console) -> None:
    """Run the Flower app for a configuration in simulation.

    Args:
        config: already composed, so that its mistakes are found before anything starts.
        overrides: what ``config`` was composed from; both apps compose it again.
        output: absolute folder of the results.
        console: for the progress bars.

    Raises:
        LaunchError: when Flower cannot be started or the run does not finish; the reason is the
            server's own, else the end of the log is named.
    """
    app = app_folder()
    output.mkdir(parents=True, exist_ok=True)
    for stale in (SUMMARY, "error.json"):
        (output / stale).unlink(missing_ok=True)
    with _superlink(output / LOG_FILE) as link, _bars(output / "progress.jsonl", console):
        code = _flwr_run(app, config, overrides, output, link)
    if (output / "error.json").exists():
        raise LaunchError(json.loads((output / "error.json").read_text())["message"])
    if code != 0 or not (output / SUMMARY).exists():
        raise LaunchError(f"the run did not finish (exit code {code}); see {output / LOG_FILE}")


def app_folder() -> Path:
    """The Flower app: the repository, or the copy inside an installed package.

    Raises:
        LaunchError: when neither is there.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "_app", package.parent):
        if (folder / "server" / "app.py").is_file() and (folder / "pyproject.toml").is_file():
            return folder
    raise LaunchError(f"no Flower app beside or inside {package}; reinstall sglora-fed")


@contextmanager
def _superlink(log: Path) -> Iterator[_SuperLink]:
    """A SuperLink on a free port with its own home, ended with all its descendants."""
    home = Path(tempfile.mkdtemp(prefix="sglora-"))
    link = _SuperLink(_free_port(), home, _environment(home))
    command = [_tool("flower-superlink"), "--insecure", "--simulation", "--isolation", "subprocess"]
    command += ["--host", "127.0.0.1", "--port", str(link.port)]
    try:
        with log.open("w", encoding="utf-8") as file:
            # A neutral working folder: Flower's workers would import the app from it first.
            process = subprocess.Popen(
                command, cwd=home, env=link.env, stdout=file, stderr=subprocess.STDOUT
            )
        _wait_until_up(process, link.port, log)
        lines = ["[superlink]", 'default = "own"', "[superlink.own]"]
        lines += [f'address = "127.0.0.1:{link.port}"', "insecure = true"]
        (home / "config.toml").write_text("\n".join(lines), encoding="utf-8")
        yield link
    finally:
        _end_processes_of(home)
        shutil.rmtree(home, ignore_errors=True)


def _environment(home: Path) -> dict[str, str]:
    # FLWR_HOME is also the mark by which our processes are found again.
    tools = str(Path(sys.executable).parent)
    return os.environ | {
        # SuperLink starts its own commands by name; the environment may not be activated.
        "PATH": f"{tools}{os.pathsep}{os.environ.get('PATH', '')}",
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": str(home),
        "RAY_DEDUP_LOGS": "0",
        "PYTHONWARNINGS": "ignore",
    }


def _tool(name: str) -> str:
    """A command of the running environment, which need not be on the PATH."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise LaunchError(f"{name} is not installed; pip install 'flwr[simulation]'")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_up(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise LaunchError(f"flower-superlink ended with code {process.returncode}; see {log}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.2)
    raise LaunchError(f"flower-superlink is not up after {STARTUP_SECONDS:.0f} s; see {log}")


def _flwr_run(
    app: Path, config: RunConfig, overrides: Sequence[str], output: Path, link: _SuperLink
) -> int:
    """``flwr run`` with its log appended to the run's; returns the exit code."""
    settings = {"overrides": shlex.join(overrides), "output": str(output)}
    run_config = " ".join(f"{key}={json.dumps(value)}" for key, value in settings.items())
    gpus = 1 / config.federation.nodes if config.backbone.device == "cuda" else 0
    resources = (
        f"num-supernodes={config.federation.nodes} client-resources-num-cpus=1"
        f" client-resources-num-gpus={gpus}"
    )
    command = [_tool("flwr"), "run", str(app), "own", "--stream"]
    command += ["--run-config", run_config, "--federation-config", resources]
    with (output / LOG_FILE).open("a", encoding="utf-8") as file:
        done = subprocess.run(
            command, cwd=link.home, env=link.env, stdout=file, stderr=subprocess.STDOUT, check=False
        )
    return done.returncode


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


def _end_processes_of(home: Path) -> None:
    """End every process that carries our home in its environment, and no other."""
    ours = _processes_of(home)
    for process in ours:
        _signal(process, "terminate")
    psutil.wait_procs(ours, timeout=GRACE_SECONDS)
    # Workers may have started others meanwhile; what is left after the grace is ended for good.
    for process in _processes_of(home):
        _signal(process, "kill")
    psutil.wait_procs(_processes_of(home), timeout=GRACE_SECONDS)


def _processes_of(home: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get("FLWR_HOME") == str(home):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def _signal(process: psutil.Process, how: str) -> None:
    try:
        getattr(process, how)()
    except psutil.NoSuchProcess:
        return
