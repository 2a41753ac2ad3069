"""The audit: claims stand, nearly all of a tight one is certified, and seeded bugs are refuted."""

from __future__ import annotations

import math
import secrets
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import psutil
import pytest

from sglora_fed.errors import AuditError
from sglora_fed.privacy.audit import audit, cosine_pvalue, scale_pvalue, subject
from sglora_fed.privacy.audit.events import choose
from sglora_fed.privacy.audit.many import Subject
from sglora_fed.privacy.mechanisms import (
    Mechanism,
    gaussian,
    krr,
    odds,
    privunit,
    retrieval,
    shares,
    subset,
)
from sglora_fed.privacy.mechanisms.krr import KrrMechanism
from sglora_fed.privacy.mechanisms.system import system_normals

NAMES = ("gaussian", "privunit", "projected_gaussian", "projected_privunit", "krr", "subset")


@pytest.mark.parametrize("name", NAMES)
def test_claims_stand(name: str) -> None:
    found = audit(subject(name, 2.0, 1e-3), 3000, 0.9999)
    assert found.mechanism == name
    assert found.claimed_epsilon == 2
    assert not found.broken
    assert found.certified_epsilon > (0.1 if "gaussian" in name else 1.2)


def test_what_tells_nothing() -> None:
    for name in ("local", "shares, first server", "shares, second server"):
        found = audit(subject(name, 1.0, 0.0), 2000, 0.9999)
        assert (found.claimed_epsilon, found.certified_epsilon) == (0, 0)


@pytest.mark.parametrize("bits", [0, 26])
def test_a_mask_that_is_too_small_is_refuted(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uniform over part of the ring only: what was added to it shows at the ends."""

    def masked(size: int) -> bytes:
        drawn = np.random.default_rng().integers(2**bits, size=size // 8)
        return drawn.astype(np.uint64).tobytes()

    monkeypatch.setattr(shares.secrets, "token_bytes", masked)
    assert audit(subject("shares, second server", 1.0, 0.0), 3000, 0.999).broken


def test_a_set_of_places_without_coins_is_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    def alone(places: np.ndarray, entries: int) -> np.ndarray:
        first, second = retrieval.hidden_places(places, entries)
        return np.stack([first ^ first, first ^ second])

    monkeypatch.setattr(shares, "hidden_places", alone)
    assert audit(subject("shares, second server", 1.0, 0.0), 3000, 0.999).broken


@pytest.mark.parametrize("name", ["krr", "subset", "privunit"])
def test_nearly_all_of_a_tight_claim_is_certified(name: str) -> None:
    found = audit(subject(name, 4.0, 0.0), 20_000, 0.999)
    assert 0.9 * 4 < found.certified_epsilon <= 4


def test_no_protection_is_all_that_draws_can_certify() -> None:
    found = audit(subject("none", 1.0, 0.0), 1000, 0.99)
    assert (found.claimed_epsilon, found.delta, found.broken) == (None, None, False)
    low = 0.005 ** (1 / 1000)
    assert found.certified_epsilon == pytest.approx(math.log(low / (1 - low)), abs=1e-6)


def refuted(name: str, draws: int = 4000, epsilon: float = 2.0) -> bool:
    return audit(subject(name, epsilon, 1e-6), draws, 0.999).broken


class TestSeededBugs:
    def test_forgotten_noise(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gaussian, "system_normals", np.zeros)
        monkeypatch.setattr(krr, "below", lambda bound: 0)
        monkeypatch.setattr(privunit, "_cosine", lambda cap, half: 0.99)
        assert all(map(refuted, ("gaussian", "projected_gaussian", "krr", "privunit")))

    def test_a_seed_that_all_share(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seeded = np.random.default_rng(0).normal(size=384)
        monkeypatch.setattr(gaussian, "system_normals", lambda count: seeded[:count])
        assert refuted("gaussian")

    @pytest.mark.parametrize("name", ["krr", "subset"])
    def test_epsilon_twice(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        module = {"krr": krr, "subset": subset}[name]
        monkeypatch.setattr(module, "odds", lambda epsilon: odds.odds(2 * epsilon))
        assert refuted(name)

    def test_a_cap_for_another_epsilon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        usual = privunit.best_cap
        monkeypatch.setattr(privunit, "best_cap", lambda dim, epsilon: usual(dim, 1.3 * epsilon))
        assert refuted("privunit", 10_000)

    def test_the_truth_is_always_included(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def among(truth: int, count: int, size: int, weights: Any) -> list[int]:
            others = np.random.default_rng().permutation(np.delete(np.arange(count), truth))
            return sorted([truth, *others[: size - 1].tolist()])

        monkeypatch.setattr(subset, "among", among)
        assert refuted("subset")

    def test_a_set_that_is_not_shuffled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The set alone is as private as it should be; its order tells more."""
        usual = subset.among

        def among(truth: int, count: int, size: int, weights: Any) -> list[int]:
            found = usual(truth, count, size, weights)
            return sorted(found, key=lambda place: place != truth)

        monkeypatch.setattr(subset, "among", among)
        assert refuted("subset", 20_000, 1.0)

    @pytest.mark.parametrize("bug", ["sensitivity", "half of the noise"])
    def test_too_little_noise(self, bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Beyond what draws can certify; the spread itself tells at once."""
        honest = subject("gaussian", 4.0, 1e-6)
        if bug == "sensitivity":
            monkeypatch.setattr(gaussian, "SENSITIVITY", 1.0)
        wrong = subject("gaussian", 4.0, 1e-6)
        if bug == "half of the noise":
            monkeypatch.setattr(gaussian, "system_normals", lambda n: system_normals(n) / 2)

        def pvalue(one: Subject) -> float:
            drawn = [one.tells(one.mechanism.release(one.first))[0] for _ in range(2000)]
            return cosine_pvalue(np.array(drawn), 384, honest.mechanism.sigma)  # type: ignore[attr-defined]

        assert pvalue(wrong) < 1e-6
        monkeypatch.undo()
        assert pvalue(honest) > 1e-6


def test_the_spread_of_noise() -> None:
    noise = 0.7 * system_normals(100_000)
    assert scale_pvalue(noise, 0.7) > 1e-6
    assert scale_pvalue(noise, 0.7 * 1.02) < 1e-6
    assert scale_pvalue(noise, 0.7 * 0.98) < 1e-6
    for bad in (noise[:99], noise * np.nan, noise.astype(int)):
        with pytest.raises(AuditError, match="finite floats"):
            scale_pvalue(bad, 0.7)
    for sigma in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(AuditError, match="sigma="):
            scale_pvalue(noise, sigma)
        with pytest.raises(AuditError, match="sigma="):
            cosine_pvalue(np.zeros(100), 5, sigma)
    for cosines in (np.zeros(99), np.ones(100), np.full(100, np.nan)):
        with pytest.raises(AuditError, match="cosines"):
            cosine_pvalue(cosines, 5, 1.0)


def test_an_event_is_found_wherever_it_lies() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 5000, 3))
    second[:, 1] = rng.normal(-3, 0.1, 5000)
    event = choose(first, second, 0.0, 0.99)
    assert event.statistic == 1
    hits, alarms = event.counts(first, second)
    assert hits > 4000 > 100 > alarms


def test_in_processes_of_their_own_it_is_the_same() -> None:
    done = list[tuple[int, int]]()
    report: Callable[[int, int], None] = lambda done_, of: done.append((done_, of))  # noqa: E731
    found = audit(subject("krr", 1.0, 0.0), 51_000, 0.9999, report)
    assert 0.8 < found.certified_epsilon <= 1
    assert done[-1] == (122_400, 122_400)


def test_no_process_is_left_when_it_is_killed() -> None:
    program = (
        "from sglora_fed.privacy.audit import audit, subject\n"
        "if __name__ == '__main__':\n"
        "    audit(subject('krr', 1.0, 0.0), 10**7, 0.9, lambda *_: print('drawn', flush=True))\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "drawn\n"
        children = psutil.Process(started.pid).children(recursive=True)
        assert len(children) >= 2
        started.kill()
    assert not psutil.wait_procs(children, timeout=20)[1]


@pytest.mark.parametrize("draws", [999, 0, -5, 2000.0])
def test_too_few_draws(draws: int) -> None:
    with pytest.raises(AuditError, match="at least 1000"):
        audit(subject("krr", 1.0, 0.0), draws, 0.99)


def test_impossible_confidence_and_names() -> None:
    for confidence in (0.0, 1.0, math.nan):
        with pytest.raises(AuditError, match="confidence="):
            audit(subject("krr", 1.0, 0.0), 1000, confidence)
    with pytest.raises(AuditError, match="'nonsense'"):
        subject("nonsense", 1.0, 0.0)


def bounds_of(
    module: ModuleType, mechanism: Mechanism, place: int, monkeypatch: pytest.MonkeyPatch
) -> list[int]:
    """What one release of a place asks of the operating system."""
    seen = list[int]()

    def below(bound: int) -> int:
        seen.append(bound)
        return secrets.randbelow(bound)

    monkeypatch.setattr(module, "below", below)
    mechanism.release(np.eye(12)[place])
    return seen


def test_as_many_bytes_are_drawn_whatever_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time depends on the machine; what is asked of the operating system does not."""
    mechanisms = (KrrMechanism(np.eye(12), 2.0), subset.SubsetMechanism(np.eye(12), 2.0, 5))
    for module, mechanism in zip((krr, subset), mechanisms, strict=True):
        asked = {tuple(bounds_of(module, mechanism, place, monkeypatch)) for place in range(12)}
        assert len(asked) == 1
