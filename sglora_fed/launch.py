"""Start a Flower run on a SuperLink of our own, follow it, and leave no process behind."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread, current_thread, main_thread
from types import FrameType

import psutil
import torch
from rich.console import Console

from sglora_fed.config import RunConfig
from sglora_fed.config.plugins import PLUGINS
from sglora_fed.config.schema import BackboneConfig
from sglora_fed.errors import LaunchError
from sglora_fed.experiments.progress import follow
from sglora_fed.files import write_atomically
from sglora_fed.results.files import CLIENTS, SUMMARY, ZOOS

STARTUP_SECONDS = 60.0
GRACE_SECONDS = 8.0
POLL_SECONDS = 0.3
PROOF = {"run": SUMMARY, "zoo": ZOOS}
"""What a run may be for -> the last file that it writes."""

LOG_FILE, ERROR_FILE, PROGRESS_FILE = "log.txt", "error.json", "progress.jsonl"

APP_FILES, APP_FOLDERS = ("pyproject.toml", "LICENSE"), ("server", "client")
BESIDE_APP = ("sglora_fed", "configs")
"""What belongs to the Flower app in the repository; a package's copy does without."""

_ENDING_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
"""Ctrl-C, a request to terminate, a closed terminal."""


@dataclass(frozen=True)
class _SuperLink:
    """A running SuperLink: its process, its home, and the environment of all that it starts."""

    process: subprocess.Popen[bytes]
    home: Path
    env: dict[str, str]
    log: Path
    descendants: set[psutil.Process]


def run_flower(
    config: RunConfig, overrides: Sequence[str], output: Path, console: Console, goal: str = "run"
) -> None:
    """Run the Flower app for a configuration in simulation.

    All processes started for it have ended on return, also after an error, Ctrl-C or a request
    to terminate.

    Args:
        config: already composed, so that its mistakes are found before anything starts.
        overrides: what ``config`` was composed from; both apps compose it again.
        output: absolute folder of the results; files of an earlier run there are removed.
        console: for the progress bars.
        goal: a key of ``PROOF``.

    Raises:
        LaunchError: when Flower cannot be started or the run does not finish; the message holds
            the server's own reason, or names the log.
        ResultsError: when ``output`` cannot be written.
    """
    app, log = app_folder(), output / LOG_FILE
    write_atomically(log, b"")
    for stale in (*PROOF.values(), CLIENTS, "report.html", ERROR_FILE, PROGRESS_FILE):
        (output / stale).unlink(missing_ok=True)
    with _signals(_interrupt), _superlink(log) as link, _bars(output / PROGRESS_FILE, console):
        settings = {"output": str(output), "goal": goal}
        settings["overrides"] = shlex.join(with_absolute_paths(config, overrides))
        code = _flwr_run(staged(app, link.home / "app"), config, settings, link)
    if (output / ERROR_FILE).exists():
        reason = json.loads((output / ERROR_FILE).read_text(encoding="utf-8"))["message"]
        raise LaunchError(f"the server gave up: {reason}")
    if code != 0 or not (output / PROOF[goal]).exists():
        raise LaunchError(f"the run did not finish (exit code {code}); see {log}")


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


def staged(app: Path, folder: Path) -> Path:
    """A copy of the app alone: Flower looks at every file of the folder, environments included.

    Args:
        app: as :func:`app_folder` gives it.
        folder: made for the copy.

    Returns:
        ``folder``.
    """
    folder.mkdir(parents=True)
    for name in APP_FILES:
        shutil.copy(app / name, folder)
    beside = [name for name in BESIDE_APP if (app / name).is_dir()]
    for name in (*APP_FOLDERS, *beside):
        shutil.copytree(app / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def with_absolute_paths(config: RunConfig, overrides: Sequence[str]) -> list[str]:
    """Overrides that mean the same in any working folder: Flower's workers run in another one.

    Args:
        config: composed from ``overrides``.
        overrides: kept; those that name a relative path are set again behind them.
    """
    paths = {
        "family": config.family.path,
        "backbone": config.backbone.path,
        "zoo": config.zoo.path,
    }
    found = list(overrides)
    for group, value in paths.items():
        path = Path(value or "/").expanduser()
        # A backbone or a data set may be a hub id; a zoo's folder need not exist yet.
        if not path.is_absolute() and (group == "zoo" or path.exists()):
            quoted = str(path.absolute()).replace("'", "\\'")
            found.append(f"{group}.path='{quoted}'")
    return found


@contextmanager
def _superlink(log: Path) -> Iterator[_SuperLink]:
    """A SuperLink on a free port with its own home, ended with all its descendants."""
    # Not $TMPDIR: Ray's sockets lie below it, and a socket's path has at most 107 characters.
    home = Path(tempfile.mkdtemp(prefix="sglora-", dir="/tmp" if os.path.isdir("/tmp") else None))
    port, env, descendants = _free_port(), _environment(home), set[psutil.Process]()
    try:
        process = _start(_superlink_command(port), home, env, log)
        link = _SuperLink(process, home, env, log, descendants)
        _wait_until_up(link, port)
        lines = ["[superlink]", 'default = "own"', "[superlink.own]"]
        lines += [f'address = "127.0.0.1:{port}"', "insecure = true"]
        (home / "config.toml").write_text("\n".join(lines), encoding="utf-8")
        yield link
    finally:
        # An impatient second Ctrl-C must not leave half of them running.
        with _signals(signal.SIG_IGN):
            _end_processes(descendants | _processes_of(home))
            shutil.rmtree(home, ignore_errors=True)


def _superlink_command(port: int) -> list[str]:
    command = [_tool("flower-superlink"), "--insecure", "--simulation", "--isolation", "subprocess"]
    return [*command, "--host", "127.0.0.1", "--port", str(port)]


def _start(
    command: list[str], home: Path, env: dict[str, str], log: Path
) -> subprocess.Popen[bytes]:
    """Start a process of ours: its output goes to the end of the log, Ctrl-C not to it."""
    # Appending, as two processes share the log. In a neutral working folder, because Flower's
    # workers would import the app from it first.
    with log.open("ab") as file:
        return subprocess.Popen(
            command, cwd=home, env=env, stdout=file, stderr=file, start_new_session=True
        )


def _environment(home: Path) -> dict[str, str]:
    # FLWR_HOME is also the mark by which our processes are found again.
    tools = str(Path(sys.executable).parent)
    plugins = os.environ.get(PLUGINS, "").split(os.pathsep)
    return os.environ | {
        # Flower's processes run in another working folder.
        PLUGINS: os.pathsep.join(str(Path(name).absolute()) for name in plugins if name),
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


def _wait_until_up(link: _SuperLink, port: int) -> None:
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline:
        _check_alive(link)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(POLL_SECONDS)
    raise LaunchError(f"flower-superlink is not up after {STARTUP_SECONDS:.0f} s; see {link.log}")


def _check_alive(link: _SuperLink) -> None:
    if (code := link.process.poll()) is not None:
        raise LaunchError(f"flower-superlink ended with code {code}; see {link.log}")


def _flwr_run(app: Path, config: RunConfig, settings: dict[str, str], link: _SuperLink) -> int:
    """``flwr run`` until the run ends; returns its exit code."""
    # A file, because Flower's command line has no way to quote a quote.
    file = link.home / "run.toml"
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in settings.items()]
    file.write_text("\n".join(lines), encoding="utf-8")
    nodes = config.federation.nodes
    resources = (
        f"num-supernodes={nodes} client-resources-num-cpus=1"
        f" client-resources-num-gpus={_gpus_per_node(config.backbone, nodes)}"
    )
    command = [_tool("flwr"), "run", str(app), "own", "--stream"]
    command += ["--run-config", str(file), "--federation-config", resources]
    run = _start(command, link.home, link.env, link.log)
    while (code := run.poll()) is None:
        _check_alive(link)
        link.descendants.update(_descendants(link.process.pid))
        time.sleep(POLL_SECONDS)
    return code


def _gpus_per_node(backbone: BackboneConfig, nodes: int) -> float:
    """Share of a GPU per node; Ray hides the GPUs from a worker that asks for none."""
    return 0.0 if backbone.device == "cpu" else min(1.0, torch.cuda.device_count() / nodes)


@contextmanager
def _signals(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> Iterator[None]:
    """Handle every request to end in one way; those that the caller ignores stay ignored."""
    if current_thread() is not main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _ENDING_SIGNALS}
    ours = {n: old for n, old in before.items() if old not in (signal.SIG_IGN, None)}
    for number in ours:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in ours.items():
            signal.signal(number, old)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


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


def _end_processes(ours: set[psutil.Process]) -> None:
    """End these processes and what they start meanwhile, first politely, then for good."""
    for how in ("terminate", "kill"):
        ours = ours.union(*(_descendants(process.pid) for process in ours if _alive(process)))
        for process in ours:
            with suppress(psutil.NoSuchProcess):
                getattr(process, how)()
        deadline = time.monotonic() + GRACE_SECONDS
        while any(_alive(process) for process in ours) and time.monotonic() < deadline:
            time.sleep(0.1)
    psutil.wait_procs(ours, timeout=0)  # our own children: none stays as a zombie


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _processes_of(home: Path) -> set[psutil.Process]:
    """Processes that carry our home in their environment.

    This finds orphans; Ray's agents, which overwrite their environment, are known as descendants.
    """
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.pid != os.getpid() and process.environ().get("FLWR_HOME") == str(home):
                found.add(process)
    return found
