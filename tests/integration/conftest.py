"""One whole run of the unmodified apps in this process, with every message in sight."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, cast

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

import client.app
import server.app
from sglora_fed.config import RunConfig, compose
from sglora_fed.config.schema import TRAINED_METHODS
from sglora_fed.federation.enrol import ENROL
from sglora_fed.federation.inprocess import InProcessGrid

METHODS = (
    *("zero_shot", "described", "soup", "nearest", "topk", "ridge", "sglora", "functional"),
    *("shared_lora", *TRAINED_METHODS, "policy"),
)

TINY = (
    "experiment=assistant",
    "name='it\\'s a \"tiny\" run'",
    "family.rule_experts=6",
    "family.style_experts=0",
    "family.clients_per_split=2",
    "family.train_per_client=16",
    "family.test_per_client=8",
    "adapter.targets=[query,value]",
    "adapter.layers=[4,5]",
    "adapter.train.batch_size=8",
    "adapter.train.steps=4",
    "adapter.train.checkpoints=2",
    "generator=functional",
    "generator.steps=10",
    "generator.basis=4",
    "federation.clients_per_message=2",
    "federation.shared_rounds=2",
    "federation.shared_steps=2",
    "federation.shared_clients=3",
    "federation.generator_rounds=2",
    "federation.generator_steps=2",
    "federation.generator_clients=3",
    f"experiment.methods=[{','.join(METHODS)}]",
    *(f"experiment.tuning.{name}.lr=0.005" for name in TRAINED_METHODS),
    *(f"experiment.tuning.{name}.steps=2" for name in TRAINED_METHODS),
    "experiment.tuning.oracle.steps=10",
)
"""Everything that a run does, with as little work as possible: 6 experts, 6 clients."""

FAST = (
    "generator=ridge",
    "adapter.train.steps=1",
    "adapter.train.checkpoints=1",
    "experiment.methods=[zero_shot,topk]",
    "experiment.controls=false",
    "federation.clients_per_message=3",
)
"""For runs that are to go wrong."""

WITH_FILES = (
    "experiment.methods=[zero_shot,nearest,shared_lora,local_1shot]",
    "federation.shared_rounds=1",
    "experiment.tuning.local_1shot.steps=1",
)

Between = Callable[["Exchange"], Message | None]
"""Sees an exchange and gives the reply that the server gets; None: the reply is lost."""


@dataclass(frozen=True)
class Exchange:
    """A message of the server and what the node answered."""

    request: Message
    reply: Message

    @property
    def kind(self) -> str:
        return self.request.metadata.message_type

    @property
    def partition(self) -> int:
        """Of the node; the in-process grid numbers its nodes in the order of partitions."""
        return self.request.metadata.dst_node_id - 1000

    def fields(self) -> Mapping[str, Any]:
        return cast(Mapping[str, Any], self.reply.content["fields"])

    def array(self, name: str) -> Any:
        return cast(Any, self.reply.content["arrays"])[name].numpy()


class WatchedGrid(InProcessGrid):
    """Notes every exchange, and lets a test change or lose the reply."""

    def __init__(
        self,
        app: ClientApp,
        nodes: int,
        run_config: Mapping[str, str | int | float | bool],
        between: Between,
        node_configs: Sequence[Mapping[str, str | int]] = (),
    ) -> None:
        super().__init__(app, nodes, run_config)
        for context, settings in zip(self._contexts.values(), node_configs, strict=False):
            context.node_config.update(settings)
        self.exchanges: list[Exchange] = []
        self._between = between

    def _answer(self, message: Message) -> Message | None:
        reply = super()._answer(message)
        assert reply is not None
        self.exchanges.append(Exchange(message, reply))
        return self._between(self.exchanges[-1])


@dataclass
class Loop:
    """One run, told as ``flwr run`` is told.

    Attributes:
        output: folder of the results; None: not told.
        overrides: of the configuration, behind those of ``TINY``.
        goal: ``run`` or ``zoo``.
        nodes: how many there are; the configuration waits for as many.
        between: what happens to the replies.
        node_configs: what nodes are told beyond their partition, in the order of partitions.
        exchanges: filled by ``run``.
    """

    output: Path | None
    overrides: tuple[str, ...] = ()
    goal: str = "run"
    nodes: int = 2
    between: Between = lambda exchange: exchange.reply
    node_configs: Sequence[Mapping[str, str | int]] = ()
    exchanges: list[Exchange] = field(default_factory=list)

    def run(self) -> Loop:
        told = (*TINY, f"federation.nodes={self.nodes}", *self.overrides)
        output = str(self.output or "")
        config = {"overrides": shlex.join(told), "goal": self.goal, "output": output}
        grid = WatchedGrid(client.app.app, self.nodes, config, self.between, self.node_configs)
        self.exchanges = grid.exchanges
        server.app.app(
            grid,
            Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=config),
        )
        return self

    @property
    def summary(self) -> dict[str, Any]:
        return cast(dict[str, Any], json.loads(self.path("summary.json").read_text()))

    @property
    def error(self) -> dict[str, Any]:
        return cast(dict[str, Any], json.loads(self.path("error.json").read_text()))

    @property
    def rows(self) -> list[dict[str, str]]:
        with self.path("clients.csv").open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def path(self, name: str) -> Path:
        """Of a file among the results."""
        assert self.output is not None
        return self.output / name

    def of_kind(self, kind: str) -> list[Exchange]:
        return [exchange for exchange in self.exchanges if exchange.kind == kind]

    def trained(self) -> list[str]:
        """Experts that came in this run, in the order of their arrival."""
        replies = [e for e in self.of_kind(ENROL) if not e.reply.has_error()]
        return [name for e in replies for name in e.fields().get("trained", [])]


@pytest.fixture
def cold_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own, with nothing in it."""
    home = tmp_path / "home"
    monkeypatch.setenv("SGLORA_FED_HOME", str(home))
    return home


def _composed_once(overrides: Sequence[str] = ()) -> RunConfig:
    return _composed(tuple(overrides))


_composed = lru_cache(compose)


@pytest.fixture
def make_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Loop]:
    """A function of (overrides..., goal, nodes, between, output) that prepares a run.

    ``first`` shows the apps as they are. Here a configuration is composed once, not by everybody
    who needs it, and neither page nor gallery is made: together they take longer than all the rest.
    """
    for module in ("client.app", "server.app", "sglora_fed.experiments.reproduce"):
        monkeypatch.setattr(f"{module}.compose", _composed_once, raising=False)
    monkeypatch.setattr("sglora_fed.experiments.finish.write_report", lambda *_: None)
    monkeypatch.setattr("sglora_fed.experiments.run.exhibits", lambda *_: [])

    def make(*overrides: str, output: str | None = "out", **settings: Any) -> Loop:
        return Loop(tmp_path / output if output else None, overrides, **settings)

    return make


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    """A run of everything in a home of its own; the module's later runs share that home."""
    folder = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SGLORA_FED_HOME", str(folder / "home"))
        yield Loop(folder / "out").run()


@pytest.fixture
def make_fast(make_loop: Callable[..., Loop]) -> Callable[..., Loop]:
    """As ``make_loop``, with hardly any training and few methods."""
    return partial(make_loop, *FAST)


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the whole zoo of a fast run; no test changes it."""
    folder = tmp_path_factory.mktemp("enrolled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SGLORA_FED_HOME", str(folder / "home"))
        Loop(folder / "out", FAST, goal="zoo").run()
    return folder / "home"


@pytest.fixture
def home(enrolled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that home, to be damaged."""
    shutil.copytree(enrolled, tmp_path / "home")
    monkeypatch.setenv("SGLORA_FED_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def home_for(request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """By a message's kind: experts are trained in a cold home, the rest is asked with a zoo."""
    return lambda kind: request.getfixturevalue("cold_home" if kind == ENROL else "home")


@pytest.fixture(scope="module")
def undisturbed(enrolled: Path, tmp_path_factory: pytest.TempPathFactory) -> Loop:
    """A fast run with a shared LoRA and adapters that clients keep, in which nothing goes wrong."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(enrolled, folder / "home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SGLORA_FED_HOME", str(folder / "home"))
        return Loop(folder / "out", (*FAST, *WITH_FILES)).run()
