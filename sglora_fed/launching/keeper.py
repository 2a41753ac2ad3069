"""The keeper of a run: starts its SuperLink, and cleans up when whoever started it is gone.

``python -m sglora_fed.launching.keeper HOME COMMAND...`` runs the command until standard input
ends. The system closes that pipe however its other end dies, ``kill -9`` included, so that no
SuperLink, no worker and no folder is left.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from sglora_fed.launching.processes import descendants, end, marked

POLL_SECONDS = 0.2
PR_SET_CHILD_SUBREAPER = 36
"""From Linux's ``prctl.h``."""


def keep(home: Path, command: Sequence[str]) -> int:
    """Run a command until it ends or standard input does, then end and remove all of the run.

    Args:
        home: the run's own folder, which marks its processes; removed.
        command: inherits environment, output and working folder.

    Returns:
        The command's exit code; negative when it was ended by a signal.
    """
    _adopt_orphans()
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        while child.poll() is None and not _input_ended():
            pass
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end(descendants(os.getpid()) | marked(home))
        shutil.rmtree(home, ignore_errors=True)
    return child.wait()


def _adopt_orphans() -> None:
    """Whatever loses its parent becomes a child of ours, also what overwrote its environment."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _input_ended() -> bool:
    """Wait a little; nothing is ever written to the pipe, so what can be read is its end."""
    return bool(select.select([sys.stdin], [], [], POLL_SECONDS)[0])


if __name__ == "__main__":
    # A request to terminate is one to clean up, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(keep(Path(sys.argv[1]), sys.argv[2:]))
