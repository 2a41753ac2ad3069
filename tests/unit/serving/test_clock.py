"""An endpoint in a process of its own, whose clock somebody sets while it is up."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sglora_fed.errors import EndpointError
from sglora_fed.generators.export import Export
from sglora_fed.serving.client import EndpointClient
from sglora_fed.serving.tls import Files
from sglora_fed.serving.wire import AdapterRequest

PROGRAM = """
import sys, time
from pathlib import Path
right, told = time.time, Path(sys.argv.pop(1))
time.time = lambda: right() + float(told.read_text())
from sglora_fed.cli import main
main()
"""
"""The command line, on a machine whose clock is off by as many seconds as a file says."""


@pytest.fixture
def started(
    tmp_path: Path, export: Export, issue: Callable[..., Files]
) -> Iterator[Callable[[float], tuple[EndpointClient, Callable[[float], object]]]]:
    """A function that starts an endpoint; a client of it, and what sets the endpoint's clock."""
    processes: list[subprocess.Popen[str]] = []
    clock = tmp_path / "clock"

    def start(off: float) -> Any:
        own = issue("endpoint")
        clock.write_text(str(off))
        told = ["--cert", own.certificate, "--key", own.key, "--ca", own.authority, "--port", "0"]
        command = [sys.executable, "-c", PROGRAM, clock, "serve", export.folder, *told]
        processes.append(
            subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
        )
        stream = processes[-1].stderr
        assert stream is not None
        line = json.loads(next(text for text in stream if text.startswith("{")))
        port = int(line["listening"].split(":")[1])
        client = EndpointClient("127.0.0.1", port, export.layout, issue("node-1"))
        return client, lambda seconds: clock.write_text(str(seconds))

    yield start
    for process in processes:
        process.kill()
        process.wait()


def test_it_refuses_while_its_clock_is_wrong_and_takes_when_it_is_right(
    started: Callable[..., Any], released: AdapterRequest
) -> None:
    client, set_clock = started(-3600.0)  # as after a start without a battery for the clock
    for wrong in (-3600.0, 3600.0, -40.0):
        set_clock(wrong)
        with pytest.raises(EndpointError, match="code 831"):
            client.adapters(released)
        set_clock(0.0)
        assert len(client.adapters(released).adapters) == 1
