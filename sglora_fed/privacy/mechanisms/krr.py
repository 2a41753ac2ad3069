"""One place of a public catalogue, the nearest to the embedding more often than any other."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sglora_fed.privacy.catalogue import check_rows, nearest
from sglora_fed.privacy.mechanisms.base import UNIT, Form, check_epsilon, checked, index_form
from sglora_fed.privacy.mechanisms.odds import Odds, odds
from sglora_fed.privacy.mechanisms.system import below


@dataclass(frozen=True, eq=False)
class KrrMechanism:
    """k-ary randomised response (Warner 1965; Kairouz, Bonawitz & Ramage 2016): pure epsilon.

    The truth with probability e^eps / (e^eps + k - 1), each other place with 1 / (e^eps + k - 1).
    Only whole numbers are drawn; e^eps is rounded down. Nothing of a description but its nearest
    catalogue entry enters, so nothing else can leak.

    Args:
        rows: [k, d] unit rows, the catalogue's embeddings by the client's own encoder.
        epsilon: in (0, 1000].

    Raises:
        PrivacyError, CatalogueError: for an impossible epsilon or unfit rows.
    """

    rows: np.ndarray
    epsilon: float
    delta: float = 0.0
    name: str = "krr"
    unit: str = UNIT
    replies: int = 1
    odds: Odds = field(init=False)

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        check_rows(self.rows)
        object.__setattr__(self, "odds", odds(self.epsilon))

    @property
    def form(self) -> Form:
        """One place."""
        return index_form(1)

    def release(self, embedding: np.ndarray) -> np.ndarray:
        """One place in the catalogue, [1] uint16.

        Raises:
            PrivacyError: when the embedding is no unit vector of the catalogue's length; checked
                before anything is drawn.
        """
        truth = nearest(checked(embedding, self.rows.shape[1]), self.rows)
        return np.array([respond(truth, len(self.rows), self.odds)], np.uint16)


def respond(truth: int, count: int, odds: Odds) -> int:
    """A place out of ``count``: the truth with weight ``odds.truth``, others ``odds.other`` each.

    One draw, whatever the truth.
    """
    drawn = below(odds.truth + (count - 1) * odds.other)
    if drawn < odds.truth:
        return truth
    other = (drawn - odds.truth) // odds.other
    return other + (other >= truth)
