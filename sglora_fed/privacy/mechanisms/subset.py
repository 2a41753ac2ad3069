"""Several places of a public catalogue, the nearest to the embedding hidden among decoys."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sglora_fed.errors import PrivacyError
from sglora_fed.privacy.catalogue import check_rows, nearest
from sglora_fed.privacy.mechanisms.base import UNIT, Form, check_epsilon, checked, index_form
from sglora_fed.privacy.mechanisms.odds import Odds, odds
from sglora_fed.privacy.mechanisms.system import below


@dataclass(frozen=True, eq=False)
class SubsetMechanism:
    """Subset selection (Wang et al. 2016; Ye & Barg 2018): pure epsilon.

    A set of m places has weight e^eps when the truth is among them, else 1: the truth is there with
    probability m e^eps / (m e^eps + k - m). The server answers for each place and the client
    chooses on its device, so the server's best guess is right with that probability over m only. It
    must never learn the choice. Only whole numbers are drawn; e^eps is rounded down.

    Args:
        rows: [k, d] unit rows, the catalogue's embeddings by the client's own encoder.
        epsilon: in (0, 1000].
        replies: m, from 1 to k - 1.

    Raises:
        PrivacyError, CatalogueError: for an impossible epsilon or m, or unfit rows.
    """

    rows: np.ndarray
    epsilon: float
    replies: int
    delta: float = 0.0
    name: str = "subset"
    unit: str = UNIT
    odds: Odds = field(init=False)

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        check_rows(self.rows)
        check_replies(self.replies, len(self.rows))
        object.__setattr__(self, "odds", odds(self.epsilon))

    @property
    def form(self) -> Form:
        """All m places."""
        return index_form(self.replies)

    def release(self, embedding: np.ndarray) -> np.ndarray:
        """M different places in the catalogue in ascending order, [m] uint16.

        Raises:
            PrivacyError: when the embedding is no unit vector of the catalogue's length; checked
                before anything is drawn.
        """
        truth = nearest(checked(embedding, self.rows.shape[1]), self.rows)
        return np.array(among(truth, len(self.rows), self.replies, self.odds), np.uint16)


def check_replies(replies: int, entries: int) -> None:
    """Refuse a number of places that says nothing, or all.

    Args:
        replies: m.
        entries: of the catalogue, k.

    Raises:
        PrivacyError: unless m is a whole number from 1 to k - 1.
    """
    if type(replies) is not int or not 0 < replies < entries:
        raise PrivacyError(
            f"replies={replies!r}; need 1 to {entries - 1}, fewer than the catalogue has"
        )


def among(truth: int, count: int, size: int, odds: Odds) -> list[int]:
    """``size`` places out of ``count``, ascending: their order says nothing about the truth.

    As many draws whatever the truth and whether it is included.
    """
    weight = size * odds.truth
    included = below(weight + (count - size) * odds.other) < weight
    decoys = [place + (place >= truth) for place in _distinct(count - 1, size)]
    return sorted([truth, *decoys[1:]] if included else decoys)


def _distinct(count: int, size: int) -> list[int]:
    """``size`` different numbers below ``count``, every set as likely (Fisher & Yates)."""
    places = list(range(count))
    for place in range(size):
        other = place + below(count - place)
        places[place], places[other] = places[other], places[place]
    return places[:size]
