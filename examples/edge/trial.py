"""The processes of a trial on one machine: what the guide tells an engineer to type, typed here.

``docs/how-to/deploy.md`` explains each step. The example, the end-to-end test, the fault tests and
the benchmark all start their processes here.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

TOOLS = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parents[2]

Process = subprocess.Popen[bytes]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Trial:
    """A folder with certificates, a SuperLink, a service and nodes, all on this machine.

    Attributes:
        folder: new.
        names: of the nodes that may be started.
        port: of the SuperLink.
        processes: those that were started, by name; all end with the context.
    """

    folder: Path
    names: Sequence[str]
    port: int = field(default_factory=free_port)
    processes: dict[str, Process] = field(default_factory=dict)

    def __enter__(self) -> Trial:
        self.folder.mkdir(parents=True)
        told = [option for name in self.names for option in ("--node", name)]
        told += ["--server", "127.0.0.1", "--port", str(self.port)]
        self.command("sglora-fed", "certs", "init", str(self.certs), *told)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for name in list(self.processes):
            self.kill(name)

    @property
    def certs(self) -> Path:
        """What ``certs init`` makes."""
        return self.folder / "certs"

    @property
    def output(self) -> Path:
        """Of the service."""
        return self.folder / "out"

    def node(self, name: str) -> Path:
        """A node's folder."""
        return self.folder / name

    def log(self, name: str) -> str:
        """What a process has said."""
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def environment(self) -> dict[str, str]:
        """Of every process: no calls home, no installations, the operator's Flower."""
        return os.environ | {
            "PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "FLWR_HOME": str(self.certs / "operator"),
            "SGLORA_FED_HOME": str(self.folder / "home"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "OMP_NUM_THREADS": "1",
        }

    def command(self, tool: str, *arguments: str) -> str:
        """Run a command to its end; what it printed.

        Raises:
            RuntimeError: when it fails.
        """
        done = subprocess.run(
            [str(TOOLS / tool), *arguments],
            env=self.environment(),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{tool} {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def start(self, name: str, command: Sequence[str], **env: str) -> Process:
        """Start a process of this name; its output goes to ``NAME.log``."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                env=self.environment() | env,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=0o077,
            )
        return self.processes[name]

    def start_superlink(self) -> None:
        """TLS, registered keys, and a database that outlives it; returns when it answers."""
        server = self.certs / "server"
        command = ["flower-superlink", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--ssl-ca-certfile", str(server / "ca.crt")]
        command += ["--ssl-certfile", str(server / "server.pem")]
        command += ["--ssl-keyfile", str(server / "server.key")]
        command += ["--enable-supernode-auth", "--database", str(self.folder / "state.db")]
        self.start("superlink", command, FLWR_HOME=str(self.folder / "superlink"))
        self.wait(self.listens, 60, "the SuperLink")

    def listens(self) -> bool:
        """Whether somebody does on the SuperLink's port."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def register(self, name: str) -> None:
        """Let a node's key in."""
        public = self.certs / "nodes" / name / "node.pub"
        self.command("flwr", "supernode", "register", str(public), "trial")

    def serve(self, *overrides: str) -> None:
        """Start the service."""
        told = ["trial", "--goal", "serve", "--output", str(self.output), *overrides]
        self.start("service", [str(TOOLS / "sglora-fed"), "run", *told])

    def make_node(self, name: str, description: str, *options: str) -> str:
        """Set a node up; the command that connects it."""
        told = ["--description", description, "--superlink", f"127.0.0.1:{self.port}"]
        told += ["--certs", str(self.certs / "nodes" / name), "--port", str(free_port())]
        said = self.command("sglora-fed", "client", "init", str(self.node(name)), *told, *options)
        return said.strip().splitlines()[-1]

    def connect(self, name: str, line: str) -> None:
        """Connect a node by the command that ``client init`` printed."""
        self.start(name, ["bash", "-c", line])

    def adopted(self, name: str) -> dict[str, Any] | None:
        """What a node says of its adapter, or None."""
        try:
            return dict(json.loads((self.node(name) / "adapter" / "adopted.json").read_bytes()))
        except FileNotFoundError:
            return None

    def wait(self, met: Callable[[], object], seconds: float, what: str) -> float:
        """Seconds until something is so.

        Raises:
            TimeoutError: when it does not become so.
        """
        begun = time.monotonic()
        while not met():
            if time.monotonic() > begun + seconds:
                raise TimeoutError(f"{what} after {seconds:.0f} s; see {self.folder}")
            time.sleep(0.1)
        return time.monotonic() - begun

    def members(self, name: str) -> list[psutil.Process]:
        """A process and all that it has started."""
        try:
            first = psutil.Process(self.processes[name].pid)
            return [first, *first.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def stop(self, name: str, seconds: float = 30) -> int:
        """Ask a process to end; its exit code."""
        self.processes[name].terminate()
        code = self.processes[name].wait(seconds)
        del self.processes[name]
        return code

    def kill(self, name: str) -> None:
        """End a process, and all that it has started, as a power cut would."""
        process = self.processes.pop(name)
        for member in self._group(process):
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def _group(self, process: Process) -> list[psutil.Process]:
        try:
            return psutil.Process(process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
