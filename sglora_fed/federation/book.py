"""What a service remembers of its nodes, on disk: when each is due, and what it has asked for.

A restarted service goes on where it was. Requests are counted beside it in the same file
(:mod:`sglora_fed.privacy.shadow`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sglora_fed.config.schema import FederationConfig
from sglora_fed.databases import connected, usable
from sglora_fed.privacy.shadow import Shadow

TABLE = """
CREATE TABLE IF NOT EXISTS nodes (
    node TEXT PRIMARY KEY, due REAL NOT NULL, failures INTEGER NOT NULL, served REAL
)
"""


@dataclass(frozen=True)
class Entry:
    """Of one node.

    Attributes:
        due: when it may be asked, seconds since 1970.
        failures: since it was served last.
        served: when it was, or None.
    """

    due: float = 0.0
    failures: int = 0
    served: float | None = None


class Book:
    """The nodes of a service.

    Args:
        path: of the file; made when missing, for its owner alone.
        config: how often a node is asked, and how much it may ask for.

    Raises:
        ResultsError: when the file cannot be used.
    """

    def __init__(self, path: Path, config: FederationConfig) -> None:
        self._path, self._config = path, config
        self._shadow = Shadow(path, config.requests_per_node)
        with usable(path):
            self._connection = connected(path, TABLE)
            rows = self._connection.execute("SELECT node, due, failures, served FROM nodes")
            self._entries = {int(node): Entry(*rest) for node, *rest in rows}

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()
        self._shadow.close()

    def entry(self, node: int) -> Entry:
        """What is known of a node; a new one is due at once."""
        return self._entries.get(node, Entry())

    def is_due(self, node: int, now: float) -> bool:
        """Whether a node may be asked. A clock that was put back must not silence it for ever."""
        due = self.entry(node).due
        return due <= now or due > now + self._config.ask_again

    def note_served(self, node: int, now: float) -> None:
        """It has its adapter: nothing is asked of it for a while."""
        self._write(node, Entry(now + self._config.ask_again, 0, now))

    def note_failed(self, node: int, now: float) -> None:
        """It is asked again, ever later as long as it fails."""
        before = self.entry(node)
        wait = self._config.retry_after * 2 ** min(before.failures, 20)
        due = now + min(wait, self._config.ask_again)
        self._write(node, Entry(due, before.failures + 1, before.served))

    def note_back(self, node: int, now: float) -> None:
        """A node that had failed was away and is there again: it need not wait any longer."""
        before = self.entry(node)
        if before.failures:
            soon = now + self._config.retry_after
            self._write(node, Entry(min(before.due, soon), before.failures, before.served))

    def admits(self, node: int, request: np.ndarray) -> bool:
        """Whether a node may ask for this: it did before, or has asked for few other things.

        The node's own ledger limits what it gives away. This is the server's side of it: what a
        node could learn of the generator, and a node that has lost its ledger, are bounded too.

        Args:
            node: that asks.
            request: what it has released.
        """
        return self._shadow.admits(str(node), request)

    def _write(self, node: int, entry: Entry) -> None:
        with usable(self._path):
            self._connection.execute(
                "INSERT OR REPLACE INTO nodes VALUES (?, ?, ?, ?)",
                (str(node), entry.due, entry.failures, entry.served),
            )
        self._entries[node] = entry
