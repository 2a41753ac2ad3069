"""Who else is told what a run found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sglora_fed.config.schema.options import Group, one_of, option, where

TRACKERS = ("none", "mlflow")
RELATIVE = "sqlite:///"
"""Followed by an absolute path's slash; without it the path depends on the working folder."""


@dataclass(frozen=True)
class TrackingConfig(Group):
    """Who else is told what a run found."""

    prefix: ClassVar[str] = "tracking."

    name: str = option("none", "`none` or `mlflow` (extra `tracking`)", one_of(TRACKERS))
    uri: str | None = option(
        None,
        "where `mlflow` keeps its runs: a server or `sqlite:////ABSOLUTE/PATH`; null: a file below"
        " the home folder",
        where(
            lambda uri: (
                "://" in uri and (not uri.startswith(RELATIVE) or uri.startswith(RELATIVE + "/"))
            ),
            "must be a URI; a path in it absolute, as in sqlite:////home/me/mlflow.db",
        ),
    )

    def contradictions(self) -> list[str]:
        """A store that nobody writes to."""
        if self.uri is None or self.name != "none":
            return []
        return [f"tracking.uri={self.uri!r}: tracking=none tells nobody; choose tracking=mlflow"]
