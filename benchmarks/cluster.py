"""A simulation on a Ray cluster of two nodes, beside the same run without; ``make test-cluster``.

Writes ``results/cluster.json`` and ends with 1 when a Ray node did no work, when a number differs,
or when somebody without the token gets in. The two Ray nodes are one machine's, one core each, as
``docs/how-to/ray-cluster.md`` starts them; where this system lets us, the second has a ``/tmp`` of
its own, so that nothing reaches it that another machine would not have. Each has a home of its own:
what clients trained stays where they did it, which tells who worked.
"""

from __future__ import annotations

import csv
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from machine import HOME, facts, write
from sglora_fed.kept.store import ALONE
from sglora_fed.launching.processes import MARK
from sglora_fed.launching.run import tool
from sglora_fed.launching.superlink import keeper_command, start

SMALL = (
    "experiment=assistant",
    "generator=ridge",
    "family.rule_experts=24",
    "family.style_experts=0",
    "family.clients_per_split=8",
    "family.train_per_client=64",
    "experiment.methods=[zero_shot,ridge,local_5shot]",
    "federation.clients_per_message=4",
)
"""Six messages for each of two nodes, and something that clients train."""

LIMIT = 120.0
REPOSITORY = Path(__file__).parents[1]
OWN_TMP = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /tmp && exec "$@"', "sh")
"""What starts a command that sees an empty ``/tmp``."""

ENTER = "import ray; ray.init(); print('entered', flush=True)"

Values = dict[tuple[str, ...], float]


def environment(**more: str) -> dict[str, str]:
    """Of every process, all of which import this checkout."""
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "RAY_AUTH_MODE": "token", **more}


@contextmanager
def ray_node(home: Path, token: str, *told: str, before: tuple[str, ...] = ()) -> Iterator[None]:
    """A Ray node of one core; its processes end with the context, or with this one.

    Args:
        home: in which its workers keep what they make.
        token: of the cluster.
        told: what it is, for ``ray start``.
        before: what starts it.
    """
    folder = Path(tempfile.mkdtemp(prefix="sglora-", dir="/tmp"))
    home.mkdir()
    env = environment(RAY_AUTH_TOKEN=token, **{HOME: str(home), MARK: str(folder)})
    ray = [tool("ray"), "start", "--block", "--num-cpus=1", "--disable-usage-stats"]
    # One machine: two nodes must not share out the same ports.
    ports = ["--min-worker-port=0", "--max-worker-port=0"]
    log = home.with_suffix(".log")
    command = keeper_command(folder, [*before, *ray, *ports, *told])
    process = start(command, folder, env, log)
    try:
        _wait_until_up(process, log)
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()  # the keeper ends all that is marked
        process.wait(LIMIT)


def _wait_until_up(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + LIMIT
    while "Ray runtime started" not in log.read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"ray start failed:\n{log.read_text()}")
        time.sleep(0.1)


def simulate(output: Path, home: Path, **more: str) -> None:
    """One run, to its end."""
    command = [tool("sglora-fed"), "simulate", *SMALL, "--output", str(output)]
    env = environment(**{HOME: str(home)}, **more)
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)


def values(output: Path) -> Values:
    """Client, method and metric -> its value."""
    with (output / "clients.csv").open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        return {(r["client"], r["method"], r["metric"]): float(r["value"]) for r in rows}


def largest_difference(one: Values, other: Values) -> float:
    """Of any number; infinite where they are not of the same things."""
    if one.keys() != other.keys() or not one:
        return float("inf")
    return max(abs(one[place] - other[place]) for place in one)


def trained(home: Path) -> set[str]:
    """What clients have trained below a home: hashes of all that went into it."""
    return {path.name for path in (home / "kept" / ALONE).glob("*")}


def gets_in(address: str, token: str) -> bool:
    """Whether somebody with a token can use the cluster."""
    env = environment(RAY_ADDRESS=address, RAY_AUTH_TOKEN=token)
    told = subprocess.run([sys.executable, "-c", ENTER], env=env, capture_output=True, check=False)
    return b"entered" in told.stdout


def has_own_tmp() -> bool:
    """Whether this user may give a process a ``/tmp`` of its own."""
    told = [*OWN_TMP, "true"]
    return subprocess.run(told, capture_output=True, check=False).returncode == 0


def free_port() -> int:
    """Of loopback."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def on_cluster(folder: Path) -> dict[str, Any]:
    """The run on two Ray nodes, and who gets in."""
    token, address = secrets.token_hex(32), f"127.0.0.1:{free_port()}"
    port, apart = address.partition(":")[2], has_own_tmp()
    head = ("--head", f"--port={port}", "--include-dashboard=false")
    joined, before = f"--address={address}", OWN_TMP if apart else ()
    with (
        ray_node(folder / "first", token, *head),
        ray_node(folder / "second", token, joined, before=before),
    ):
        simulate(folder / "cluster", folder / "server", RAY_ADDRESS=address, RAY_AUTH_TOKEN=token)
        return {
            "second_has_its_own_tmp": apart,
            "enters_with_the_token": gets_in(address, token),
            "enters_with_another": gets_in(address, secrets.token_hex(32)),
        }


def main() -> int:
    """Both runs, and what they say of each other; 1 when something is not as it should be."""
    # Not in /tmp, which the second Ray node may have for itself.
    with tempfile.TemporaryDirectory(prefix="sglora-cluster-", dir="/var/tmp") as name:
        folder = Path(name)
        found = on_cluster(folder)
        simulate(folder / "alone", folder / "home")
        one, other = values(folder / "alone"), values(folder / "cluster")
        shares = [trained(folder / home) for home in ("first", "second")]
        whole = trained(folder / "home")
    found |= {
        "numbers": len(one),
        "largest_difference": largest_difference(one, other),
        "trained_by_each": [len(share) for share in shares],
        "trained_without": len(whole),
    }
    # The same names are the same tasks, examples, starts and seeds.
    found["ok"] = (
        found["largest_difference"] == 0
        and all(shares)
        and set.union(*shares) == whole
        and found["enters_with_the_token"]
        and not found["enters_with_another"]
    )
    write("cluster", facts("flwr", "ray") | found)
    return int(not found["ok"])


if __name__ == "__main__":
    sys.exit(main())
