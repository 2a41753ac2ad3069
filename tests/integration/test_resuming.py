"""A run that died is continued: the same table, and nobody is asked twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sglora_fed.errors import ResultsError
from sglora_fed.experiments import requests, run
from sglora_fed.federation.compare import COMPARE
from sglora_fed.federation.describe import DESCRIBE
from sglora_fed.privacy.catalogue import Catalogue, write_catalogue
from sglora_fed.results import parts
from sglora_fed.results.files import read_rows
from tests.integration.comparing import requests_of

NOISE = ("privacy=gaussian", "privacy.epsilon=8", "seeds=[0,1]")


class Died(BaseException):
    """As after kill -9: no handler of errors sees it."""


@pytest.fixture
def whole(make_fast: Callable[..., Any], home: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Clients in pieces of five, without interruption."""
    monkeypatch.setattr(run, "GENERATED_AT_ONCE", 5)
    return make_fast(output="whole").run()


@pytest.mark.parametrize("writes", [0, 1, 2, 4])
def test_the_table_is_the_same(
    make_fast: Callable[..., Any],
    whole: Any,
    monkeypatch: pytest.MonkeyPatch,
    writes: int,
) -> None:
    left = [writes]

    def mortal(path: Path, data: Any) -> None:
        if not left[0]:
            raise Died
        left[0] -= 1
        write(path, data)

    write = parts.write_atomically
    with monkeypatch.context() as patch:
        patch.setattr(parts, "write_atomically", mortal)
        patch.setattr(requests, "write_atomically", mortal)
        dying = make_fast()
        with pytest.raises(Died):
            dying.run()
    again = make_fast().run()
    assert again.path("clients.csv").read_bytes() == whole.path("clients.csv").read_bytes()
    assert not again.path("parts").exists()
    # The mark, two files of requests, then one for each piece.
    assert (len(again.of_kind(COMPARE)) < len(whole.of_kind(COMPARE))) == (writes > 3)
    lines = [json.loads(line) for line in again.path("progress.jsonl").read_text().splitlines()]
    recalled = [line["done"] for line in lines if line["stage"] == "recalled"]
    assert recalled == [5] * (writes > 3)
    # What was recalled is no speed.
    assert next(line["done"] for line in lines if line["stage"] == "evaluate") == sum(recalled)


def test_nobody_releases_noise_twice(
    make_fast: Callable[..., Any], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(run, "compare", die)
        dying = make_fast(*NOISE)
        with pytest.raises(Died):
            dying.run()
    released = make_fast(*NOISE).run().of_kind(DESCRIBE)
    assert len(released) == 2  # of the second seed alone, one for each node


def ids_of(exchanges: Sequence[Any]) -> list[str]:
    """Who released something in some exchanges, one after the other."""
    some = [one for one in exchanges if len(one.array("embeddings"))]
    return [name for one in some for name in one.fields()["ids"]]


@pytest.mark.parametrize(("at_once", "puts", "clients"), [(4, 3, 5), (1024, 1, 3)])
def test_who_has_released_is_not_asked_again(
    make_fast: Callable[..., Any],
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    at_once: int,
    puts: int,
    clients: int,
) -> None:
    """Requests come in pieces, of two clients of each node, or of all that a node has."""
    monkeypatch.setattr(requests, "AT_ONCE", at_once)
    left, put = [puts], requests._put

    def mortal(*told: Any) -> None:
        if not left[0]:
            raise Died
        left[0] -= 1
        put(*told)

    with monkeypatch.context() as patch:
        patch.setattr(requests, "_put", mortal)
        dying = make_fast(*NOISE[:2])
        with pytest.raises(Died):
            dying.run()
    again = make_fast(*NOISE[:2]).run()
    kept, asked = ids_of(dying.of_kind(DESCRIBE))[:clients], ids_of(again.of_kind(DESCRIBE))
    table = {row.client for row in read_rows(again.path("."))}
    assert len({*kept, *asked}) == len(kept) + len(asked)
    assert table == {*kept, *asked}


def test_damaged_requests_are_refused(
    make_fast: Callable[..., Any], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not taken for those of fewer clients, or of more."""

    def die(*_: Any) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(requests, "_ask", die)
        dying = make_fast()
        with pytest.raises(Died):
            dying.run()
    for name in (requests.KNOWN, requests.RELEASED, requests.CLIENTS):
        (path,) = dying.path("parts").rglob(name)
        whole = path.read_bytes()
        for damaged in (whole[:-1], whole + b"\1", b"\2" + whole[1:]):
            if name == requests.RELEASED and len(damaged) == len(whole):
                continue  # numbers are as good as others
            path.write_bytes(damaged)
            with pytest.raises(ResultsError, match="damaged requests; remove it"):
                make_fast().run()
        path.write_bytes(whole)


def test_in_pieces_everybody_releases_the_same(
    make_fast: Callable[..., Any], whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "AT_ONCE", 4)
    pieces = requests_of(make_fast().run())
    assert set(pieces) == set(requests_of(whole))
    for name, row in requests_of(whole).items():
        np.testing.assert_allclose(pieces[name], row, atol=2**-11)


def test_another_configuration_starts_anew(
    make_fast: Callable[..., Any], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(run, "write_results", die)
        dying = make_fast()
        with pytest.raises(Died):
            dying.run()
    other = make_fast("generator.ridge=0.5").run()
    assert len(other.of_kind(DESCRIBE)) == 2


def test_another_list_under_the_same_name_starts_anew(
    make_fast: Callable[..., Any], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any) -> None:
        raise Died

    path = tmp_path / "list.json"
    told = ("generator.readings=2", f"privacy.catalogue={path}")
    write_catalogue(Catalogue("own", 1, ("I care about cars", "I care about money")), path)
    with monkeypatch.context() as patch:
        patch.setattr(run, "write_results", die)
        dying = make_fast(*told)
        with pytest.raises(Died):
            dying.run()
    write_catalogue(Catalogue("own", 1, ("I care about cars", "I care about food")), path)
    assert len(make_fast(*told).run().of_kind(COMPARE)) == len(dying.of_kind(COMPARE))


KILLED = """
import os, signal, sys
from pathlib import Path
from sglora_fed.experiments import run
from sglora_fed.results.parts import Parts
from tests.integration.conftest import FAST, Loop

run.GENERATED_AT_ONCE = 5
add = Parts.add

def last(self, number, part):
    add(self, number, part)
    if number == 0:
        os.kill(os.getpid(), signal.SIGKILL)

Parts.add = last
Loop(Path(sys.argv[1]), FAST).run()
"""


def test_after_kill_9(make_fast: Callable[..., Any], whole: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    died = subprocess.run([sys.executable, "-c", KILLED, str(out)], check=False)
    assert died.returncode == -signal.SIGKILL
    assert (out / "parts" / "0" / "000000.json").exists()
    again = make_fast().run()
    assert again.path("clients.csv").read_bytes() == whole.path("clients.csv").read_bytes()
    assert 0 < len(again.of_kind(COMPARE)) < len(whole.of_kind(COMPARE))
