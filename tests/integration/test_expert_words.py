"""Experts whose descriptions leave as places of a public list: on the wire, in zoo and ledger."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.common.serde import message_to_proto

from sglora_fed.backbones import load_describer
from sglora_fed.config import compose
from sglora_fed.errors import CatalogueError, PromiseError, RepliesError
from sglora_fed.federation.enrol import ENROL
from sglora_fed.federation.private import ROUND
from sglora_fed.privacy.catalogue import Catalogue, write_catalogue
from sglora_fed.privacy.floor import read_floor
from sglora_fed.privacy.ledger import Budget, Ledger, create_ledger
from sglora_fed.tasks import load_family
from sglora_fed.tasks.digest import tasks_sha256
from sglora_fed.tasks.types import Task
from sglora_fed.zoo import Zoo, read_store
from tests.integration.conftest import TINY

MakeLoop = Callable[..., Any]

ENTRIES = tuple(f"I care about {what}" for what in ("cars", "money", "trips", "food", "music"))
OTHERS = tuple((f"{text}, that matters", f"Please: {text}") for text in ENTRIES)
LIST = Catalogue("own", 1, ENTRIES, OTHERS)


@pytest.fixture
def listed(tmp_path: Path) -> tuple[str, ...]:
    write_catalogue(LIST, tmp_path / "list.json")
    return ("privacy.experts=catalogue", f"privacy.catalogue={tmp_path / 'list.json'}")


def experts() -> dict[str, Task]:
    return {t.id: t for t in load_family(compose(TINY).family).of_role("expert")}


def zoo_in(home: Path) -> Zoo:
    (path,) = (home / "zoos").iterdir()
    return read_store(path).load()


def told(run: Any) -> dict[str, int]:
    """Expert -> the place that its node sent."""
    replies = [e for e in run.of_kind(ENROL) if e.fields()["trained"]]
    names = [name for e in replies for name in e.fields()["trained"]]
    places = np.concatenate([e.array("places") for e in replies])[:, 0].tolist()
    return dict(zip(names, places, strict=True))


def encoded(texts: list[str]) -> np.ndarray:
    return np.asarray(load_describer(compose(TINY).backbone).encode(texts))


def nearest(task: Task) -> int:
    """By Fisher's discriminant, within-scatter whitened, then the cosine."""
    rows = encoded([t for own in LIST.wordings for t in own]).astype(np.float64).reshape(5, 3, -1)
    means = rows.mean(axis=1)
    apart = (rows - means[:, None]).reshape(15, -1)
    scatter = apart.T @ apart / 15
    scatter += 0.2 * np.trace(scatter) / len(scatter) * np.eye(len(scatter))
    centre = rows.mean(axis=(0, 1))
    own = encoded([task.description])[0] - centre
    # Cosines in whitened space need the inverse alone.
    moved = np.linalg.solve(scatter, (means - centre).T)
    lengths = np.sqrt(np.einsum("ed,de->e", means - centre, moved))
    return int((own @ moved / lengths).argmax())


def test_no_byte_of_an_experts_words_leaves_and_the_list_stands_for_them(
    make_fast: MakeLoop, cold_home: Path, listed: tuple[str, ...]
) -> None:
    rounds = ("generator=functional", "experiment.methods=[zero_shot,functional]")
    run = make_fast(*rounds, *listed, "privacy.experts_epsilon=2").run()
    assert run.of_kind(ROUND)
    wire = b"".join(
        message_to_proto(message).SerializeToString()
        for exchange in run.exchanges
        for message in (exchange.request, exchange.reply)
    )
    for name, task in experts().items():
        texts = [task.description, *task.paraphrases]
        assert name.encode() in wire
        assert all(text.encode() not in wire for text in texts)
        for own in encoded(texts):
            for dtype in (np.float16, np.float32, np.float64):
                assert np.ascontiguousarray(own[:4].astype(dtype)).tobytes() not in wire
        assert tasks_sha256([task]).encode() not in wire
    places, zoo = told(run), zoo_in(cold_home)
    assert set(places) == set(zoo.ids) == set(experts())
    for row, name in enumerate(zoo.ids):
        own = LIST.wordings[places[name]]
        wanted = encoded([*own, *own, *own[:2]])
        np.testing.assert_allclose(zoo.wordings[row], wanted, atol=1e-6)
    (folder,) = (cold_home / "ledgers").iterdir()
    spent = [
        [Ledger(part, Budget(9.0)).spent(name)[0] for name in experts()]
        for part in sorted(folder.iterdir())
    ]
    assert [sum(own) for own in zip(*spent, strict=True)] == [2] * 6
    assert run.summary["privacy"]["experts"] == {
        "sent": "catalogue", "unit": "one description, local", "epsilon": 2.0,
    }  # fmt: skip


def test_without_an_epsilon_the_nearest_place_leaves_and_nothing_is_spent(
    make_fast: MakeLoop, cold_home: Path, listed: tuple[str, ...]
) -> None:
    run = make_fast(*listed, goal="zoo").run()
    assert told(run) == {name: nearest(task) for name, task in experts().items()}
    assert not (cold_home / "ledgers").exists()
    # What is there is not asked for again, and words in clear are another zoo.
    assert not make_fast(*listed, goal="zoo", output="again").run().trained()
    assert len(make_fast(goal="zoo", output="clear").run().trained()) == 6


def owner(folder: Path) -> dict[str, str]:
    """Node config of a node that promises its experts epsilon 4 at most."""
    folder.mkdir()
    write_catalogue(LIST, folder / "list.json")
    create_ledger(folder / "ledger")
    (folder / "node.toml").write_text(
        '[privacy]\nmechanisms = ["krr"]\nepsilon = 4\ntotal_epsilon = 4\nledger = "ledger"\n'
        'catalogue = "list.json"\nexperts = true\n'
    )
    return {"node": str(folder / "node.toml")}


def spent_by(settings: dict[str, str]) -> set[int]:
    ledger = read_floor(Path(settings["node"])).opened()
    return {int(ledger.spent(name)[0]) for name in experts()}


def refused(run: Any, code: int) -> None:
    with pytest.raises(RepliesError, match=f"code {code}"):
        run.run()
    assert not any(exchange.reply.has_content() for exchange in run.exchanges)


@pytest.mark.parametrize("wish", [None, (), ("privacy.experts_epsilon=4.5",)])
def test_what_is_weaker_than_the_node_promises_its_experts_is_refused(
    make_fast: MakeLoop,
    cold_home: Path,
    listed: tuple[str, ...],
    tmp_path: Path,
    wish: tuple[str, ...] | None,
) -> None:
    settings = owner(tmp_path / "node")
    overrides = () if wish is None else (*listed, *wish)
    run = make_fast(*overrides, goal="zoo", nodes=1, node_configs=[settings])
    refused(run, PromiseError.code)
    assert spent_by(settings) == {0}


def test_a_wish_within_the_promise_is_paid_once_and_never_for_another_list(
    make_fast: MakeLoop, cold_home: Path, listed: tuple[str, ...], tmp_path: Path
) -> None:
    settings = owner(tmp_path / "node")
    wish = (*listed, "privacy.experts_epsilon=4")
    first = make_fast(*wish, goal="zoo", nodes=1, node_configs=[settings]).run()
    (zoo,) = (cold_home / "zoos").iterdir()
    zoo.rename(cold_home / "lost")
    again = make_fast(*wish, goal="zoo", nodes=1, node_configs=[settings], output="b").run()
    assert len(told(first)) == 6
    assert told(first) == told(again)
    assert spent_by(settings) == {4}
    write_catalogue(Catalogue("own", 2, ENTRIES), tmp_path / "node" / "list.json")
    third = make_fast(*wish, "seeds=[1]", goal="zoo", nodes=1, node_configs=[settings], output="c")
    refused(third, CatalogueError.code)
    assert spent_by(settings) == {4}
