"""The SuperLink of a run answers the user who started it, and nobody else on the machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from sglora_fed.launching.environment import child_environment
from sglora_fed.launching.superlink import superlink_command

ASK = """
import os, sys, urllib.error, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    opener.open("http://127.0.0.1:1")  # all is imported while the interpreter can be read
except urllib.error.URLError:
    os.setuid(int(sys.argv[2]))
for path in ("health", "v1/control/start-run", "v1/runtime/acquire-task"):
    request = urllib.request.Request(f"http://127.0.0.1:{sys.argv[1]}/{path}")
    try:
        print(opener.open(request, timeout=20).status)
    except urllib.error.HTTPError as error:
        print(error.code, error.read().decode())
"""


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("home")
    process = subprocess.Popen(superlink_command(home / "port"), env=child_environment(home))
    deadline = time.monotonic() + 60
    while not (home / "port").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    yield (home / "port").read_text()
    process.terminate()
    process.wait(20)


def ask(port: str, user: int) -> list[str]:
    """What three of its addresses answer to a user."""
    command = [sys.executable, "-c", ASK, port, str(user)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
    return told.stdout.splitlines()


@pytest.mark.skipif(os.getuid() != 0, reason="only root may be another user")
def test_another_user_is_refused_everywhere(port: str) -> None:
    assert ask(port, 54321) == ["403 this SuperLink serves its own user"] * 3
