"""What a node and its service survive, each done for real; ``make test-faults`` runs all.

Writes ``results/faults.json`` and ends with 1 when anything was lost: a partial adapter, a double
debit, a service that does not resume by itself within ``RESUMED`` seconds. Processes are started
again by this script as the units of ``docs/how-to/deploy.md`` would: the server after 5 seconds, a
node after 60.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np

from machine import RESULTS, facts, write

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "edge"))

from sglora_fed.adapters.layout import Layout, ModuleShape
from sglora_fed.adapters.peft_io import read_peft
from sglora_fed.backbones.weights import BaseModel
from sglora_fed.config.schema import FederationConfig
from sglora_fed.edge.settings import FILE, OwnNode, read_node
from sglora_fed.edge.shelf import put
from sglora_fed.errors import LedgerError, ResultsError
from sglora_fed.federation.book import Book
from sglora_fed.privacy import PrivUnitMechanism
from sglora_fed.privacy.floor import read_floor
from sglora_fed.privacy.ledger import Budget, Ledger, Request, create_ledger
from small_zoo import random_zoo
from trial import Trial

OFFERED = ("generator=ridge", "privacy=privunit", "privacy.epsilon=8", "federation.retry_after=5")
WORDS = "My camera hangs upside down."
LIMIT = 300.0
RESUMED = 90.0
SERVER_SECONDS, NODE_SECONDS = 5.0, 60.0
"""Until a supervisor starts a process again."""

LAYOUT = Layout((ModuleShape("query", 64, 64),), 4, 8.0)
BASE = BaseModel("somebody/model", "1" * 40)
POINTS = 100

Found = dict[str, Any]


@contextmanager
def standing(folder: Path, names: list[str]) -> Iterator[Trial]:
    """A SuperLink, a service, and registered keys."""
    with Trial(folder, names) as trial:
        random_zoo(folder / "zoo", list(OFFERED))
        trial.start_superlink()
        for name in names:
            trial.register(name)
        serve(trial)
        trial.wait(lambda: (trial.output / "counters.json").exists(), LIMIT, "no service")
        yield trial


def serve(trial: Trial) -> None:
    trial.serve(*OFFERED, f"zoo.path={trial.folder / 'zoo'}")


def events(trial: Trial) -> list[Found]:
    return [json.loads(line) for line in (trial.output / "events.jsonl").open()]


def whole(trial: Trial, name: str) -> bool:
    """Whether the node has no adapter, or all of one."""
    link = trial.node(name) / "adapter"
    if not link.exists():
        return True
    vector, _ = read_peft(link)
    return bool(np.isfinite(vector).all()) and trial.adopted(name) is not None


def spent(trial: Trial, name: str) -> float:
    node = read_node(trial.node(name) / FILE)
    return float(read_floor(node.file).opened().spent(node.name)[0])


def server_killed(folder: Path) -> Found:
    """Kill -9 of the SuperLink and its service, while a node answers."""
    with standing(folder, ["a"]) as trial:
        trial.connect("a", trial.make_node("a", WORDS))
        trial.wait(lambda: events(trial), LIMIT, "nothing was asked")
        time.sleep(random.uniform(0, 3))
        trial.kill("superlink")
        killed = time.monotonic()
        broken = not whole(trial, "a")
        trial.processes["service"].wait(LIMIT)
        failed = trial.processes["service"].returncode
        time.sleep(SERVER_SECONDS)
        trial.start_superlink()
        serve(trial)
        trial.wait(lambda: trial.adopted("a"), LIMIT, "no adapter")
        seconds = time.monotonic() - killed
        reason = json.loads((trial.output / "error.json").read_text())["message"]
        found = {"seconds": round(seconds, 1), "command_failed": failed != 0, "reason": reason}
        return found | verdict(seconds, broken or not whole(trial, "a"), spent(trial, "a") == 8)


def node_killed(folder: Path) -> Found:
    """Kill -9 of a node and all its processes, while it adopts."""
    with standing(folder, ["a"]) as trial:
        line = trial.make_node("a", WORDS)
        trial.connect("a", line)
        trial.wait(lambda: "Receiving: evaluate.adopt" in trial.log("a"), LIMIT, "no adapter sent")
        time.sleep(random.uniform(0, 1.5))
        trial.kill("a")
        killed = time.monotonic()
        broken, served = not whole(trial, "a"), len(events(trial))
        time.sleep(NODE_SECONDS)
        trial.connect("a", line)
        trial.wait(lambda: trial.adopted("a") and len(events(trial)) > served, LIMIT, "no adapter")
        seconds = time.monotonic() - killed
        found = {"seconds": round(seconds, 1), "of_which_waiting": NODE_SECONDS}
        return found | verdict(seconds, broken or not whole(trial, "a"), spent(trial, "a") == 8)


class Cable:
    """A cable between a node and the server that can be cut: bytes are passed on unread."""

    def __init__(self, port: int) -> None:
        self._to, self.port = port, 0
        self._ends: list[socket.socket] = []
        self.mend()

    def cut(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._ends.clear()

    def mend(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = int(self._listener.getsockname()[1])
        Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                here, _ = listener.accept()
            except OSError:
                return
            there = socket.create_connection(("127.0.0.1", self._to))
            self._ends += [here, there]
            for one, other in ((here, there), (there, here)):
                Thread(target=_pass_on, args=(one, other), daemon=True).start()


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while data := one.recv(65_536):
            other.sendall(data)
    with suppress(OSError):
        other.shutdown(socket.SHUT_RDWR)


def network_cut(folder: Path) -> Found:
    """The cable between node and server is cut in mid-visit, for twenty seconds."""
    with standing(folder, ["a"]) as trial:
        cable = Cable(trial.port)
        line = trial.make_node("a", WORDS)
        line = line.replace(f"127.0.0.1:{trial.port}", f"127.0.0.1:{cable.port}")
        trial.connect("a", line)
        trial.wait(lambda: "Receiving: query.describe" in trial.log("a"), LIMIT, "not asked")
        cable.cut()
        time.sleep(20)
        broken = not whole(trial, "a")
        cable.mend()
        seconds, ends = supervised(trial, "a", line)
        found = {"seconds": round(seconds, 1), "cut": 20, "node_was_started_again": ends}
        return found | verdict(seconds, broken or not whole(trial, "a"), spent(trial, "a") == 8)


def supervised(trial: Trial, name: str, line: str) -> tuple[float, int]:
    """Seconds until a node has its adapter, and how often it ended and was started again."""
    begun, ends = time.monotonic(), 0
    while not trial.adopted(name):
        if time.monotonic() > begun + LIMIT:
            raise TimeoutError(f"{name} has no adapter after {LIMIT:.0f} s")
        if trial.processes[name].poll() is not None:
            trial.kill(name)
            time.sleep(NODE_SECONDS)
            trial.connect(name, line)
            ends += 1
        time.sleep(0.2)
    return time.monotonic() - begun, ends


def zoo_damaged(folder: Path) -> Found:
    """One byte of a shard is another one."""
    with standing(folder, ["a"]) as trial:
        trial.stop("service", LIMIT)
        (shard,) = (folder / "zoo").glob("shard-*")
        data = bytearray(shard.read_bytes())
        data[len(data) // 2] ^= 1
        shard.write_bytes(data)
        serve(trial)
        code = trial.processes["service"].wait(LIMIT)
        error = json.loads((trial.output / "error.json").read_text())
        return {"exit_code": code, "error": error["code"], "ok": code == 1 and error["code"] == 500}


def verdict(seconds: float, broken: bool, once: bool) -> Found:
    ok = seconds <= RESUMED and not broken and once
    return {"partial_adapter": broken, "debited_once": once, "ok": ok}


def ledger_killed(folder: Path) -> Found:
    """Kill -9 of a process that releases, at random points; then the same requests again."""
    create_ledger(folder)
    mechanism, budget = PrivUnitMechanism(384, 1.0), Budget(1e6)
    vector, seen, killed, written = np.eye(384)[0], dict[str, bytes](), 0, 0

    def release(name: str) -> None:
        Ledger(folder, budget).release(Request("me", name), mechanism, vector)

    # What is worked out once is worked out here; a fork has it.
    release("first")
    begun = time.monotonic()
    _killed_while(partial(release, "second"), LIMIT)
    most = time.monotonic() - begun
    for point in range(POINTS):
        name, before = f"words {point}", Ledger(folder, budget).spent("me")[0]
        killed += _killed_while(partial(release, name), random.uniform(0, most))
        ledger = Ledger(folder, budget)
        written += ledger.spent("me")[0] > before
        seen[name] = ledger.release(Request("me", name), mechanism, vector).tobytes()
    again = {
        name: ledger.release(Request("me", name), mechanism, vector).tobytes() for name in seen
    }
    total = ledger.spent("me")[0]
    ok = total == POINTS + 2 and again == seen
    counts = {"points": POINTS, "killed": killed, "debited_before_the_end": written}
    return counts | {"spent": float(total), "of": POINTS + 2, "ok": ok}


def _killed_while(work: Callable[[], object], seconds: float) -> bool:
    """Whether a process that does the work was killed before its end; a fork takes no time."""
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        time.sleep(0.0005)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1] != 0


def disk_full(folder: Path) -> Found:
    """No room for a new adapter, or for a release: a file system of 128 kB where we may mount."""
    folder.mkdir()
    told = ["mount", "-t", "tmpfs", "-o", "size=128k", "sglora-faults", str(folder)]
    mounted = subprocess.run(told, capture_output=True, check=False).returncode == 0
    try:
        return {"mounted": mounted, **_without_room(folder, mounted)}
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def _without_room(folder: Path, mounted: bool) -> Found:
    node, mechanism = OwnNode(folder / FILE, WORDS), PrivUnitMechanism(384, 1.0)
    create_ledger(folder / "ledger")
    ledger = Ledger(folder / "ledger", Budget(10.0))
    put(node, np.ones(LAYOUT.size, np.float32), LAYOUT, BASE, {})
    refused = 0
    with _no_room(folder, mounted):
        for work, error in (
            (lambda: put(node, np.zeros(LAYOUT.size, np.float32), LAYOUT, BASE, {}), ResultsError),
            (lambda: ledger.release(Request("me", "x"), mechanism, np.eye(384)[0]), LedgerError),
        ):
            try:
                work()
            except error:
                refused += 1
    kept = bool((read_peft(node.adapter)[0] == 1).all())
    nothing = ledger.spent("me")[0] == 0
    left = len(list(folder.glob(".adapter-*")))
    ok = refused == 2 and kept and nothing and left == 1
    return {"refused": refused, "old_adapter_whole": kept, "nothing_spent": nothing, "ok": ok}


@contextmanager
def _no_room(folder: Path, mounted: bool) -> Iterator[None]:
    """The file system is full; where none could be mounted, no file may grow."""
    if mounted:
        filler = folder / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 512)
        yield
        filler.unlink()
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, old)


def clock_jumped(folder: Path) -> Found:
    """The server's clock is put back by a day, once a node was served: it is asked all the same.

    A node's own clock cannot be set here; Flower refuses one that is off (docs/how-to/deploy.md).
    """
    folder.mkdir()
    book = Book(folder / "book", FederationConfig())
    book.note_served(1, time.time() + 86_400)
    ok = book.is_due(1, time.time())
    book.close()
    return {"of": "the service's own schedule", "ok": ok}


FAULTS: dict[str, Callable[[Path], Found]] = {
    "ledger_killed": ledger_killed,
    "disk_full": disk_full,
    "clock_jumped": clock_jumped,
    "zoo_damaged": zoo_damaged,
    "server_killed": server_killed,
    "node_killed": node_killed,
    "network_cut": network_cut,
}


def main(names: list[str]) -> int:
    """Run some faults, or all; 1 when one was not survived."""
    path = RESULTS / "faults.json"
    # Those that are not run again keep their results.
    found: Found = json.loads(path.read_text())["faults"] if names and path.exists() else {}
    with tempfile.TemporaryDirectory(prefix="sglora-faults-") as folder:
        for name in names or FAULTS:
            found[name] = FAULTS[name](Path(folder) / name)
            print(name, json.dumps(found[name]), flush=True)
    write("faults", facts("flwr") | {"faults": found})
    return int(not all(one["ok"] for one in found.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
