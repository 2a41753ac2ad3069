"""Processes of a run: found again by the mark that they carry, and ended for good."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

MARK = "FLWR_HOME"
"""Environment variable with the run's own folder: the mark of whatever is started for it."""

CONNECTIONS = Path("/proc/net/tcp")
"""Linux's table of IPv4 connections and their owners; elsewhere only an administrator sees one."""

GRACE_SECONDS = 8.0
POLL_SECONDS = 0.1


def marked(home: Path) -> set[psutil.Process]:
    """Processes that carry the run's mark, this one left out.

    Ray's agents overwrite their environment; they are found as :func:`descendants`.
    """
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.pid != os.getpid() and process.environ().get(MARK) == str(home):
                found.add(process)
    return found


def descendants(pid: int) -> set[psutil.Process]:
    """Children of a process and theirs, as far as their parents live."""
    try:
        return set(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return set()


def end(processes: Iterable[psutil.Process]) -> None:
    """End processes and what they start meanwhile, first politely, then for good."""
    ours = set(processes)
    for how in ("terminate", "kill"):
        ours = ours.union(*(descendants(process.pid) for process in ours if _alive(process)))
        for process in ours:
            with suppress(psutil.NoSuchProcess):
                getattr(process, how)()
        deadline = time.monotonic() + GRACE_SECONDS
        while any(_alive(process) for process in ours) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
    psutil.wait_procs(ours, timeout=0)  # our own children: none stays as a zombie


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
