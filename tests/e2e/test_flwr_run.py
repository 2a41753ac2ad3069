"""The whole product as a user starts it: a real Flower runtime, real workers, real numbers."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import psutil
import pytest

from sglora_fed.zoo import read_store

REPOSITORY = Path(__file__).parents[2]
COMMAND = Path(sys.executable).parent / "sglora-fed"

SMALL = (
    "experiment=assistant",
    "generator=ridge",
    "family.rule_experts=24",
    "family.style_experts=0",
    "family.clients_per_split=8",
    "family.train_per_client=64",
    "experiment.methods=[zero_shot,ridge]",
    "federation.clients_per_message=8",
    "adapter.hints=none",
)
"""Personal rules only, and fewer of everything than the main job has: enough to see what helps.

Labels alone: with the client's own words in the candidate texts somebody else's adapter helps too.
"""

LIMIT = 300.0
"""Seconds; a busy machine takes several times as long as a quiet one."""


@dataclass
class Ended:
    """A command that has ended, and every process that it started."""

    code: int
    out: str
    err: str
    seconds: float
    started: set[psutil.Process] = field(default_factory=set)
    flower_homes: set[str] = field(default_factory=set)

    def still_running(self) -> list[psutil.Process]:
        """Processes of the run that live on: those seen, and those that carry its mark."""
        marked = {p for p in psutil.process_iter() if mark_of(p) in self.flower_homes}
        return [p for p in self.started | marked if is_alive(p)]


def mark_of(process: psutil.Process) -> str | None:
    """The home of Flower in a process's environment, where that can be read."""
    try:
        return process.environ().get("FLWR_HOME")
    except psutil.Error:
        return None


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def run(command: list[str], folder: Path, env: dict[str, str]) -> Ended:
    """Run to the end, looking all the time at what was started."""
    begun = time.monotonic()
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        process = psutil.Popen(command, cwd=folder, env=env, stdout=out, stderr=err)
        started, marks = set[psutil.Process](), set[str | None]()
        while process.poll() is None and time.monotonic() < begun + LIMIT:
            children = children_of(process)
            started.update(children)
            marks.update(map(mark_of, children))
            time.sleep(0.3)
        if process.poll() is None:
            process.terminate()
    homes = {mark for mark in marks if mark} - {env.get("FLWR_HOME", "")}
    texts = [(folder / name).read_text(encoding="utf-8") for name in ("out", "err")]
    return Ended(process.wait(60), *texts, time.monotonic() - begun, started, homes)


def children_of(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


@dataclass(frozen=True)
class Simulation:
    """A finished ``sglora-fed simulate``."""

    ended: Ended
    output: Path

    @property
    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.output / "summary.json").read_text())
        return found

    def entry(self, method: str, split: str = "new_rule") -> dict[str, Any]:
        (found,) = (
            entry
            for entry in self.summary["results"]
            if (entry["method"], entry["split"]) == (method, split)
        )
        return dict(found)

    def difference(self, method: str, other: str) -> tuple[float, float]:
        """Mean over the clients of ``new_rule`` of one method less the other; standard error."""
        values: dict[str, dict[str, float]] = {}
        with (self.output / "clients.csv").open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["split"] == "new_rule":
                    values.setdefault(row["client"], {})[row["method"]] = float(row["value"])
        assert len(values) == 8
        pairs = [client[method] - client[other] for client in values.values()]
        return fmean(pairs), stdev(pairs) / len(pairs) ** 0.5


@pytest.fixture(scope="module")
def simulation(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    """One run of the command line, in an empty home and from a folder with a name to trip over."""
    folder = tmp_path_factory.mktemp("a user's folder")
    env = os.environ | {"SGLORA_FED_HOME": str(folder / "home"), "COLUMNS": "100"}
    ended = run([str(COMMAND), "simulate", *SMALL, "--output", "results"], folder, env)
    assert ended.code == 0, ended.err
    return Simulation(ended, folder / "results")


class TestSimulate:
    def test_says_last_where_the_results_are(self, simulation: Simulation) -> None:
        assert simulation.ended.out.splitlines()[-1] == str(simulation.output)
        names = {path.name for path in simulation.output.iterdir()}
        assert names >= {"summary.json", "clients.csv", "report.html", "figures", "config.yaml"}
        assert names >= {"log.txt"}
        assert "error.json" not in names

    def test_counts_what_was_asked_for(self, simulation: Simulation) -> None:
        counts = simulation.summary["counts"]
        # In so small a zoo two adapters may well contradict all others.
        assert counts["experts"] + counts["distrusted_experts"] == 24
        assert counts["distrusted_experts"] <= 2
        assert counts["clients"] == 3 * 8
        assert counts["virtual_clients_per_node"] == counts["clients"] / 2
        assert counts["refused_replies"] == 0
        assert simulation.entry("ridge")["clients"] == 8
        assert 100 < simulation.summary["run"]["peak_mb"] < 4000
        nodes = simulation.summary["nodes"]
        assert nodes["count"] == len(nodes["peak_mb"]) == 2
        assert all(100 < peak < 4000 for peak in nodes["peak_mb"])
        # Half precision: ridge's adapter and the shuffled one for each of twelve clients.
        down = simulation.summary["bytes_per_client"]["down"]
        assert 0.9 < nodes["bytes"]["evaluate.compare"]["down"] / (2 * 12 * down) < 1.1

    # "Better" is what exceeds two standard errors of the mean difference between the same clients:
    # by chance alone that happens once in 23 samples of 8 (Student's t).
    def test_a_generated_adapter_is_better_than_none_on_unseen_rules(
        self, simulation: Simulation
    ) -> None:
        mean, error = simulation.difference("ridge", "zero_shot")
        assert mean > 2 * error > 0
        told = simulation.entry("ridge")["mean"] - simulation.entry("zero_shot")["mean"]
        assert told == pytest.approx(mean, abs=1e-5)

    def test_somebody_elses_adapter_is_worth_nothing(self, simulation: Simulation) -> None:
        # Were it worth exactly nothing, the difference to no adapter would lie below 4 standard
        # errors in 997 of 1,000 samples of 8 clients (Student's t). It may do harm: it is made for
        # a rule that has little to do with the client's.
        mean, error = simulation.difference("shuffled", "zero_shot")
        assert mean < 4 * error
        mean, error = simulation.difference("ridge", "shuffled")
        assert mean > 2 * error

    def test_little_travels(self, simulation: Simulation) -> None:
        assert 0 < simulation.summary["bytes_per_client"]["up"] <= 2048
        assert simulation.entry("zero_shot")["bytes_down"] == 0
        down = simulation.summary["bytes_per_client"]["down"]
        assert simulation.entry("ridge")["bytes_down"] == down > 0

    def test_the_page_stands_alone(self, simulation: Simulation) -> None:
        page = (simulation.output / "report.html").read_text(encoding="utf-8")
        assert loads_of(page)
        assert not [url for url in loads_of(page) if not url.startswith("data:")]
        assert not re.search(r"@import|url\(\s*['\"]?(?!data:|#)", page)
        assert "ridge" in page

    def test_leaves_no_process_behind(self, simulation: Simulation) -> None:
        # SuperLink, its executor, the simulation, and what Ray starts.
        assert len(simulation.ended.started) > 5
        (home,) = simulation.ended.flower_homes
        assert not Path(home).exists()
        assert simulation.ended.still_running() == []


class _Loads(HTMLParser):
    """Collects what a browser would fetch for a page; a link waits for a click."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = ("src", "srcset", "data", "poster", *(() if tag == "a" else ("href",)))
        self.urls += [value for name, value in attrs if name in names and value]


def loads_of(page: str) -> list[str]:
    parser = _Loads()
    parser.feed(page)
    return parser.urls


@pytest.mark.parametrize(
    ("override", "code", "words"),
    [
        ("generator=nope", 2, "SGL-100.*generator=nope"),
        ("family.experts=9999", 1, "SGL-200.*family.experts=9999"),
    ],
)
def test_a_mistake_is_one_line_with_a_code(
    tmp_path: Path, override: str, code: int, words: str
) -> None:
    env = os.environ | {"SGLORA_FED_HOME": str(tmp_path / "home"), "COLUMNS": "60"}
    ended = run([str(COMMAND), "simulate", override, "--output", "results"], tmp_path, env)
    assert ended.code == code
    assert re.search(words, ended.err)
    assert len(ended.err.splitlines()) == 1
    assert not (tmp_path / "results").exists()
    assert ended.flower_homes == set()


@pytest.fixture
def flower_env(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment for Flower's own command line; what it leaves running is ended after."""
    # Not below tmp_path: Ray's sockets lie in it, and their paths must be short.
    home = tempfile.mkdtemp(prefix="sglora-e2e-")
    tools = str(Path(sys.executable).parent)
    yield os.environ | {
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "SGLORA_FED_HOME": str(tmp_path / "home"),
        "FLWR_HOME": home,
        "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(free_port()),
        "FLWR_LOCAL_CONTROL_API_PORT": str(free_port()),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "RAY_TMPDIR": home,
    }
    # Flower keeps its SuperLink for the next run.
    ours = [process for process in psutil.process_iter() if mark_of(process) == home]
    for process in ours:
        process.terminate()
    _, stubborn = psutil.wait_procs(ours, timeout=10)
    for process in stubborn:
        process.kill()
    shutil.rmtree(home, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_flowers_own_command_runs_the_app(tmp_path: Path, flower_env: dict[str, str]) -> None:
    told = [
        *(
            "experiment=assistant",
            "family.rule_experts=6",
            "family.style_experts=0",
            "family.clients_per_split=2",
        ),
        *("adapter.train.steps=1", "adapter.train.checkpoints=1", "name='two words'"),
    ]
    config = f'overrides="{" ".join(told)}" goal="zoo"'
    flwr = str(Path(sys.executable).parent / "flwr")
    command = [flwr, "run", str(REPOSITORY), "--stream", "--run-config", config]
    ended = run(command, tmp_path, flower_env)
    assert ended.code == 0, ended.err
    # Nothing was said about the output: it lies in the home.
    (zoos,) = (tmp_path / "home" / "results").glob("*/zoos.json")
    (folder,) = json.loads(zoos.read_text())
    assert len(read_store(Path(folder)).load().ids) == 6
