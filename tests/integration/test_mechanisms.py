"""Every mechanism in the whole loop: what leaves, what comes back, what a client makes of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flwr.common.serde import message_to_proto

from sglora_fed.config import compose
from sglora_fed.errors import CatalogueError, RepliesError
from sglora_fed.federation.compare import COMPARE
from sglora_fed.federation.describe import DESCRIBE, words
from sglora_fed.federation.node import Node
from sglora_fed.federation.terms import agree
from sglora_fed.privacy.catalogue import Catalogue, write_catalogue
from sglora_fed.tasks import load_family
from tests.integration.comparing import values_of
from tests.integration.conftest import FAST, TINY, Loop

MakeLoop = Callable[..., Any]

RIDGE = ("experiment.methods=[zero_shot,ridge]",)
ENTRIES = tuple(f"I care about {what}" for what in ("cars", "money", "trips", "food", "music"))


@pytest.fixture
def catalogue(tmp_path: Path) -> str:
    write_catalogue(Catalogue("own", 1, ENTRIES), tmp_path / "list.json")
    return f"privacy.catalogue={tmp_path / 'list.json'}"


@pytest.fixture(scope="module")
def clear(enrolled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    folder = tmp_path_factory.mktemp("clear")
    shutil.copytree(enrolled, folder / "home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SGLORA_FED_HOME", str(folder / "home"))
        yield Loop(folder / "out", (*FAST, *RIDGE)).run()


def node_of(*overrides: str) -> Node:
    return Node(compose([*TINY, *FAST, *RIDGE, *overrides]), 0, 1)


def arrays(run: Any, kind: str, name: str, side: str) -> np.ndarray:
    """An array of all messages of a kind, one below the other."""
    found = [getattr(e, side).content["arrays"][name].numpy() for e in run.of_kind(kind)]
    return np.concatenate(found)


@pytest.mark.parametrize("mechanism", ["local", "shares"])
def test_what_tells_the_server_nothing_gives_what_clear_words_give(
    make_fast: MakeLoop, home: Path, clear: Any, mechanism: str
) -> None:
    run = make_fast(*RIDGE, f"privacy={mechanism}").run()
    assert run.summary["privacy"]["total"] == {"epsilon": 0, "delta": 0}
    found, expected = values_of(run.rows), values_of(clear.rows)
    differ = [key for key, value in found.items() if abs(value - expected[key]) > 1e-9]
    assert len(differ) <= 1  # of 12: clear ones travel in half precision
    (up, down), before = (run.summary["bytes_per_client"][k] for k in ("up", "down")), clear
    assert up <= 2048
    assert down > before.summary["bytes_per_client"]["down"]


def test_a_place_is_all_that_leaves_and_its_entry_is_what_adapters_are_for(
    make_fast: MakeLoop, home: Path, catalogue: str
) -> None:
    run = make_fast(*RIDGE, "privacy=krr", "privacy.epsilon=30", catalogue).run()
    places = arrays(run, DESCRIBE, "places", "reply")
    node = node_of("privacy=krr", "privacy.epsilon=30", catalogue)
    snap = agree(node.config, node.describer).snap
    assert snap is not None
    names = [name for e in run.of_kind(DESCRIBE) for name in e.fields()["ids"]]
    for name, place in zip(names, places[:, 0], strict=True):
        own = node.embed([words(node.clients[name], 0)])[0]
        # At epsilon 30 another place comes once in 10^12 releases.
        assert place == (snap.rows @ snap.down(own)).argmax()
    assert run.summary["bytes_per_client"]["up"] <= 2048
    assert run.summary["privacy"]["total"] == {"epsilon": 30, "delta": 0}


def test_a_client_takes_the_best_of_several_by_its_own_examples(
    make_fast: MakeLoop, home: Path, catalogue: str
) -> None:
    told = ("privacy=subset", "privacy.replies=3", "privacy.epsilon=1", catalogue)
    run = make_fast(*RIDGE, *told, "privacy.choose_by=0").run()
    places = arrays(run, DESCRIBE, "places", "reply")
    assert places.shape == (6, 3)
    assert (np.diff(places.astype(int), axis=1) > 0).all()
    # Controls are off: one method of three adapters for each client.
    made = arrays(run, COMPARE, "adapters", "request")
    assert made.shape[:2] == (6, 3)
    assert (arrays(run, COMPARE, "places", "request") == places).all()
    three, one = (
        make.summary["bytes_per_client"]["down"]
        for make in (run, make_fast(*RIDGE, output="one").run())
    )
    assert 2.5 * one < three < 3.1 * one


def test_one_example_is_enough_to_choose_by(
    make_fast: MakeLoop, home: Path, catalogue: str
) -> None:
    told = ("privacy=subset", "privacy.replies=2", "privacy.epsilon=1", catalogue)
    run = make_fast(*RIDGE, *told, "privacy.choose_by=1").run()
    # All examples that choose are of one label, which a task's own may not be.
    assert {row["method"] for row in run.rows} >= {"zero_shot", "ridge"}


def test_projected_vectors_are_as_short_as_the_rank(make_fast: MakeLoop, home: Path) -> None:
    run = make_fast(*RIDGE, "privacy=privunit", "privacy.epsilon=16", "privacy.rank=4").run()
    sent = arrays(run, DESCRIBE, "embeddings", "reply")
    assert sent.shape == (6, 4)
    np.testing.assert_allclose(np.linalg.norm(sent, axis=1), 1, atol=1e-3)


def test_another_catalogue_is_refused_before_anything_is_spent(
    make_fast: MakeLoop, home: Path, catalogue: str, tmp_path: Path
) -> None:
    folder = tmp_path / "node"
    folder.mkdir()
    write_catalogue(Catalogue("own", 2, ENTRIES), folder / "list.json")
    (folder / "node.toml").write_text(
        '[privacy]\nmechanisms = ["krr"]\nepsilon = 9\ntotal_epsilon = 9\nledger = "none here"\n'
        'catalogue = "list.json"\n'
    )
    settings = [{"node": str(folder / "node.toml")}]
    run = make_fast(*RIDGE, "privacy=krr", catalogue, nodes=1, node_configs=settings)
    with pytest.raises(RepliesError, match=f"code {CatalogueError.code}"):
        run.run()
    assert not (folder / "none here").exists()


def test_three_seeds_are_three_releases_and_the_report_has_their_sum(
    make_fast: MakeLoop, home: Path, catalogue: str
) -> None:
    run = make_fast(*RIDGE, "privacy=krr", "privacy.epsilon=2", "seeds=[0,1]", catalogue).run()
    told = run.summary["privacy"]
    assert (told["releases"], told["total"]) == (2, {"epsilon": 4, "delta": 0})
    assert told["unit"] == "one description, local"


@pytest.mark.parametrize(
    "told",
    [
        ("privacy=gaussian", "privacy.epsilon=8"),
        ("privacy=privunit", "privacy.epsilon=8", "privacy.rank=4"),
        ("privacy=subset", "privacy.epsilon=4", "privacy.replies=2"),
        ("privacy=shares",),
        ("privacy=local",),
    ],
)
def test_no_byte_that_leaves_holds_words_embedding_or_place(
    make_fast: MakeLoop, home: Path, catalogue: str, told: tuple[str, ...]
) -> None:
    """The place is looked for alone: beside decoys it is one of several, by design."""
    own = (*told, *((catalogue,) if "subset" in told[0] else ()))
    run = make_fast(*RIDGE, *own).run()
    node = node_of(*own)
    wire = b"".join(
        message_to_proto(exchange.reply).SerializeToString() for exchange in run.exchanges
    )
    for name, task in node.clients.items():
        assert name.encode() in wire
        said = words(task, 0)
        assert said.encode() not in wire
        assert all(part.encode() not in wire for part in said.split(", ") if len(part) > 12)
        clear = node.embed([said])[0]
        for dtype in (np.float16, np.float32, np.float64):
            few = np.ascontiguousarray(clear[:4].astype(dtype)).tobytes()
            assert few not in wire
    written = "".join(
        path.read_text(errors="replace") for path in run.output.rglob("*") if path.is_file()
    )
    assert run.summary["bytes_per_client"]["up"] <= 2048
    assert "place" not in json.dumps(run.summary)
    assert all(words(task, 0) not in written for task in load_family(node.config.family).tasks)


@pytest.mark.parametrize("mechanism", ["none", "local", "shares"])
def test_a_description_is_read_in_several_ways(
    make_fast: MakeLoop, home: Path, catalogue: str, mechanism: str
) -> None:
    told = (*RIDGE, "generator.readings=3", catalogue)
    run = make_fast(*told, f"privacy={mechanism}").run()
    # Whoever makes them: the labels that choose are the client's, and the choice is the same.
    assert values_of(run.rows) == values_of(make_fast(*told, output="other").run().rows)
    if mechanism == "none":
        made = arrays(run, COMPARE, "adapters", "request")
        plain = make_fast(*RIDGE, output="one").run()
        np.testing.assert_array_equal(made[:, -1:], arrays(plain, COMPARE, "adapters", "request"))
        assert made.shape[1] == 3
        assert "places" not in run.of_kind(COMPARE)[0].request.content["arrays"]
        down = [one.summary["bytes_per_client"]["down"] for one in (plain, run)]
        assert 2.5 * down[0] < down[1] < 3.1 * down[0]


def test_two_servers_send_the_readings_that_one_would(
    make_fast: MakeLoop, home: Path, catalogue: str
) -> None:
    """Bit by bit, of sets of entries of which neither says anything."""
    told = (*RIDGE, "generator.readings=4", catalogue)
    run, clear = make_fast(*told, "privacy=shares").run(), make_fast(*told, output="clear").run()
    entries = arrays(run, COMPARE, "entries", "request")
    made = arrays(clear, COMPARE, "adapters", "request")
    np.testing.assert_array_equal(entries[:, 0] ^ entries[:, 1], made[:, :-1].view(np.uint16))
    own = arrays(run, COMPARE, "shares", "request").sum(axis=1, dtype=np.uint64)
    np.testing.assert_allclose(own.view(np.int64) / 2.0**48, made[:, -1], atol=1e-3)
    sent = arrays(run, DESCRIBE, "shares", "reply")
    assert sent.shape[1] == 2
    assert len(np.unique(sent)) == sent.size
    assert run.summary["bytes_per_client"]["up"] <= 2048


def test_a_list_that_is_too_short_is_told_before_anybody_is_asked(
    make_fast: MakeLoop, home: Path, catalogue: str
) -> None:
    run = make_fast("generator.readings=7", catalogue)
    with pytest.raises(CatalogueError, match=r"readings=7: .* 5 entries give 2 to 6"):
        run.run()
    assert not run.exchanges


def test_a_client_that_chooses_takes_longer_and_more_adapters_cost_no_more_each(
    make_fast: MakeLoop, home: Path, catalogue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("federation.bench", "experiments.run"):
        # A second passes between two looks at the clock.
        clock = SimpleNamespace(perf_counter=partial(next, count()))
        monkeypatch.setattr(f"sglora_fed.{module}.time", clock)
    run = make_fast(*RIDGE, "generator.readings=3", catalogue).run()
    told = {entry["method"]: entry["client_seconds"] for entry in run.summary["results"]}
    # A message is about three clients, and to score their examples takes a second.
    assert told == pytest.approx({"zero_shot": 1 / 3, "ridge": 2 / 3}, abs=1e-4)
    assert run.summary["seconds"]["generate_per_adapter"] == pytest.approx(1 / (6 * 3), abs=1e-4)
