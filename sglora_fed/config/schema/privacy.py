"""What protects a request before it leaves the client."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from sglora_fed.config.schema.options import POSITIVE, Group, at_least, one_of, option, where
from sglora_fed.config.schema.training_privacy import TrainingPrivacyConfig
from sglora_fed.errors import PrivacyError
from sglora_fed.registry import Registry

MECHANISMS = Registry(
    "mechanism",
    PrivacyError,
    {
        "none": "sglora_fed.privacy.mechanisms.none:no_mechanism",
        "gaussian": "sglora_fed.privacy.mechanisms.gaussian:gaussian_mechanism",
        "privunit": "sglora_fed.privacy.mechanisms.privunit:privunit_mechanism",
        "krr": "sglora_fed.privacy.mechanisms.agreed:needs_terms",
        "subset": "sglora_fed.privacy.mechanisms.agreed:needs_terms",
        "local": "sglora_fed.privacy.mechanisms.agreed:needs_terms",
        "shares": "sglora_fed.privacy.mechanisms.agreed:needs_terms",
    },
)
"""``register_mechanism`` adds to them."""

MAX_EPSILON = 1000.0
"""Beyond it the noise is lost in the rounding of a request and promises nothing."""

MIN_DELTA = 1e-12
"""Below it the noise would have to go on where it ends: beyond 8 deviations, with 2^-53 of the
normal distribution for each number, 4e-14 for those of an embedding."""


PURE = ("privunit", "krr", "subset")
"""Mechanisms without a delta."""

COSTLY = ("gaussian", *PURE)
"""Mechanisms that need an epsilon."""

UNSPENT = ("local", "shares")
"""Mechanisms with which no server learns anything."""

IN_CLEAR, LISTED = "clear", "catalogue"
"""How experts' descriptions leave their nodes."""

MAX_PRIVUNIT_EPSILON = 64.0
"""Beyond it double precision cannot tell the cap of `privunit` from its centre."""


@dataclass(frozen=True)
class PrivacyConfig(Group):
    """What protects a request before it leaves the client."""

    prefix: ClassVar[str] = "privacy."

    mechanism: str = option(
        "none",
        "`none`; `gaussian` or `privunit`, vectors; `krr` or `subset`, places of a catalogue;"
        " `local`, the generator comes to the client; `shares`, two servers; or a registered one",
        one_of(MECHANISMS),
    )
    epsilon: float | None = option(
        None,
        f"of one description, local; at most {MAX_EPSILON:g}, for `privunit`"
        f" {MAX_PRIVUNIT_EPSILON:g}",
    )
    delta: float | None = option(
        None,
        f"the failure probability of `gaussian`, at least {MIN_DELTA:g}; the others never fail",
    )
    budget: float | None = option(
        None,
        "epsilon of all releases of one simulated client together, one for each seed; null: as many"
        " as there are seeds. A node of its own has its own file",
        POSITIVE,
    )
    rank: int | None = option(
        None,
        "`gaussian`, `privunit`: numbers that are sent, in the generator's strongest directions;"
        " null: the whole embedding",
        at_least(2),
    )
    replies: int = option(
        1, "`subset`: places that a client sends, and adapters that it gets", at_least(1)
    )
    choose_by: int = option(
        16,
        "`subset` and labelled tasks: examples of its own by whose loss a client chooses among"
        " several adapters; without any one of a retrieval task chooses by its unpaired items and"
        " captions, any other takes the one that is nearest to its description",
        at_least(0),
    )
    catalogue: str | None = option(
        None,
        "`krr`, `subset`, `experts=catalogue`: file of the public list, where the family brings"
        " none",
    )
    experts: str = option(
        IN_CLEAR,
        "what a node sends of an expert's description: `clear`, embeddings of its wordings;"
        " `catalogue`, a place of the catalogue, whose wordings take theirs",
        one_of((IN_CLEAR, LISTED)),
    )
    experts_epsilon: float | None = option(
        None,
        "`experts=catalogue`: of an expert's description, local, by `krr`; null: its place as it"
        " is, which promises nothing",
        where(lambda value: 0 < value <= MAX_EPSILON, f"must lie in (0, {MAX_EPSILON:g}]"),
    )
    training: TrainingPrivacyConfig = field(default_factory=TrainingPrivacyConfig)

    def contradictions(self) -> list[str]:
        """A promise that nobody keeps, or parameters that the mechanism lacks or cannot use."""
        found = self._unused()
        if self.mechanism == "none":
            return found + self._given("privacy=none promises nothing; choose privacy=gaussian")
        if self.mechanism in UNSPENT:
            return found + self._given(f"{self.mechanism} spends nothing; leave it out")
        if self.mechanism in COSTLY or self.epsilon is not None:
            found += self._epsilon_problems()
        if self.mechanism in PURE and self.delta is not None:
            found.append(
                f"privacy.delta={self.delta!r}: {self.mechanism} has no delta; leave it out"
            )
        if self.mechanism == "gaussian" and not MIN_DELTA <= (self.delta or 0.0) < 1:
            found.append(f"privacy.delta={self.delta!r}: must lie in [{MIN_DELTA:g}, 1)")
        return found

    def _unused(self) -> list[str]:
        """Options of other mechanisms."""
        found = []
        if self.replies > 1 and self.mechanism != "subset":
            found.append(f"privacy.replies={self.replies}: several are for subset alone")
        if self.rank is not None and self.mechanism not in ("gaussian", "privunit"):
            found.append(f"privacy.rank={self.rank}: is for gaussian and privunit")
        if self.experts_epsilon is not None and self.experts != LISTED:
            found.append(
                f"privacy.experts_epsilon={self.experts_epsilon!r}: privacy.experts={self.experts}"
                " promises nothing; choose catalogue"
            )
        return found

    def _given(self, wrong: str) -> list[str]:
        given = {"epsilon": self.epsilon, "delta": self.delta, "budget": self.budget}
        return [f"privacy.{k}={v!r}: {wrong}" for k, v in given.items() if v is not None]

    def _epsilon_problems(self) -> list[str]:
        most = MAX_PRIVUNIT_EPSILON if self.mechanism == "privunit" else MAX_EPSILON
        if self.epsilon is not None and 0 < self.epsilon <= most:
            return []
        return [f"privacy.epsilon={self.epsilon!r}: must lie in (0, {most:g}]"]
