"""Nodes of one's own and the service that stays up, with the unmodified apps, in this process."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message
from peft import PeftModel
from PIL import Image
from transformers import CLIPModel

import client.app
from sglora_fed.adapters.peft_io import read_peft
from sglora_fed.backbones import load_describer
from sglora_fed.backbones.weights import checkpoint_folder
from sglora_fed.config import compose
from sglora_fed.edge.predicting import predict
from sglora_fed.edge.settings import FILE, OwnNode, node_toml, read_node
from sglora_fed.edge.shelf import adopted, last_contact
from sglora_fed.edge.starting import make_node, promise
from sglora_fed.edge.status import budget_lines
from sglora_fed.errors import (
    BudgetError,
    GenerationError,
    GeneratorError,
    NoAdapterError,
    PromiseError,
)
from sglora_fed.experiments.makers import LoadedMaker, load_maker
from sglora_fed.experiments.serve import serve_while
from sglora_fed.federation.adopt import ADOPT
from sglora_fed.federation.inprocess import InProcessGrid
from sglora_fed.federation.layouts import run_layout
from sglora_fed.federation.making import generate
from sglora_fed.federation.visits import Service
from sglora_fed.kept.catalogues import kept_snap
from sglora_fed.kept.zoos import zoo_identity
from sglora_fed.privacy.families import catalogue_of
from sglora_fed.zoo import Zoo, open_zoo

WORDS = "My camera hangs upside down."
CAPTIONS = ("a small red circle at the top", "a large blue square at the left")


class NodesGrid(InProcessGrid):
    """Nodes with settings of their own, some of which are away or change what they say."""

    def __init__(self, nodes: list[Mapping[str, Any]], overrides: list[str]) -> None:
        super().__init__(client.app.app, len(nodes), {"overrides": shlex.join(overrides)})
        for context, settings in zip(self._contexts.values(), nodes, strict=True):
            context.node_config.clear()
            context.node_config.update(settings)
        self.away: set[int] = set()
        self.kinds: list[tuple[int, str]] = []
        self.between: Callable[[int, str, Message], Message | None] = lambda _n, _k, reply: reply

    def get_node_ids(self) -> list[int]:
        return [node for node in self._contexts if node not in self.away]

    def _answer(self, message: Message) -> Message | None:
        node, kind = message.metadata.dst_node_id, message.metadata.message_type
        self.kinds.append((node, kind))
        reply = super()._answer(message)
        assert reply is not None
        return self.between(node, kind, reply)


@pytest.fixture(scope="module")
def overrides(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A run that serves ridge's adapters of a zoo of cameras, whose numbers mean nothing."""
    folder = tmp_path_factory.mktemp("zoo")
    told = ["generator=ridge", f"zoo.path={folder}", "federation.retry_after=0.001"]
    config = compose(told)
    layout, rng = run_layout(config), np.random.default_rng(0)
    snap = kept_snap(catalogue_of("cameras"), load_describer(config.backbone))
    wordings = snap.embeddings[::24, None] + 0.02 * rng.normal(size=(6, 8, 384))
    wordings = (wordings / np.linalg.norm(wordings, axis=-1, keepdims=True)).astype(np.float32)
    shape = (6, layout.size)
    means = rng.normal(scale=0.05, size=shape).astype(np.float32)
    zoo = Zoo(
        tuple(f"e{i}" for i in range(6)), wordings, means,
        np.full(shape, 1e-4, np.float32), np.full(6, 9, np.int64),
    )  # fmt: skip
    open_zoo(folder, zoo_identity(config, layout, 0)).add(zoo)
    return told


@pytest.fixture
def own(tmp_path: Path) -> Callable[..., OwnNode]:
    def made(name: str, clear: bool = True, called: str = "owner") -> OwnNode:
        node = OwnNode(tmp_path / name / FILE, WORDS, captions=CAPTIONS, name=called)
        make_node(node, promise(clear, {}))
        return node

    return made


def serve(grid: NodesGrid, overrides: list[str], output: Path, steps: int = 6) -> dict[str, Any]:
    left = iter(range(steps))
    # Longer than the shortest waits of the book: a fast machine may not run out of steps first.
    pause = partial(time.sleep, 0.005)
    serve_while(compose(overrides), grid, output, lambda _: next(left, None) is not None, pause)
    return dict(json.loads((output / "counters.json").read_text()))


def settings(node: OwnNode) -> dict[str, str]:
    return {"node": str(node.file)}


def test_a_node_walks_away_with_an_adapter_that_peft_loads(
    own: Callable[..., OwnNode], overrides: list[str], tmp_path: Path
) -> None:
    node, config = own("a"), compose(overrides)
    with pytest.raises(NoAdapterError):
        predict(node, tmp_path / "x.png")
    grid = NodesGrid([settings(node)], overrides)
    counts = serve(grid, overrides, tmp_path / "out")
    assert (counts["served"], counts["failed"], counts["refused"]) == (1, 0, 0)
    assert [kind for _, kind in grid.kinds] == ["query.describe", "evaluate.adopt"]
    maker, told = load_maker(config), adopted(node)
    assert told is not None
    assert told["generator_sha256"] == maker.sha256
    assert told["description_sha256"] == node.description_sha256
    assert told["measured"] is None
    vector, layout = read_peft(node.adapter)
    assert layout == maker.layout
    embedding = load_describer(config.backbone).encode([WORDS]).astype(np.float16)
    # It has no pictures to choose by, and takes that for the catalogue's entry nearest to it.
    read = maker.agreement.read(embedding.astype(np.float32)[:, None])
    made = generate(maker.generator, read, 0).adapters
    np.testing.assert_allclose(vector, made[0, 0], atol=2e-3)
    assert np.abs(made[0, 1:] - made[0, 0]).max() > 5e-3
    base = CLIPModel.from_pretrained(checkpoint_folder(config.backbone))
    assert PeftModel.from_pretrained(base, node.adapter).peft_config["default"].r == layout.rank
    assert (last_contact(node) or {})["outcome"] == "done"
    assert {p.stat().st_mode & 0o077 for p in node.folder.rglob("*")} == {0}


@pytest.mark.parametrize("wish", ["privacy=subset", "privacy=local"])
def test_every_mechanism_ends_with_an_adapter(
    own: Callable[..., OwnNode], overrides: list[str], tmp_path: Path, wish: str
) -> None:
    node, told = own("a", clear=False), [*overrides, wish]
    grid = NodesGrid([settings(node)], told)
    assert serve(grid, told, tmp_path / "out")["served"] == 1
    assert adopted(node) is not None


def test_with_it_the_model_says_something_else(
    own: Callable[..., OwnNode], overrides: list[str], tmp_path: Path
) -> None:
    node = own("a")
    serve(NodesGrid([settings(node)], overrides), overrides, tmp_path / "out")
    pixels = np.random.default_rng(1).integers(0, 255, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    ours, bare = (predict(node, tmp_path / "x.png", bare=b) for b in (False, True))
    assert sorted(ours.texts) == sorted(bare.texts) == sorted(CAPTIONS)
    assert sum(ours.chances) == pytest.approx(1)
    assert ours.chances != bare.chances


def test_what_a_node_releases_is_paid_once(
    own: Callable[..., OwnNode], overrides: list[str], tmp_path: Path
) -> None:
    node = own("a", clear=False)
    wish = [*overrides, "privacy=privunit", "privacy.epsilon=20", "federation.ask_again=0.001"]
    weaker = serve(NodesGrid([settings(node)], wish), wish, tmp_path / "weak", 2)
    assert weaker["served"] == 0
    assert (last_contact(node) or {})["outcome"] == f"SGL-{PromiseError.code}"
    table = {"mechanisms": ["privunit"], "epsilon": 20.0, "total_epsilon": 24.0, "ledger": "ledger"}
    node.file.write_text(node_toml(node, table))
    serve(NodesGrid([settings(node)], wish), wish, tmp_path / "out", 8)
    assert "20 of 24 spent, 4 left" in " ".join(budget_lines(node))
    node.file.write_text(node_toml(replace(node, description="Other words."), table))
    serve(NodesGrid([settings(node)], wish), wish, tmp_path / "more", 2)
    assert (last_contact(node) or {})["outcome"] == f"SGL-{BudgetError.code}"
    assert "20 of 24 spent, 4 left" in " ".join(budget_lines(node))


def test_a_silent_node_and_a_failing_one_hold_up_nobody(
    own: Callable[..., OwnNode], overrides: list[str], tmp_path: Path
) -> None:
    nodes = [settings(own("silent")), {"node": str(tmp_path / "nowhere")}, settings(own("fine"))]
    grid = NodesGrid(nodes, overrides)
    grid.between = lambda node, _, reply: None if node == 1000 else reply
    counts = serve(grid, overrides, tmp_path / "out")
    assert counts["served"] == 1
    assert counts["failed"] >= 1
    assert counts["in_flight"] >= 1
    assert (tmp_path / "fine" / "adapter" / "adopted.json").exists()
    events = (tmp_path / "out" / "events.jsonl").read_text()
    assert "circle" not in events
    assert all(json.loads(line)["event"] for line in events.splitlines())


def test_a_node_that_comes_late_or_again_is_served(
    own: Callable[..., OwnNode], overrides: list[str], tmp_path: Path
) -> None:
    grid = NodesGrid([settings(own("a")), settings(own("late"))], overrides)
    grid.away = {1001}
    lost = iter([True])
    grid.between = lambda _, kind, reply: None if kind == ADOPT and next(lost, False) else reply

    def arrive(service: Service) -> bool:
        if service.in_flight and len(grid.kinds) == 2:
            grid.away = set()
        return len(grid.kinds) < 6

    # Longer than a node needs to answer; a message that is lost waits as long.
    told = [*overrides, "federation.timeout=1.5"]
    serve_while(compose(told), grid, tmp_path / "out", arrive, lambda: time.sleep(0.05))
    assert (tmp_path / "late" / "adapter" / "adopted.json").exists()
    assert [kind for node, kind in grid.kinds if node == 1000] == [
        "query.describe", "evaluate.adopt", "query.describe", "evaluate.adopt",
    ]  # fmt: skip


def test_a_restarted_service_goes_on_where_it_was(
    own: Callable[..., OwnNode], overrides: list[str], tmp_path: Path
) -> None:
    first = NodesGrid([settings(own("a"))], overrides)
    serve(first, overrides, tmp_path / "out")
    again = NodesGrid([settings(read_node(tmp_path / "a" / FILE))], overrides)
    counts = serve(again, overrides, tmp_path / "out")
    assert (counts["asked"], again.kinds) == (0, [])


def test_a_node_may_not_ask_for_everything(
    own: Callable[..., OwnNode], overrides: list[str], tmp_path: Path
) -> None:
    node = own("a")
    told = [*overrides, "federation.requests_per_node=2", "federation.ask_again=0.001"]
    grid = NodesGrid([settings(node)], told)

    def change(_: int, kind: str, reply: Message) -> Message:
        text = node.file.read_text()
        if kind == ADOPT:
            node.file.write_text(text.replace(WORDS, f"{WORDS}.").replace("..", ". Again."))
        return reply

    grid.between = change
    counts = serve(grid, told, tmp_path / "out", 12)
    assert (counts["served"], counts["refused"] > 0) == (2, True)


class Faulty(LoadedMaker):
    """A maker with a fault that some clients meet."""

    def make(self, federation: Any, replies: Any) -> Any:
        met = {own for reply in replies for own in reply.ids}
        if "refused" in met:
            raise GeneratorError(f"{WORDS} cannot be made")
        if "crashes" in met:
            raise ZeroDivisionError(WORDS)
        return super().make(federation, replies)


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(config: Any) -> Faulty:
        return Faulty(**vars(load_maker(config)))

    monkeypatch.setattr("sglora_fed.experiments.serve.load_maker", loaded)


def test_no_more_adapters_are_made_at_once_than_fit(
    own: Callable[..., OwnNode],
    overrides: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sglora_fed.federation.visits.CLIENTS_AT_ONCE", 2)
    made: list[int] = []

    class Counting(LoadedMaker):
        def make(self, federation: Any, replies: Any) -> Any:
            made.append(len(replies))
            return super().make(federation, replies)

    loaded = Counting(**vars(load_maker(compose(overrides))))
    monkeypatch.setattr("sglora_fed.experiments.serve.load_maker", lambda _: loaded)
    nodes = [settings(own(f"n{number}")) for number in range(5)]
    assert serve(NodesGrid(nodes, overrides), overrides, tmp_path / "out")["served"] == 5
    assert made == [2, 2, 1]


def test_what_cannot_be_made_for_one_is_made_for_all_others(
    own: Callable[..., OwnNode],
    overrides: list[str],
    tmp_path: Path,
    faulty: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    names = ("first", "refused", "crashes", "last")
    nodes = [own(name, called=name) for name in names]
    counts = serve(NodesGrid(list(map(settings, nodes)), overrides), overrides, tmp_path / "out")
    assert [adopted(node) is not None for node in nodes] == [True, False, False, True]
    assert counts["served"] == 2
    assert counts["refused"] == sum(counts["errors"].values()) >= 2
    assert set(counts["errors"]) == {f"SGL-{GeneratorError.code}", f"SGL-{GenerationError.code}"}
    # The fault can be found, and nothing of what was asked: neither in the log nor in the events.
    assert "ZeroDivisionError" in caplog.text
    assert "test_own_nodes.py" in caplog.text
    assert WORDS not in caplog.text + (tmp_path / "out" / "events.jsonl").read_text()


def test_a_service_that_fails_for_all_says_so_and_goes_on(
    own: Callable[..., OwnNode], overrides: list[str], tmp_path: Path, faulty: None
) -> None:
    node = own("crashes", called="crashes")
    grid = NodesGrid([settings(node)], overrides)
    counts = serve(grid, overrides, tmp_path / "out", 40)
    assert counts["errors_since_served"] == counts["errors"]["SGL-835"] >= 3
    text = node.file.read_text()
    node.file.write_text(text.replace('"crashes"', '"mended"'))
    # The same output: the book goes on where it was.
    counts = serve(NodesGrid([settings(node)], overrides), overrides, tmp_path / "out", 40)
    assert (counts["served"], counts["errors_since_served"]) == (1, 0)
