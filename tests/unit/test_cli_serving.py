"""``sglora-fed serve`` as a process: it starts, answers, and stops when it is told to."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sglora_fed import cli
from sglora_fed.config.schema import GeneratorConfig
from sglora_fed.errors import EndpointError
from sglora_fed.generators import fit_generator
from sglora_fed.generators.export import About, read_export, write_export
from sglora_fed.serving.client import EndpointClient
from sglora_fed.serving.wire import AdapterRequest
from sglora_fed.zoo import Zoo, ZooIdentity

PROGRAM = "from sglora_fed.cli import main; main()"


@pytest.fixture
def folder(tmp_path: Path, make_zoo: Callable[..., Zoo], identity: ZooIdentity) -> Path:
    zoo, config = make_zoo(4), GeneratorConfig()
    about = About("assistant", None, None, identity, ())
    write_export(tmp_path / "out", fit_generator(config, "ridge", zoo, 0), config, about, None)
    return tmp_path / "out"


@pytest.fixture
def started(folder: Path) -> Iterator[Callable[..., Any]]:
    """A function of arguments that starts an endpoint, and gives the process and its first line."""
    found: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> tuple[subprocess.Popen[str], dict[str, Any]]:
        command = [sys.executable, "-c", PROGRAM, "serve", str(folder), *arguments]
        found.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        stream = found[-1].stderr
        assert stream is not None
        line = next(text for text in stream if text.startswith("{"))
        return found[-1], json.loads(line)

    yield start
    for process in found:
        process.kill()
        process.wait()


def test_it_answers_until_it_is_told_to_stop(started: Callable[..., Any]) -> None:
    process, told = started("--insecure", "--port", "0")
    host, port = told["listening"].split(":")
    assert (host, told["tls"]) == ("127.0.0.1", False)
    connection = http.client.HTTPConnection(host, int(port), timeout=5)
    connection.request("GET", "/healthz")
    assert connection.getresponse().read() == b'{"status":"ok"}'
    body = json.dumps({"embedding": [1, 0, 0, 0, 0, 0]})
    connection.request("POST", "/v1/adapters", body, {"content-type": "application/json"})
    assert connection.getresponse().status == 200
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0


def test_a_killed_endpoint_is_back_at_once_as_it_was(
    started: Callable[..., Any], folder: Path
) -> None:
    process, told = started("--insecure", "--port", "0")
    port = int(told["listening"].split(":")[1])
    client = EndpointClient("127.0.0.1", port, read_export(folder).layout, None)
    request = AdapterRequest(np.eye(6, dtype=np.float16)[0])
    before = client.adapters(request).adapters
    process.kill()
    process.wait()
    with pytest.raises(EndpointError):
        client.adapters(request)
    started("--insecure", "--port", str(port))
    np.testing.assert_array_equal(client.adapters(request).adapters, before)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), "SGL-837"),
        (("--cert", "a.pem"), "SGL-837"),
        (("--cert", "a.pem", "--key", "b.pem", "--ca", "c.pem", "--insecure"), "SGL-837"),
        (("--insecure", "--host", "0.0.0.0"), "SGL-837"),
        (("--cert", "a.pem", "--key", "b.pem", "--ca", "c.pem"), "SGL-838"),
        (("--insecure", "--rate", "0"), "SGL-100"),
        (("--insecure", "--epsilon", "8"), "SGL-100"),
        (("--insecure", "--epsilon", "8", "--total-epsilon", "4"), "SGL-100"),
        (("--insecure", "--signer", "key.pem"), "SGL-504"),
        (("--insecure", "--page"), "SGL-837"),
    ],
)
def test_what_is_refused(
    folder: Path,
    arguments: tuple[str, ...],
    code: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["sglora-fed", "serve", str(folder), *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code
    assert code in capsys.readouterr().err
