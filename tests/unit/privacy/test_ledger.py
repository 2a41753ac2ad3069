"""Ledger: nothing leaves that is not paid for, whoever races, dies, or tampers."""

from __future__ import annotations

import ast
import multiprocessing
import resource
import signal
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from sglora_fed.errors import BudgetError, LedgerError, PrivacyError
from sglora_fed.privacy import (
    GaussianMechanism,
    KrrMechanism,
    NoMechanism,
    PrivUnitMechanism,
    ledger_files,
)
from sglora_fed.privacy import ledger as module
from sglora_fed.privacy.ledger import Budget, Ledger, Note, Request

DIM = 8
VECTOR = np.eye(DIM)[1]
NOISE = PrivUnitMechanism(DIM, 1.0)
FORK = multiprocessing.get_context("fork")
MANY = 2000
"""Releases, of which a few hundred fill the disk of a test."""


def ask(number: int = 0, client: str = "ada") -> Request:
    return Request(client, f"dogs, way {number}")


@dataclass(frozen=True)
class Telling:
    """A mechanism that counts its draws in a file: other processes can see them."""

    inner: PrivUnitMechanism
    path: Path
    name: str = "telling"
    delta: float = 0.0
    unit: str = "one description, local"
    replies: int = 1

    @property
    def epsilon(self) -> float:
        return self.inner.epsilon

    @property
    def form(self) -> object:
        return self.inner.form

    def release(self, embedding: np.ndarray) -> np.ndarray:
        with self.path.open("a") as file:
            file.write("x")
        return self.inner.release(embedding)


class TestSpending:
    def test_each_release_costs_its_epsilon_and_delta(self, opened: Callable[..., Ledger]) -> None:
        ledger = opened(10.0, 1e-3)
        ledger.release(ask(0), GaussianMechanism(DIM, 0.1, 1e-6), VECTOR)
        ledger.release(ask(1), GaussianMechanism(DIM, 0.2, 2e-6), VECTOR)
        ledger.release(ask(2), NOISE, VECTOR)
        assert ledger.spent("ada") == (Fraction("1.3"), Fraction("0.000003"))
        assert ledger.spent("bob") == (0, 0)

    def test_decimals_add_up_exactly(self, opened: Callable[..., Ledger]) -> None:
        """Three times 0.1 is 0.3, which it is not in binary."""
        ledger = opened(0.3)
        for number in range(3):
            ledger.release(ask(number), PrivUnitMechanism(DIM, 0.1), VECTOR)
        with pytest.raises(BudgetError):
            ledger.release(ask(3), PrivUnitMechanism(DIM, 1e-9), VECTOR)

    def test_delta_has_its_own_limit(self, opened: Callable[..., Ledger]) -> None:
        ledger = opened(100.0, 1e-6)
        ledger.release(ask(0), GaussianMechanism(DIM, 1.0, 1e-6), VECTOR)
        with pytest.raises(BudgetError):
            ledger.release(ask(1), GaussianMechanism(DIM, 1.0, 1e-9), VECTOR)
        ledger.release(ask(1), NOISE, VECTOR)

    def test_each_client_has_a_budget(self, opened: Callable[..., Ledger]) -> None:
        ledger = opened(1.0)
        for client in ("ada", "bob"):
            ledger.release(ask(0, client), NOISE, VECTOR)
            with pytest.raises(BudgetError):
                ledger.release(ask(1, client), NOISE, VECTOR)

    def test_the_same_again_is_the_same_bytes_and_free(self, opened: Callable[..., Ledger]) -> None:
        first = opened(1.0).release(ask(), NOISE, VECTOR)
        again = [opened(1.0).release(ask(), NOISE, VECTOR) for _ in range(20)]
        assert {value.tobytes() for value in (first, *again)} == {first.tobytes()}
        assert first.dtype == np.float16
        assert opened(1.0).spent("ada") == (1, 0)

    def test_another_client_mechanism_epsilon_or_catalogue_is_another_release(
        self, opened: Callable[..., Ledger]
    ) -> None:
        ledger, rows = opened(100.0), np.eye(DIM)
        for request, mechanism in (
            (ask(), NOISE),
            (ask(), PrivUnitMechanism(DIM, 2.0)),
            (ask(), KrrMechanism(rows, 1.0)),
            (replace(ask(), public="5" * 64), NOISE),
        ):
            before = ledger.spent("ada")[0]
            ledger.release(request, mechanism, VECTOR)
            assert ledger.spent("ada")[0] == before + Fraction(mechanism.epsilon)
        assert ledger.spent("ada") == (5, 0)

    def test_places_come_back_as_they_were(self, opened: Callable[..., Ledger]) -> None:
        found = opened(100.0).release(ask(), KrrMechanism(np.eye(DIM), 60.0), VECTOR)
        assert (found.tolist(), found.dtype) == ([1], np.uint16)


class TestRefusals:
    def test_nothing_is_drawn_beyond_the_limit(
        self, opened: Callable[..., Ledger], tmp_path: Path
    ) -> None:
        telling = Telling(PrivUnitMechanism(DIM, 3.5), tmp_path / "draws")
        with pytest.raises(BudgetError):
            opened(3.0).release(ask(), telling, VECTOR)
        assert not telling.path.exists()
        assert opened().spent("ada") == (0, 0)

    def test_all_refusals_are_alike(self, opened: Callable[..., Ledger]) -> None:
        texts = set()
        for client, words in (("ada", "cats"), ("bob" * 20, "my asthma" * 90)):
            with pytest.raises(BudgetError) as caught:
                opened(0.5).release(Request(client, words), NOISE, VECTOR)
            texts.add(str(caught.value))
        assert len(texts) == 1

    @pytest.mark.parametrize(
        "vector", [VECTOR * np.nan, VECTOR * 0, VECTOR[:-1], VECTOR.tolist(), "cats"]
    )
    def test_unfit_embeddings_cost_nothing(
        self, opened: Callable[..., Ledger], vector: Any
    ) -> None:
        ledger = opened()
        with pytest.raises(PrivacyError):
            ledger.release(ask(), NOISE, vector)
        assert ledger.spent("ada") == (0, 0)
        ledger.release(ask(), NOISE, VECTOR)

    def test_no_promise_cannot_be_counted(self, opened: Callable[..., Ledger]) -> None:
        with pytest.raises(LedgerError, match="promises nothing"):
            opened().release(ask(), NoMechanism(DIM), VECTOR)

    def test_units_are_never_added(self, folder: Path) -> None:
        local = Ledger(folder, Budget(3.0))
        local.release(ask(), NOISE, VECTOR)
        other = Ledger(folder, Budget(1.0, unit="one example"))
        with pytest.raises(LedgerError, match="is about 'one description, local'"):
            other.release(ask(1), NOISE, VECTOR)
        other.release(ask(1), replace(NOISE, unit="one example"), VECTOR)
        assert (local.spent("ada"), other.spent("ada")) == ((1, 0), (1, 0))

    @pytest.mark.parametrize("epsilon", [0, -1, float("nan"), float("inf"), 10**400, "5", None])
    def test_impossible_budgets(self, epsilon: Any) -> None:
        with pytest.raises(LedgerError):
            Budget(epsilon)
        with pytest.raises(LedgerError):
            Budget(1.0, "0" if epsilon == "5" else -1.0)  # type: ignore[arg-type]

    @pytest.mark.parametrize("epsilon", [0, -1, float("nan"), float("inf")])
    def test_impossible_costs(self, opened: Callable[..., Ledger], epsilon: float) -> None:
        own = NoMechanism(DIM, "own", epsilon, 0.0)
        with pytest.raises(LedgerError):
            opened().release(ask(), own, VECTOR)

    def test_no_word_and_no_name_is_on_disk(
        self, opened: Callable[..., Ledger], folder: Path
    ) -> None:
        opened().release(Request("ada-lovelace", "my asthma"), NOISE, VECTOR)
        data = b"".join(path.read_bytes() for path in folder.iterdir())
        assert len(data) > 1000
        assert b"asthma" not in data
        assert b"lovelace" not in data


class TestNotes:
    """What is counted otherwise than by adding epsilons."""

    UNIT = "something else"

    def ledger(self, folder: Path) -> Ledger:
        return Ledger(folder, Budget(1.0, unit=self.UNIT))

    def test_are_kept_once_in_order_and_for_whoever_opens_it_next(self, folder: Path) -> None:
        allowed = list[tuple[str, list[bytes]]]()

        def allow(note: Note, before: Sequence[bytes]) -> None:
            allowed.append((note.place, list(before)))

        notes = [Note("ada", "1", b"one"), Note("bob", "1", b"other"), Note("ada", "2", b"two")]
        self.ledger(folder).note_all(notes, allow)
        assert allowed == [("1", []), ("1", []), ("2", [b"one"])]
        self.ledger(folder).note_all([*notes, Note("ada", "3", b"three")], allow)
        assert allowed[3:] == [("3", [b"one", b"two"])]
        assert self.ledger(folder).notes("ada") == [b"one", b"two", b"three"]
        assert self.ledger(folder).notes("eve") == []

    def test_who_is_refused_keeps_nothing_of_the_whole_message(self, folder: Path) -> None:
        def allow(note: Note, before: Sequence[bytes]) -> None:
            if note.client == "bob":
                raise BudgetError("no")

        with pytest.raises(BudgetError):
            self.ledger(folder).note_all([Note("ada", "1", b"a"), Note("bob", "1", b"b")], allow)
        assert self.ledger(folder).notes("ada") == []

    def test_stand_beside_releases_and_are_not_added_to_them(self, folder: Path) -> None:
        releases = Ledger(folder, Budget(1.0))
        self.ledger(folder).note_all([Note("ada", "1", b"one")], lambda note, before: None)
        releases.release(ask(0), NOISE, VECTOR)
        assert releases.spent("ada") == (1, 0)
        assert releases.notes("ada") != self.ledger(folder).notes("ada") == [b"one"]

    def test_changed_ones_are_noticed(self, folder: Path) -> None:
        self.ledger(folder).note_all([Note("ada", "1", b"one")], lambda note, before: None)
        with sqlite3.connect(folder / "ledger.sqlite") as connection:
            connection.execute("UPDATE releases SET released = x'00'")
        with pytest.raises(LedgerError):
            self.ledger(folder)


class TestRaces:
    def test_of_fifty_one_gets_the_last_unit(self, opened: Callable[..., Ledger]) -> None:
        opened(3.0).release(ask(), PrivUnitMechanism(DIM, 2.0), VECTOR)
        won, lost, gate = list[bytes](), list[str](), threading.Barrier(50)

        def race(number: int) -> None:
            ledger = opened(3.0)
            gate.wait()
            try:
                won.append(ledger.release(ask(number), NOISE, VECTOR).tobytes())
            except BudgetError as error:
                lost.append(str(error))

        racers = [threading.Thread(target=race, args=(number,)) for number in range(1, 51)]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
        assert (len(won), len(lost)) == (1, 49)
        assert opened(3.0).spent("ada") == (3, 0)

    def test_of_fifty_with_one_request_all_get_the_same(
        self, opened: Callable[..., Ledger]
    ) -> None:
        ledger, found = opened(1.0), list[bytes]()

        def race() -> None:
            found.append(ledger.release(ask(), NOISE, VECTOR).tobytes())

        racers = [threading.Thread(target=race) for _ in range(50)]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
        assert len(found) == 50
        assert len(set(found)) == 1
        assert ledger.spent("ada") == (1, 0)

    def test_processes_share_one_budget(self, folder: Path) -> None:
        with FORK.Pool(2) as pool:
            counts = pool.starmap(_greedy, [(folder, 0), (folder, 1)], chunksize=1)
        assert sum(counts) == 20
        assert Ledger(folder, Budget(20.0)).spent("ada") == (20, 0)


def _greedy(folder: Path, number: int) -> int:
    ledger, count = Ledger(folder, Budget(20.0)), 0
    try:
        while True:
            ledger.release(ask(2 * count + number), NOISE, VECTOR)
            count += 1
    except BudgetError:
        return count


class TestCrashes:
    def test_dead_before_the_witness_is_told(
        self, opened: Callable[..., Ledger], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Paid, not released: the budget is lost, the ledger is not."""

        def die(self: Ledger) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as context:
            context.setattr(Ledger, "_advance", die)
            with pytest.raises(KeyboardInterrupt):
                opened().release(ask(), NOISE, VECTOR)
        assert opened().spent("ada") == (1, 0)
        opened().release(ask(1), NOISE, VECTOR)
        assert opened().spent("ada") == (2, 0)

    def test_dead_before_the_debit_is_on_disk(
        self, opened: Callable[..., Ledger], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def die(mechanism: object, embedding: np.ndarray) -> bytes:
            raise KeyboardInterrupt

        with monkeypatch.context() as context:
            context.setattr(module, "_bytes", die)
            with pytest.raises(KeyboardInterrupt):
                opened().release(ask(), NOISE, VECTOR)
        assert opened().spent("ada") == (0, 0)

    def test_a_full_disk_releases_nothing(self, folder: Path) -> None:
        """A file may not grow: every write beyond fails, as on a full disk."""
        with FORK.Pool(1) as pool:
            released, message = pool.apply(_cramped, (folder,))
        assert "cannot be used" in message
        spent = Ledger(folder, Budget(1e6)).spent("ada")[0]
        assert 0 < released <= spent <= released + 1

    @pytest.mark.parametrize("part", [module, ledger_files])
    def test_the_clock_is_not_asked(self, part: ModuleType) -> None:
        tree = ast.parse(Path(str(part.__file__)).read_text())
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
        names = {alias.name for node in imports for alias in node.names}
        names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert names.isdisjoint({"time", "datetime"})
        assert "now" not in ledger_files.TABLE.lower()


def _cramped(folder: Path) -> tuple[int, str]:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
    ledger = Ledger(folder, Budget(1e6))
    for count in range(MANY):
        try:
            ledger.release(ask(count), NOISE, VECTOR)
        except LedgerError as error:
            return count, str(error)
    return MANY, "never full"
