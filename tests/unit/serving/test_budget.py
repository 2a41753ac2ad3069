"""The endpoint's own count of what its clients have released."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sglora_fed.errors import ConfigError, EndpointError
from sglora_fed.generators.export import Export
from sglora_fed.serving.app import Service
from sglora_fed.serving.limits import Budget, Limits
from sglora_fed.serving.tls import Files, audience_of
from sglora_fed.serving.wire import AdapterRequest

Issue = Callable[..., Files]


@pytest.fixture
def start(export: Export, running_of: Any, issue: Issue, tmp_path: Path) -> Callable[..., Any]:
    """A function that starts an endpoint, always with the same counts."""
    own = issue("endpoint")

    def started() -> Any:
        budget = Budget(8.0, 24.0, tmp_path / "counts")
        return running_of(Service(export, audience_of(own), Limits(), budget), own)

    return started


def turned(released: AdapterRequest, by: int) -> AdapterRequest:
    return AdapterRequest(np.roll(released.released, by))


def test_who_has_spent_all_gets_what_was_released_and_no_more(
    start: Callable[..., Any], issue: Issue, released: AdapterRequest, export: Export
) -> None:
    with start() as running:
        client = running.client(issue("node-1"))
        first = client.adapters(released).adapters
        client.adapters(turned(released, 1))
    with start() as running:  # a new start gives nothing back, nor does a new certificate
        client = running.client(issue("node-1"))
        client.adapters(AdapterRequest(np.array([3], np.uint16), export.about.catalogue_sha256))
        for more in (turned(released, 2), AdapterRequest(np.array([4], np.uint16), "c" * 64)):
            with pytest.raises(EndpointError, match="code 840"):
                client.adapters(more)
        np.testing.assert_array_equal(client.adapters(released).adapters, first)
        assert running.service.metrics.answers[403, 840] == 2
        running.client(issue("node-2")).adapters(turned(released, 2))


def test_what_was_released_counts_whatever_becomes_of_the_request(
    start: Callable[..., Any],
    issue: Issue,
    released: AdapterRequest,
    export: Export,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with start() as running:
        client = running.client(issue("node-1"))
        with monkeypatch.context() as context:
            context.setattr(export.generator, "generate", lambda *_: 1 / len(""))
            for by in range(3):
                with pytest.raises(EndpointError, match="code 835"):
                    client.adapters(turned(released, by))
        with pytest.raises(EndpointError, match="code 840"):
            client.adapters(turned(released, 3))


@pytest.mark.parametrize(("epsilon", "total"), [(0, 1), (2, 1), (-1, 1), (1, float("inf"))])
def test_impossible_budgets_are_refused(epsilon: float, total: float, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="need 0 <"):
        Budget(epsilon, total, tmp_path)
