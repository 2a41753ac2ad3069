"""Requests to end: Ctrl-C, a request to terminate, a closed terminal."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType

_ENDING = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]

Handler = Callable[[int, FrameType | None], None] | signal.Handlers


@contextmanager
def handled(handler: Handler) -> Iterator[None]:
    """Handle every request to end in one way; those that the caller ignores stay ignored."""
    if current_thread() is not main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _ENDING}
    ours = {n: old for n, old in before.items() if old not in (signal.SIG_IGN, None)}
    for number in ours:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in ours.items():
            signal.signal(number, old)


@contextmanager
def told_first(tell: Callable[[], None]) -> Iterator[None]:
    """Tell of every request to end before whoever handles it."""
    before = {number: signal.getsignal(number) for number in _ENDING}

    def told(number: int, _frame: FrameType | None) -> None:
        tell()
        signal.signal(number, before[signal.Signals(number)])
        signal.raise_signal(number)

    with handled(told):
        yield


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """A handler for whom every such request is a Ctrl-C."""
    raise KeyboardInterrupt
