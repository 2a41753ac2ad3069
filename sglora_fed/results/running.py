"""One run writes to a folder at a time, and one that ends without a word leaves its reason."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TextIO

from sglora_fed.errors import FolderBusyError, LaunchError, ResultsError, SgloraError
from sglora_fed.files import write_atomically
from sglora_fed.results.files import ERROR, RUNNING
from sglora_fed.signals import told_first


@contextmanager
def running(folder: Path, name: str) -> Iterator[None]:
    """The folder is this run's alone; whatever ends it otherwise than well stands in it.

    What an earlier run ended by stands there until one ends well.

    The note of a run is locked as long as the run lives, so that the system lets go of it however
    that ends: who finds a note that nobody holds knows that its run was killed.

    Args:
        folder: made when missing.
        name: of the run, for the others.

    Raises:
        FolderBusyError: when another run has the folder; it is not disturbed.
        ResultsError: when the folder cannot be written.
    """
    note = folder / RUNNING
    with _locked(note) as file:
        if before := file.read().strip():
            write_error(folder, LaunchError(f"{before}: it was killed"))
        file.truncate(0)
        file.write(f"{name}, begun {time.strftime('%Y-%m-%d %H:%M:%S')}")
        file.flush()
        stopped = LaunchError(f"{name} was stopped, or its SuperLink ended")
        ended = False
        try:
            # Flower's handler sends what it still has, and five seconds later the process is gone,
            # done or not.
            with told_first(partial(write_error, folder, stopped)):
                yield
            ended = True
            (folder / ERROR).unlink(missing_ok=True)
        except Exception:
            ended = True
            raise
        finally:
            # Whoever ends a process, its SuperLink's end included, does so by a signal.
            if not ended:
                write_error(folder, stopped)
            note.unlink(missing_ok=True)


def write_error(folder: Path, error: SgloraError) -> None:
    """Write why a run failed.

    Raises:
        ResultsError: when the folder cannot be written.
    """
    body = {"code": error.code, "message": str(error)}
    write_atomically(folder / ERROR, json.dumps(body, indent=2).encode())


@contextmanager
def _locked(note: Path) -> Iterator[TextIO]:
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        file = note.open("a+", encoding="utf-8")
    except OSError as error:
        raise ResultsError(f"{note} cannot be written: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderBusyError(f"{note.parent}: another run writes to it") from error
        file.seek(0)
        yield file
