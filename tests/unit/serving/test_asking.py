"""From a description to an adapter: what is paid, what leaves, and which one is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sglora_fed import cli
from sglora_fed.adapters.peft_io import read_peft
from sglora_fed.backbones import load_describer
from sglora_fed.config import compose
from sglora_fed.config.schema import GeneratorConfig
from sglora_fed.edge.answering import OwnersNode
from sglora_fed.edge.settings import OwnNode, node_toml
from sglora_fed.edge.shelf import adopted, last_contact
from sglora_fed.errors import BudgetError, CatalogueError, EndpointError, PromiseError
from sglora_fed.federation.answers import chosen
from sglora_fed.federation.node import run_layout
from sglora_fed.federation.readings import Readings
from sglora_fed.federation.terms import agree, server_agreement
from sglora_fed.generators import fit_generator
from sglora_fed.generators.export import About, Export, read_export, write_export
from sglora_fed.kept.zoos import zoo_identity
from sglora_fed.privacy.catalogue import Catalogue, write_catalogue
from sglora_fed.privacy.floor import Floor
from sglora_fed.privacy.ledger import Budget, create_ledger
from sglora_fed.serving.app import Service
from sglora_fed.serving.asking import Asker
from sglora_fed.serving.tls import Files, audience_of
from sglora_fed.tasks.cameras.family import unspoilt_family
from sglora_fed.tasks.types import Example, Task
from sglora_fed.zoo import Zoo

WORDS = "My camera hangs upside down, and red and blue are swapped."
ENTRIES = tuple(
    f"The camera {what}."
    for what in (
        "is dark",
        "hangs upside down",
        "is blurred",
        "shows red as blue",
        "is turned to the left",
        "is mirrored",
    )
)
"""In place of the family's own, which takes an encoder some seconds."""

MEANT = 4
"""The entry whose adapter changes next to nothing; the others' spoil what upright pictures show."""


@pytest.fixture(scope="module")
def krr(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    path = tmp_path_factory.mktemp("catalogue") / "list.json"
    write_catalogue(Catalogue("own", 1, ENTRIES), path)
    own = f"privacy.catalogue={path}"
    return ("privacy=krr", "privacy.epsilon=40", own, "generator.readings=4")


@pytest.fixture(scope="module")
def cameras(
    krr: tuple[str, ...],
    make_zoo: Callable[..., Zoo],
    tmp_path_factory: pytest.TempPathFactory,
) -> Export:
    """With a catalogue."""
    config = compose(krr)
    layout, folder = run_layout(config), tmp_path_factory.mktemp("cameras")
    agreement = agree(config, load_describer(config.backbone))
    assert agreement.snap is not None
    wordings = agreement.snap.embeddings[:, None].astype(np.float32)
    zoo = replace(make_zoo(len(ENTRIES), dim=384, size=layout.size), wordings=wordings)
    scale = np.where(np.arange(len(ENTRIES)) == MEANT, 0.003, 0.3)[:, None]
    zoo = replace(zoo, means=(zoo.means * scale).astype(np.float32))
    generator = fit_generator(GeneratorConfig(), "nearest", zoo, 0)
    about = About(
        "cameras", None, None, zoo_identity(config, layout, 0), (), agreement.terms.catalogue
    )
    write_export(folder, generator, GeneratorConfig(), about, agreement.snap)
    return read_export(folder)


@pytest.fixture
def endpoint(cameras: Export, issue: Callable[..., Files], running_of: Any) -> Iterator[Any]:
    own = issue("endpoint")
    with running_of(Service(cameras, audience_of(own)), own) as found:
        yield found


@pytest.fixture
def floor(tmp_path: Path) -> Floor:
    create_ledger(tmp_path / "ledger")
    return Floor(("krr", "subset", "none"), 40.0, 0.0, Budget(100.0), tmp_path / "ledger")


def kitchen(words: str, *train: Example) -> Task:
    return Task(
        "kitchen", words, {}, train, (), "client", "own", kind="retrieval", modality="image"
    )


def meant_by(cameras: Export) -> np.ndarray:
    """[1, D] the adapter that suits upright pictures."""
    assert cameras.snap is not None
    return cameras.generator.generate(cameras.snap.embeddings[[MEANT]], 1, 0).adapters[0]


def spent(floor: Floor) -> Fraction:
    return floor.opened().spent("kitchen")[0]


def test_the_adapter_of_the_nearest_entry_is_kept_and_paid_once(
    endpoint: Any, krr: tuple[str, ...], issue: Callable[..., Files], floor: Floor, cameras: Export
) -> None:
    asker, client = Asker(kitchen(WORDS), compose(krr), floor), endpoint.client(issue("kitchen"))
    found = asker.ask(client).adapters[0]
    agreement = agree(asker.config, load_describer(asker.config.backbone))
    assert agreement.snap is not None
    assert cameras.snap is not None
    own = np.asarray(load_describer(asker.config.backbone).encode([WORDS]))[0]
    place = int((agreement.snap.rows @ agreement.snap.down(own)).argmax())
    wanted = cameras.generator.generate(cameras.snap.embeddings[place : place + 1], 1, 0).adapters[
        0, 0
    ]
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(asker.ask(client).adapters[0], found)
    assert spent(floor) == 40


def test_of_several_the_one_that_suits_best_is_kept(
    endpoint: Any, krr: tuple[str, ...], issue: Callable[..., Files], floor: Floor, cameras: Export
) -> None:
    client = endpoint.client(issue("kitchen"))
    exact = Asker(kitchen(WORDS), compose(krr), floor).ask(client).adapters
    several = compose(["privacy=subset", *krr[1:], "privacy.replies=5"])
    found = Asker(kitchen(WORDS), several, floor).ask(client).adapters
    np.testing.assert_allclose(found, exact, rtol=1e-3, atol=1e-4)
    assert endpoint.service.metrics.adapters == 4 + 5


def test_what_cannot_be_paid_is_not_sent(
    endpoint: Any, krr: tuple[str, ...], issue: Callable[..., Files], floor: Floor
) -> None:
    client = endpoint.client(issue("kitchen"))
    for words in (WORDS, "It is mirrored."):
        Asker(kitchen(words), compose(krr), floor).ask(client)
    before = endpoint.service.metrics.adapters
    with pytest.raises(BudgetError):
        Asker(kitchen("It is dark."), compose(krr), floor).ask(client)
    weaker = compose([krr[0], "privacy.epsilon=41", krr[2]])
    with pytest.raises(PromiseError):
        Asker(kitchen(WORDS), weaker, floor).ask(client)
    assert endpoint.service.metrics.adapters == before
    assert spent(floor) == 80


def test_an_endpoint_that_dies_costs_nothing_more(
    endpoint: Any, krr: tuple[str, ...], issue: Callable[..., Files], floor: Floor
) -> None:
    asker, client = Asker(kitchen(WORDS), compose(krr), floor), endpoint.client(issue("kitchen"))
    port, client.port = client.port, 1
    for _ in range(3):
        with pytest.raises(EndpointError):
            asker.ask(client)
    client.port = port
    asker.ask(client)
    assert spent(floor) == 40


def test_without_a_promise_the_embedding_goes_in_the_clear_where_the_floor_allows_it(
    endpoint: Any, krr: tuple[str, ...], issue: Callable[..., Files], floor: Floor, cameras: Export
) -> None:
    one = compose(["generator.readings=1"])
    asker, client = Asker(kitchen(WORDS), one, floor), endpoint.client(issue("kitchen"))
    own = np.asarray(load_describer(asker.config.backbone).encode([WORDS]))
    wanted = cameras.generator.generate(own, 1, 0).adapters[0, 0]
    np.testing.assert_allclose(asker.ask(client).adapters[0], wanted, rtol=1e-3, atol=1e-4)
    with pytest.raises(PromiseError):
        replace(asker, floor=replace(floor, mechanisms=("krr",))).ask(client)
    with pytest.raises(EndpointError, match="local sends neither"):
        replace(asker, config=compose(["privacy=local"])).ask(client)


def test_a_description_is_read_in_several_ways(
    endpoint: Any, krr: tuple[str, ...], issue: Callable[..., Files], floor: Floor, cameras: Export
) -> None:
    config, client = compose(["generator.readings=4"]), endpoint.client(issue("kitchen"))
    found = Asker(kitchen(WORDS), config, floor).ask(client).adapters
    snap = agree(compose(krr), load_describer(config.backbone)).snap
    assert snap is not None
    own = np.asarray(load_describer(config.backbone).encode([WORDS]))
    read = Readings(snap, 4).of(own)[0]
    wanted = cameras.generator.generate(read, 1, 0).adapters[:, 0]
    # Whoever has nothing to choose by takes that for the nearest entry.
    np.testing.assert_allclose(found, wanted[:1], rtol=1e-3, atol=1e-4)
    assert endpoint.service.metrics.adapters == 4
    task = unspoilt_family(config.family).of_role("client")[0]
    chooser = Asker(replace(task, id="kitchen", description=WORDS), config, floor)
    kept = chooser.ask(client).adapters
    node = OwnersNode(config, 0, 1, None, floor, chooser.task)
    at_home = chosen(node, [chooser.task], 0, wanted[None].astype(np.float16), None)
    np.testing.assert_allclose(kept, at_home, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(kept, meant_by(cameras), rtol=1e-3, atol=1e-4)


def test_a_place_is_read_in_several_ways_and_as_in_a_run(
    endpoint: Any, krr: tuple[str, ...], issue: Callable[..., Files], floor: Floor, cameras: Export
) -> None:
    config, client = compose(krr), endpoint.client(issue("kitchen"))
    agreement = server_agreement(config, load_describer(config.backbone), None, None)
    assert agreement.snap is not None
    own = np.asarray(load_describer(config.backbone).encode([WORDS]))[0]
    place = agreement.snap.nearest(own, 1).astype(np.uint16)  # at this epsilon it is released
    read = agreement.read(agreement.decoded(place[None]))[0]
    wanted = cameras.generator.generate(read, 1, 0).adapters[:, 0].astype(np.float16)
    task = replace(
        unspoilt_family(config.family).of_role("client")[1], id="kitchen", description=WORDS
    )
    found = Asker(task, config, floor).ask(client).adapters
    np.testing.assert_allclose(found, meant_by(cameras), rtol=1e-3, atol=1e-4)
    node = OwnersNode(config, 0, 1, None, floor, task)
    np.testing.assert_allclose(
        found, chosen(node, [task], 0, wanted[None], None), rtol=1e-3, atol=1e-4
    )
    assert endpoint.service.metrics.adapters == 4


def test_more_readings_than_entries_are_refused_before_they_are_paid(
    endpoint: Any, krr: tuple[str, ...], issue: Callable[..., Files], floor: Floor
) -> None:
    config = compose([*krr, f"generator.readings={len(ENTRIES) + 1}"])
    with pytest.raises(CatalogueError, match=f"2 to {len(ENTRIES)}"):
        Asker(kitchen(WORDS), config, floor).ask(endpoint.client(issue("kitchen")))
    assert spent(floor) == 0


def test_a_node_keeps_its_adapter_whole_or_the_one_before(
    endpoint: Any,
    krr: tuple[str, ...],
    issue: Callable[..., Files],
    floor: Floor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    privacy = {"mechanisms": ["krr"], "epsilon": 40.0, "total_epsilon": 100.0}
    node = OwnNode(tmp_path / "node.toml", WORDS, name="kitchen", captions=("a", "b"))
    (tmp_path / "node.toml").write_text(node_toml(node, privacy | {"ledger": "ledger"}))
    files = issue("kitchen")
    told = {"--cert": files.certificate, "--key": files.key, "--ca": files.authority}
    words = [str(part) for pair in told.items() for part in pair]

    def fetch(address: str) -> tuple[int, str]:
        command = ["client", "fetch", str(tmp_path), "--endpoint", address, *words, *krr]
        monkeypatch.setattr("sys.argv", ["sglora-fed", *command])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out + printed.err

    code, printed = fetch(f"127.0.0.1:{endpoint.port}")
    assert code == 0, printed
    before = read_peft(tmp_path / "adapter")[0]
    asker = Asker(kitchen(WORDS), compose(krr), floor)
    wanted = asker.ask(endpoint.client(files))
    np.testing.assert_array_equal(before, wanted.adapters[0])
    kept = adopted(node)
    assert kept is not None
    assert kept["generator_sha256"] == wanted.generator == endpoint.service.export.sha256
    contact = last_contact(node)
    assert contact is not None
    assert (contact["kind"], contact["outcome"]) == ("fetch", "done")
    code, printed = fetch("127.0.0.1:1")
    assert (code, "SGL-837" in printed) == (1, True)
    assert "SGL-837" in fetch("nonsense")[1]
    np.testing.assert_array_equal(read_peft(tmp_path / "adapter")[0], before)
    assert spent(floor) == 40
