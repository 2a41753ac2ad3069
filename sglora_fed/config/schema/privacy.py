"""What protects a request before it leaves the client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sglora_fed.config.schema.options import POSITIVE, Group, one_of, option
from sglora_fed.errors import PrivacyError
from sglora_fed.registry import Registry

MECHANISMS = Registry(
    "mechanism",
    PrivacyError,
    {
        "none": "sglora_fed.privacy.mechanisms.none:no_mechanism",
        "gaussian": "sglora_fed.privacy.mechanisms.gaussian:gaussian_mechanism",
        "privunit": "sglora_fed.privacy.mechanisms.privunit:privunit_mechanism",
    },
)
"""``register_mechanism`` adds to them."""

MAX_EPSILON = 1000.0
"""Beyond it the noise is lost in the rounding of a request and promises nothing."""


MAX_PRIVUNIT_EPSILON = 64.0
"""Beyond it double precision cannot tell the cap of `privunit` from its centre."""


@dataclass(frozen=True)
class PrivacyConfig(Group):
    """What protects a request before it leaves the client."""

    prefix: ClassVar[str] = "privacy."

    mechanism: str = option(
        "none", "`none`, `gaussian` or `privunit`, or a registered one", one_of(MECHANISMS)
    )
    epsilon: float | None = option(
        None,
        f"of one description, local; at most {MAX_EPSILON:g}, for `privunit`"
        f" {MAX_PRIVUNIT_EPSILON:g}",
    )
    delta: float | None = option(
        None, "the failure probability of `gaussian`; `privunit` never fails"
    )
    budget: float | None = option(
        None,
        "epsilon of all releases of one simulated client together, one for each seed; null: as many"
        " as there are seeds. A node of its own has its own file",
        POSITIVE,
    )

    def contradictions(self) -> list[str]:
        """A promise that nobody keeps, or parameters that the mechanism lacks."""
        if self.mechanism == "none":
            return self._given("privacy=none promises nothing; choose privacy=gaussian")
        found = list[str]()
        if self.mechanism in ("gaussian", "privunit") or self.epsilon is not None:
            found += self._epsilon_problems()
        if self.mechanism == "privunit" and self.delta is not None:
            found.append(f"privacy.delta={self.delta!r}: privunit has no delta; leave it out")
        if self.mechanism == "gaussian" and not (self.delta is not None and 0 < self.delta < 1):
            found.append(f"privacy.delta={self.delta!r}: must lie between 0 and 1")
        return found

    def _given(self, wrong: str) -> list[str]:
        given = {"epsilon": self.epsilon, "delta": self.delta, "budget": self.budget}
        return [f"privacy.{k}={v!r}: {wrong}" for k, v in given.items() if v is not None]

    def _epsilon_problems(self) -> list[str]:
        most = MAX_PRIVUNIT_EPSILON if self.mechanism == "privunit" else MAX_EPSILON
        if self.epsilon is not None and 0 < self.epsilon <= most:
            return []
        return [f"privacy.epsilon={self.epsilon!r}: must lie in (0, {most:g}]"]
