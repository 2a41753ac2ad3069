"""How often, and how much at once, each client may ask: one that asks too much holds up itself."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sglora_fed.errors import ConfigError, RateError

MOST_CLIENTS = 10_000
"""Clients that are remembered; those with nothing spent are forgotten first."""


@dataclass(frozen=True)
class Limits:
    """Of each client.

    Attributes:
        rate: requests a second, in the long run.
        burst: requests at once after a pause.
        concurrent: requests that are being answered together.
        pending: requests of all clients that are being answered together.

    Raises:
        ConfigError: unless all are positive.
    """

    rate: float = 20.0
    burst: int = 40
    concurrent: int = 4
    pending: int = 512

    def __post_init__(self) -> None:
        if not 0 < self.rate < math.inf or min(self.burst, self.concurrent, self.pending) < 1:
            raise ConfigError(f"{self}: all limits must be positive")


@dataclass(frozen=True)
class Budget:
    """What each client may release, as the endpoint counts.

    Attributes:
        epsilon: that one different request is counted as: what the clients' mechanism promises. A
            request does not say it, and nobody could check it.
        total: of all different requests of one client.
        file: of the counts, which outlive the endpoint.

    Raises:
        ConfigError: unless 0 < epsilon <= total.
    """

    epsilon: float
    total: float
    file: Path

    def __post_init__(self) -> None:
        if not 0 < self.epsilon <= self.total < math.inf:
            raise ConfigError(f"epsilon {self.epsilon:g} of {self.total:g}: need 0 < one <= all")


@dataclass
class _Client:
    tokens: float
    seen: float
    active: int = 0


@dataclass
class Gate:
    """A token bucket for each client (Turner 1986), and counts of what is being answered.

    Args:
        limits: of each client.
        clock: monotonic seconds.
    """

    limits: Limits = field(default_factory=Limits)
    clock: Callable[[], float] = time.monotonic
    active: int = 0
    _clients: dict[str, _Client] = field(default_factory=dict)

    @contextmanager
    def admitted(self, name: str) -> Iterator[None]:
        """Let a client's request in for as long as it is answered.

        Raises:
            RateError: when it must wait; nothing is counted then.
        """
        client = self._client(name)
        if client.active >= self.limits.concurrent or self.active >= self.limits.pending:
            raise RateError(1.0)
        if client.tokens < 1:
            raise RateError((1 - client.tokens) / self.limits.rate)
        client.tokens -= 1
        client.active += 1
        self.active += 1
        try:
            yield
        finally:
            client.active -= 1
            self.active -= 1

    def _client(self, name: str) -> _Client:
        """Its bucket, filled up to now."""
        now = self.clock()
        if name not in self._clients and len(self._clients) >= MOST_CLIENTS:
            self._forget(now)
        client = self._clients.setdefault(name, _Client(self.limits.burst, now))
        gained = (now - client.seen) * self.limits.rate
        client.tokens, client.seen = min(self.limits.burst, client.tokens + gained), now
        return client

    def _forget(self, now: float) -> None:
        """Whoever has a full bucket by now is as good as new."""
        full = self.limits.burst / self.limits.rate
        idle = [n for n, c in self._clients.items() if not c.active and now - c.seen >= full]
        for name in idle:
            del self._clients[name]
