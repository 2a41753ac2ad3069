"""A SuperLink of our own: started with its own home, and ended with all that it started."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sglora_fed.errors import LaunchError
from sglora_fed.launching.environment import child_environment
from sglora_fed.launching.processes import GRACE_SECONDS, end, marked
from sglora_fed.signals import handled

STARTUP_SECONDS = 60.0
POLL_SECONDS = 0.1
NAME = "own"
"""What Flower's configuration in our home calls the SuperLink."""


@dataclass(frozen=True)
class SuperLink:
    """A running SuperLink: its keeper, its home, and the environment of all that it starts."""

    keeper: subprocess.Popen[bytes]
    home: Path
    env: dict[str, str]
    log: Path

    def check_alive(self) -> None:
        """Raise ``LaunchError``, with the end of the log, when it has ended."""
        if (code := self.keeper.poll()) is not None:
            raise LaunchError(
                f"flower-superlink ended with code {code}: {last_line(self.log)}; see {self.log}"
            )


@contextmanager
def superlink(log: Path) -> Iterator[SuperLink]:
    """A SuperLink that is up. With the context it ends, and so do all its descendants.

    Args:
        log: gets the output of all processes, at its end.

    Raises:
        LaunchError: when it ends or is not up in ``STARTUP_SECONDS``; the message says why.
    """
    # Not $TMPDIR: Ray's sockets lie below it, and a socket's path has at most 107 characters.
    # Nobody else may enter: made with mode 700.
    home = Path(tempfile.mkdtemp(prefix="sglora-", dir="/tmp" if Path("/tmp").is_dir() else None))
    env, port_file = child_environment(home), home / "port"
    keeper = start(keeper_command(home, superlink_command(port_file)), home, env, log)
    try:
        link = SuperLink(keeper, home, env, log)
        _write_flower_config(home, _wait_until_up(link, port_file))
        yield link
    finally:
        # An impatient second Ctrl-C must not leave half of them running.
        with handled(signal.SIG_IGN):
            _dismiss(keeper, home)


def keeper_command(home: Path, command: Sequence[str]) -> list[str]:
    """What starts a command under the eyes of the keeper."""
    return [sys.executable, "-m", "sglora_fed.launching.keeper", str(home), *command]


def superlink_command(port_file: Path) -> list[str]:
    """What starts the SuperLink, which writes its port to a file."""
    return [sys.executable, "-m", "sglora_fed.launching.guarded", str(port_file)]


def start(
    command: Sequence[str], home: Path, env: dict[str, str], log: Path
) -> subprocess.Popen[bytes]:
    """Start a process of ours: its output goes to the end of the log, Ctrl-C not to it.

    Its standard input is a pipe that ends with us.
    """
    # Appending, as two processes share the log. In a neutral working folder, because Flower's
    # workers would import the app from it first.
    with log.open("ab") as file:
        return subprocess.Popen(
            command,
            cwd=home,
            env=env,
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


def last_line(log: Path) -> str:
    """The last line of a log that says anything."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it wrote nothing")


def _dismiss(keeper: subprocess.Popen[bytes], home: Path) -> None:
    """Have the keeper clean up; where it was killed itself, do its work."""
    if keeper.stdin is not None:
        keeper.stdin.close()
    with suppress(subprocess.TimeoutExpired):
        keeper.wait(3 * GRACE_SECONDS)
    end(marked(home))
    shutil.rmtree(home, ignore_errors=True)


def _wait_until_up(link: SuperLink, port_file: Path) -> int:
    """The port of the SuperLink, once it answers there."""
    deadline, seen = time.monotonic() + STARTUP_SECONDS, "it has not opened its port"
    # Never through a proxy: it could not reach this machine's loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline:
        link.check_alive()
        time.sleep(POLL_SECONDS)
        if not port_file.exists():
            continue
        port = int(port_file.read_text(encoding="ascii"))
        try:
            with opener.open(f"http://127.0.0.1:{port}/health", timeout=5):
                return port
        except OSError as error:
            seen = f"http://127.0.0.1:{port}/health: {error}"
    raise LaunchError(
        f"flower-superlink is not up after {STARTUP_SECONDS:.0f} s: {seen}; the log {link.log} ends"
        f" with: {last_line(link.log)}"
    )


def _write_flower_config(home: Path, port: int) -> None:
    lines = ["[superlink]", f'default = "{NAME}"', f"[superlink.{NAME}]"]
    lines += [f'address = "127.0.0.1:{port}"', "insecure = true"]
    (home / "config.toml").write_text("\n".join(lines), encoding="utf-8")
