"""Bugs that others have had, planted one at a time: for each there is a check that fails."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest, chisquare, norm

from sglora_fed.config import compose
from sglora_fed.errors import BudgetError, PromiseError
from sglora_fed.federation import describe as describing
from sglora_fed.federation.describe import DescribeRequest, describe
from sglora_fed.federation.node import Node
from sglora_fed.federation.terms import agree
from sglora_fed.privacy import GaussianMechanism, KrrMechanism, SubsetMechanism
from sglora_fed.privacy.catalogue import Catalogue, write_catalogue
from sglora_fed.privacy.floor import Floor, virtual_floor
from sglora_fed.privacy.ledger import Budget
from sglora_fed.privacy.mechanisms import gaussian, krr, subset

Plant = Callable[[pytest.MonkeyPatch], None]
Check = Callable[[Path], None]

ROWS = np.eye(8)
TRUTH, SIZE, EPSILON = 3, 3, 1.0


def gaussian_promise(_: Path) -> None:
    """Balle & Wang's formula for unit vectors, 2 apart at most, and as much noise as it says."""
    made = GaussianMechanism(1, EPSILON, 1e-5)
    mu = 2 / made.sigma
    delta = norm.cdf(mu / 2 - EPSILON / mu) - math.exp(EPSILON) * norm.cdf(-mu / 2 - EPSILON / mu)
    assert delta <= 1e-5
    # Of one number only the sign is left, and noise turns it round with this probability.
    turned = sum(made.release(np.ones(1))[0] < 0 for _ in range(4000))
    assert binomtest(turned, 4000, norm.cdf(-1 / made.sigma)).pvalue > 1e-5


def independent_clients(_: Path) -> None:
    """A thousand clients with one description: their places have k-RR's distribution."""
    drawn = [KrrMechanism(ROWS, EPSILON).release(ROWS[TRUTH])[0] for _ in range(1000)]
    weights = np.where(np.arange(8) == TRUTH, math.exp(EPSILON), 1.0)
    counts = np.bincount(drawn, minlength=8)
    assert chisquare(counts, 1000 * weights / weights.sum()).pvalue > 1e-5


def sets_of(count: int) -> np.ndarray:
    mechanism = SubsetMechanism(ROWS, EPSILON, SIZE)
    return np.stack([mechanism.release(ROWS[TRUTH]) for _ in range(count)]).astype(int)


def order_tells_nothing(_: Path) -> None:
    assert (np.diff(sets_of(200), axis=1) > 0).all()


def truth_as_often_as_it_may(_: Path) -> None:
    included = int((sets_of(2000) == TRUTH).any(axis=1).sum())
    weight = SIZE * math.exp(EPSILON)
    assert binomtest(included, 2000, weight / (weight + 8 - SIZE)).pvalue > 1e-5


TINY = (
    "experiment=assistant", "family.rule_experts=2", "family.style_experts=0",
    "family.clients_per_split=1", "privacy=krr", "privacy.epsilon=1",
)  # fmt: skip


def node_in(folder: Path, floor: Floor | None = None) -> Node:
    path = folder / "list.json"
    write_catalogue(Catalogue("own", 1, ("cars", "money", "trips", "food")), path)
    config = compose([*TINY, f"privacy.catalogue={path}"])
    own = floor or virtual_floor(config.privacy, 1, folder / "ledger")
    return Node(config, 0, 1, None, own)


def asked(node: Node, seed: int = 0) -> Any:
    terms = agree(node.config, node.describer).terms
    return describe(node, DescribeRequest(seed, terms))


def nothing_is_logged(folder: Path) -> None:
    found: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = found.append  # type: ignore[method-assign]
    logger = logging.getLogger("sglora_fed")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        asked(node_in(folder))
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert not found


def ledger_is_asked(folder: Path) -> None:
    """Again is the same, and a second description of a client is beyond its budget."""
    node = node_in(folder)
    first = asked(node).released
    assert all((asked(node).released == first).all() for _ in range(12))
    with pytest.raises(BudgetError):
        _said_otherwise(node)


def _said_otherwise(node: Node) -> None:
    for seed in range(1, 6):
        asked(node, seed)


def floor_holds(folder: Path) -> None:
    floor = Floor(
        ("krr",), 0.5, 0.0, Budget(9.0), folder / "ledger", catalogue=folder / "list.json"
    )
    with pytest.raises(PromiseError):
        asked(node_in(folder, floor))


def sensitivity_1(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(gaussian, "SENSITIVITY", 1.0)


def forgotten_noise(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(gaussian, "system_normals", np.zeros)


def half_of_sigma(patch: pytest.MonkeyPatch) -> None:
    normals = gaussian.system_normals
    patch.setattr(gaussian, "system_normals", lambda count: normals(count) / 2)


def one_seed_for_all(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(krr, "below", lambda bound: random.Random(7).randrange(bound))


def not_shuffled(patch: pytest.MonkeyPatch) -> None:
    def first(truth: int, count: int, size: int, odds: object) -> list[int]:
        return [truth, *(place for place in range(count) if place != truth)][:size]

    patch.setattr(subset, "among", first)


def truth_always(patch: pytest.MonkeyPatch) -> None:
    def with_it(truth: int, count: int, size: int, odds: object) -> list[int]:
        others = [place for place in range(count) if place != truth]
        return sorted([truth, *random.SystemRandom().sample(others, size - 1)])

    patch.setattr(subset, "among", with_it)


def logged(patch: pytest.MonkeyPatch) -> None:
    release = describing.release

    def telling(*args: Any) -> np.ndarray:
        released = release(*args)
        logging.getLogger("sglora_fed.federation").debug("released %s", released)
        return released

    patch.setattr(describing, "release", telling)


def no_ledger(patch: pytest.MonkeyPatch) -> None:
    def straight(node: Node, agreement: Any, _: Any, said: list[str]) -> np.ndarray:
        return np.stack([agreement.mechanism.release(row) for row in node.embed(said)])

    patch.setattr(describing, "release", straight)


def lowered_floor(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Floor, "check", lambda *_: None)
    patch.setattr(describing, "release", lambda *told: np.zeros((len(told[-1]), 1)))


BUGS: list[tuple[Plant, Check]] = [
    (sensitivity_1, gaussian_promise),
    (forgotten_noise, gaussian_promise),
    (half_of_sigma, gaussian_promise),
    (one_seed_for_all, independent_clients),
    (not_shuffled, order_tells_nothing),
    (truth_always, truth_as_often_as_it_may),
    (logged, nothing_is_logged),
    (no_ledger, ledger_is_asked),
    (lowered_floor, floor_holds),
]


@pytest.mark.parametrize("check", dict.fromkeys(check for _, check in BUGS))
def test_sound_code_passes(check: Check, tmp_path: Path) -> None:
    check(tmp_path)


@pytest.mark.parametrize(("plant", "check"), BUGS)
def test_each_bug_is_noticed(
    plant: Plant, check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check(tmp_path)
