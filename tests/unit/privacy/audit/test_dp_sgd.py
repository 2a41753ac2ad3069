"""The experts' own DP-SGD, audited by one run: honest, and with too little noise."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sglora_fed.errors import AuditError
from sglora_fed.privacy.audit import dp_sgd
from sglora_fed.privacy.audit.dp_sgd import audit_dp_sgd
from sglora_fed.promises import Promise, example_promise


def test_the_training_keeps_its_promise() -> None:
    found = audit_dp_sgd(8.0, 0.9999)
    assert (found.mechanism, found.claimed_epsilon, found.draws) == ("dp_sgd", 8, 1600)
    assert not found.broken
    assert found.certified_epsilon > 0


def test_too_little_noise_is_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*arguments: float) -> Promise:
        promise = example_promise(*arguments)  # type: ignore[arg-type]
        return replace(promise, sigma=promise.sigma / 20)

    monkeypatch.setattr(dp_sgd, "example_promise", wrong)
    assert audit_dp_sgd(1.0, 0.9999).broken


def test_impossible_confidence() -> None:
    with pytest.raises(AuditError, match="confidence="):
        audit_dp_sgd(8.0, 1.0)
