"""Rounds of boosting in function space: the experts' coordinates before and after each.

Who has not taken part yet is where the others' updates put it, and that is a linear function of its
description. So the coordinates are such a function for all, and what those deviate from it who have
taken part; whatever is summed over all experts comes from the moments of their descriptions. No
step looks at every expert.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sglora_fed.adapters.layout import Layout
from sglora_fed.generators.linear import (
    LinearGenerator,
    Moments,
    Smoother,
    left_out_residuals,
    moments,
    places,
    regressed,
    smoother,
)
from sglora_fed.generators.spans import directions, sketched
from sglora_fed.zoo import Zoo, trusted

MOST_DIRECTIONS = 32
"""They travel to the nodes in each round."""

MOST_JUDGED = 256
"""Experts that are held against one another after a round."""

MEMORY = 0.95
"""What stays of the experts' deviations from their mean from round to round.

Boosting without end fits whatever the smoother lets through, slowly what it damps. With leakage the
rounds settle where what is learnt in one makes up for what is lost: directions that the experts'
losses ask for again and again stay, the noise of single rounds fades.
"""


@dataclass(frozen=True)
class Factors:
    """The experts' coordinates: row e is ``offset + (place_e @ law + own_e) @ basis``.

    Attributes:
        offset: [D] their mean.
        basis: [k, D] orthonormal rows.
        law: [1 + d, k] of the places (:class:`Moments`).
        rows: [t] experts that deviate from the law, ascending.
        own: [t, k] by how much.
    """

    offset: np.ndarray
    basis: np.ndarray
    law: np.ndarray
    rows: np.ndarray
    own: np.ndarray

    def along(self, kept: np.ndarray) -> Factors:
        """Some of the directions alone."""
        return replace(self, basis=self.basis[kept], law=self.law[:, kept], own=self.own[:, kept])


@dataclass(frozen=True)
class Training:
    """Where the rounds are.

    Attributes:
        zoo: of the E experts.
        layout: of the adapters.
        penalty: of the smoother.
        sums: of the zoo's descriptions.
        ridge: the smoother over the zoo.
        factors: the experts' coordinates.
    """

    zoo: Zoo
    layout: Layout
    penalty: float
    sums: Moments
    ridge: Smoother
    factors: Factors

    def places(self, rows: np.ndarray) -> np.ndarray:
        """[n, 1 + d] of some experts."""
        return places(self.zoo.embeddings[rows], self.sums.origin)

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """[n, k] of some experts."""
        factors = self.factors
        made: np.ndarray = self.places(rows) @ factors.law
        _, here, there = np.intersect1d(rows, factors.rows, return_indices=True)
        made[here] += factors.own[there]
        return made

    def coordinates(self, rows: np.ndarray) -> np.ndarray:
        """[n, D] float32 of some experts."""
        scores, factors = self.scores(rows).astype(np.float32), self.factors
        made: np.ndarray = factors.offset + scores @ factors.basis
        return made


def begun(zoo: Zoo, layout: Layout, penalty: float, start: np.ndarray) -> Training:
    """All experts at one vector [D]: the generator makes it for every description."""
    sums = moments(zoo.wordings, zoo.embeddings)
    dim = len(sums.origin)
    empty = np.zeros((0, start.size), np.float32)
    nobody = np.zeros(0, np.int64)
    first = Factors(
        start.astype(np.float32), empty, np.zeros((1 + dim, 0)), nobody, np.zeros((0, 0))
    )
    return Training(zoo, layout, penalty, sums, smoother(sums, penalty), first)


def faded(factors: Factors) -> Factors:
    """What is left of coordinates when the next round's updates come; their mean stays."""
    return replace(factors, law=MEMORY * factors.law, own=MEMORY * factors.own)


def advance(at: Training, rows: np.ndarray, updates: np.ndarray, believed: np.ndarray) -> Factors:
    """Add updates to the coordinates of who took part, and to the others' what these tell of them.

    What they had before has faded by then.

    Left where they are, those who waited would hide every direction that the others have found.

    Args:
        at: before the round.
        rows: [n] distinct experts that took part.
        updates: [n, D] differences that they returned.
        believed: [n] False for those that tell nothing of others.

    Returns:
        All directions of the sum, the strongest first.
    """
    before, mean = faded(at.factors), updates[believed].mean(axis=0)
    weights, moves = sketched(updates - mean)
    centre, told = regressed(at.zoo.wordings[rows[believed]], at.penalty)
    slopes = told @ weights[believed]
    moved = np.vstack([(at.sums.origin - centre) @ slopes, slopes])
    # From here on coordinates are along the old directions and the moves, side by side.
    changed = np.union1d(before.rows, rows)
    own = np.zeros((len(changed), len(before.basis) + len(moves)))
    own[np.searchsorted(changed, before.rows), : len(before.basis)] = before.own
    own[np.searchsorted(changed, rows), len(before.basis) :] = weights - at.places(rows) @ moved
    both = Factors(
        before.offset + mean,
        np.vstack([before.basis.astype(np.float64), moves]),
        np.hstack([before.law, moved]),
        changed,
        own,
    )
    return turned(replace(at, factors=centred(both, at.sums)))


def centred(factors: Factors, sums: Moments) -> Factors:
    """The same coordinates with the experts' mean as offset."""
    mean = (sums.placed[0] @ factors.law + factors.own.sum(axis=0)) / sums.experts
    law = factors.law.copy()
    law[0] -= mean
    return replace(factors, offset=factors.offset + mean @ factors.basis, law=law)


def turned(at: Training) -> Factors:
    """The same coordinates along their principal directions."""
    factors = at.factors
    lawful, own = at.places(factors.rows) @ factors.law, factors.own
    shared = lawful.T @ own
    second = factors.law.T @ at.sums.placed @ factors.law + shared + shared.T + own.T @ own
    basis, turn = directions(second, factors.basis)
    return Factors(
        factors.offset.astype(np.float32),
        basis.astype(np.float32),
        factors.law @ turn,
        factors.rows,
        own @ turn,
    )


def predicted(at: Training, rows: np.ndarray) -> Factors:
    """Keep the directions that descriptions predict, at most ``MOST_DIRECTIONS``.

    A direction stays when the experts' coordinates along it are told better by the ridge regression
    of all *other* experts than by their mean (leave-one-expert-out R^2 above 0). What is cut off is
    the training noise of single experts; that is what lets the rounds go on improving, and it needs
    no rank to be chosen. One expert has no others: it cuts nothing.

    Args:
        at: after a round.
        rows: the experts to judge by: what the others were given is predicted by construction.
    """
    scores = at.scores(rows)
    scores -= scores.mean(axis=0)
    residuals = left_out_residuals(at.zoo.wordings[rows], at.penalty, scores)
    told = (residuals**2).mean(axis=1).sum(axis=0) < (scores**2).sum(axis=0)
    return at.factors.along(np.flatnonzero(told | (len(rows) < 2))[:MOST_DIRECTIONS])


def smoothed(at: Training) -> LinearGenerator:
    """The generator that smooths the experts' coordinates over their descriptions."""
    factors, sums, centre = at.factors, at.sums, at.ridge.centre
    lawful = sums.cross - np.outer(centre - sums.origin, sums.placed[0])
    texts = at.zoo.wordings[factors.rows].mean(axis=1, dtype=np.float64) - centre
    slopes = at.ridge.fit(lawful @ factors.law + texts.T @ factors.own)
    return LinearGenerator(centre, slopes, factors.basis, factors.offset)


def mended(at: Training, rows: np.ndarray) -> Factors:
    """Set experts that contradict all others to what the others predict for their descriptions.

    So what a poisoned expert sends does not add up over the rounds, and one that was suspected
    wrongly is judged anew in the next.

    Args:
        at: after a round.
        rows: [n] experts that took part.
    """
    among = judged(at, rows)
    owners = [at.zoo.owners[row] for row in among]
    kept = trusted(at.zoo.embeddings[among], at.coordinates(among), at.layout, owners)
    if kept.all():
        return at.factors
    bad = among[~kept]
    scores = smoothed(_without(at, bad)).scores(at.zoo.embeddings[bad])
    factors = at.factors
    changed = np.union1d(factors.rows, bad)
    own = np.zeros((len(changed), factors.own.shape[1]))
    own[np.searchsorted(changed, factors.rows)] = factors.own
    own[np.searchsorted(changed, bad)] = scores - at.places(bad) @ factors.law
    made = centred(replace(factors, rows=changed, own=own), at.sums)
    return replace(made, offset=made.offset.astype(np.float32))


def judged(at: Training, rows: np.ndarray) -> np.ndarray:
    """Up to ``MOST_JUDGED`` experts, ascending: those of a round, then others that took part once.

    All of a small zoo. Where an expert has not taken part, the others' updates put it: it has
    nothing to say against them.
    """
    others = np.setdiff1d(at.factors.rows, rows)
    waiting = np.setdiff1d(np.arange(len(at.zoo.ids)), at.factors.rows)
    among = rows
    for more in (others, waiting):
        room = min(max(MOST_JUDGED - len(among), 0), len(more))
        among = np.concatenate([among, more[np.arange(room) * len(more) // max(room, 1)]])
    return np.sort(among)


def _without(at: Training, bad: np.ndarray) -> Training:
    """As if some experts had never been there, but for the directions."""
    some = moments(at.zoo.wordings[bad], at.zoo.embeddings[bad], at.sums.origin)
    sums = at.sums.without(some)
    good = ~np.isin(at.factors.rows, bad)
    factors = replace(at.factors, rows=at.factors.rows[good], own=at.factors.own[good])
    return replace(at, sums=sums, ridge=smoother(sums, at.penalty), factors=factors)


def boosted(at: Training, rows: np.ndarray, updates: np.ndarray) -> tuple[Training, np.ndarray]:
    """The coordinates after a round.

    Experts are screened before the cut: poison hides directions that descriptions do predict, and
    what is cut off is lost.

    Args:
        at: before the round.
        rows: [n] distinct experts that took part.
        updates: [n, D] what they returned.

    Returns:
        After the round, and [n] False for experts whose updates contradict the others'.
    """
    # Poison must not spread to those who wait: `mended` looks at the poisoned alone.
    before, owners = at.coordinates(rows), [at.zoo.owners[row] for row in rows]
    after = before + updates
    sound = trusted(at.zoo.embeddings[rows], after, at.layout, owners, before=before)
    at = replace(at, factors=advance(at, rows, updates, sound))
    at = replace(at, factors=mended(at, rows))
    return replace(at, factors=predicted(at, rows)), sound
