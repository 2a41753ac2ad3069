"""What protects a request before it leaves the client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sglora_fed.config.schema.options import Group, one_of, option
from sglora_fed.errors import PrivacyError
from sglora_fed.registry import Registry

MECHANISMS = Registry(
    "mechanism",
    PrivacyError,
    {
        "none": "sglora_fed.privacy.mechanisms:no_mechanism",
        "gaussian": "sglora_fed.privacy.mechanisms:gaussian_mechanism",
    },
)
"""``register_mechanism`` adds to them."""

MAX_EPSILON = 1000.0
"""Beyond it the noise is lost in the rounding of a request and promises nothing."""


@dataclass(frozen=True)
class PrivacyConfig(Group):
    """What protects a request before it leaves the client."""

    prefix: ClassVar[str] = "privacy."

    mechanism: str = option("none", "`none` or `gaussian`, or a registered one", one_of(MECHANISMS))
    epsilon: float | None = option(None, f"of one description, local; at most {MAX_EPSILON:g}")
    delta: float | None = option(None, "the failure probability of `gaussian`")

    def contradictions(self) -> list[str]:
        """A promise that nobody keeps, or parameters that the mechanism lacks."""
        if self.mechanism == "none":
            given = {"epsilon": self.epsilon, "delta": self.delta}
            return [
                f"privacy.{name}={value!r}: privacy=none promises nothing; choose privacy=gaussian"
                for name, value in given.items()
                if value is not None
            ]
        is_gaussian, found = self.mechanism == "gaussian", list[str]()
        if is_gaussian or self.epsilon is not None:
            found += self._epsilon_problems()
        if is_gaussian and not (self.delta is not None and 0 < self.delta < 1):
            found.append(f"privacy.delta={self.delta!r}: must lie between 0 and 1")
        return found

    def _epsilon_problems(self) -> list[str]:
        if self.epsilon is not None and 0 < self.epsilon <= MAX_EPSILON:
            return []
        return [f"privacy.epsilon={self.epsilon!r}: must lie in (0, {MAX_EPSILON:g}]"]
