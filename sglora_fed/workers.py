"""Processes that share a computation: new ones, which end with whoever started them."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from threading import Thread

from sglora_fed.config.plugins import load_plugins


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0))


def pool(workers: int) -> ProcessPoolExecutor:
    """So many processes; not forked, because whoever asks may have threads."""
    return ProcessPoolExecutor(workers, get_context("spawn"), _begin)


def _begin() -> None:
    """In a new process: the plug-ins, and an end with whoever started it, killed or not."""
    # Ctrl-C reaches all processes of a terminal; a traceback of each would say nothing more.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    load_plugins()
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)
