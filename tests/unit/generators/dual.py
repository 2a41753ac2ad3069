"""The generators' mathematics in dual form, a row and a column for each wording or expert.

The library sums over experts instead (``linear.py``, ``boosting.py``): this is what it must equal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sglora_fed.adapters.layout import Layout
from sglora_fed.generators.boosting import MEMORY, MOST_DIRECTIONS
from sglora_fed.generators.linear import LinearGenerator
from sglora_fed.zoo import Zoo, trusted


def ridge_map(wordings: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """How much each expert counts for a description, by ridge regression over wordings.

    Args:
        wordings: [E, W, d] unit embeddings.
        penalty: relative to the mean squared norm of the centred embeddings.

    Returns:
        The centre [d] and a map [d, E]: the weights are ``(x - centre) @ map``, plus what they lack
        to a sum of one, in equal parts.
    """
    inputs, centre, scale, system = _system(wordings, penalty)
    owners = np.repeat(np.eye(len(wordings)), wordings.shape[1], axis=0)
    return centre, inputs.T @ np.linalg.solve(system, owners) / scale


def left_out_residuals(wordings: np.ndarray, penalty: float, values: np.ndarray) -> np.ndarray:
    """What the ridge regression of all other experts gets wrong about each expert.

    In closed form, without a regression for each expert: the block of the residuals divided by that
    of ``I - H``, H the hat matrix (Hastie, Tibshirani & Friedman 2009, eq. 7.64, for a group of
    rows). The centre and the scale of the inputs stay those of all experts.

    Args:
        wordings: [E, W, d] unit embeddings.
        penalty: as in :func:`ridge_map`.
        values: [E, k] what is to be told from a wording, means over experts zero.

    Returns:
        [E, W, k].
    """
    experts, each, _ = wordings.shape
    system = _system(wordings, penalty)[3]
    # I - H = penalty each (G + penalty each I)^-1, with the Gram matrix G.
    rest = penalty * each * np.linalg.inv(system)
    residuals = (rest @ np.repeat(values, each, axis=0)).reshape(experts, each, -1)
    rows = np.arange(experts)
    blocks = rest.reshape(experts, each, experts, each)[rows, :, rows]
    made: np.ndarray = np.linalg.solve(blocks, residuals)
    return made


def _system(
    wordings: np.ndarray, penalty: float
) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    """Centred inputs [E W, d], their centre [d] and scale, and the Gram matrix with the penalty."""
    _, each, dim = wordings.shape
    inputs = wordings.reshape(-1, dim).astype(np.float64)
    centre = inputs.mean(axis=0)
    centred = inputs - centre
    # Descriptions that are all equal carry nothing: any scale gives equal weights.
    scale = float((centred**2).sum(axis=1).mean()) or 1.0
    system = centred @ centred.T / scale + penalty * each * np.eye(len(inputs))
    return centred, centre, scale, system


@dataclass(frozen=True)
class Factors:
    """The experts' coordinates: row e is ``offset + scores[e] @ basis``.

    Attributes:
        offset: [D] their mean.
        scores: [E, k].
        basis: [k, D] orthonormal rows.
    """

    offset: np.ndarray
    scores: np.ndarray
    basis: np.ndarray

    def select(self, rows: np.ndarray) -> Factors:
        """Some experts' coordinates."""
        return Factors(self.offset, self.scores[rows], self.basis)

    def coordinates(self) -> np.ndarray:
        """[E, D] float32."""
        made: np.ndarray = self.offset + self.scores.astype(np.float32) @ self.basis
        return made


def first_factors(start: np.ndarray, experts: int) -> Factors:
    """All experts at one vector [D]: the generator makes it for every description."""
    empty = np.zeros((0, start.size), np.float32)
    return Factors(start.astype(np.float32), np.zeros((experts, 0)), empty)


def completed(zoo: Zoo, penalty: float, rows: np.ndarray, updates: np.ndarray) -> np.ndarray:
    """Updates of all experts: who took no part gets what the others' tell for its description.

    Left where they are, those experts would hide every direction that the others have found.

    Args:
        zoo: of E experts.
        penalty: of the smoother.
        rows: [n] distinct experts that took part.
        updates: [n, D] differences that they returned.

    Returns:
        [E, D].
    """
    centre, weights = ridge_map(zoo.wordings[rows], penalty)
    mean = updates.mean(axis=0)
    made = mean + (zoo.embeddings - centre) @ weights @ (updates - mean)
    made[rows] = updates
    return np.asarray(made)


def advance(factors: Factors, updates: np.ndarray) -> Factors:
    """Add updates to what is left of the experts' coordinates.

    Args:
        factors: of E experts.
        updates: [E, D].

    Returns:
        All directions of the sum, the strongest first.
    """
    deviations = MEMORY * factors.scores @ factors.basis.astype(np.float64) + updates
    mean = deviations.mean(axis=0)
    deviations -= mean
    # E << D: the eigenvectors of the small Gram matrix give the directions.
    values, vectors = np.linalg.eigh(deviations @ deviations.T)
    kept = np.argsort(-values)
    kept = kept[values[kept] > values.max(initial=0.0) * 1e-10]
    lengths = np.sqrt(values[kept])
    basis = vectors[:, kept].T @ deviations / lengths[:, None]
    return Factors(
        (factors.offset + mean).astype(np.float32),
        vectors[:, kept] * lengths,
        basis.astype(np.float32),
    )


def predicted(factors: Factors, zoo: Zoo, penalty: float, rows: np.ndarray) -> Factors:
    """Keep the directions that descriptions predict, at most ``MOST_DIRECTIONS``.

    A direction stays when the experts' coordinates along it are told better by the ridge regression
    of all *other* experts than by their mean (leave-one-expert-out R^2 above 0). What is cut off is
    the training noise of single experts; that is what lets the rounds go on improving, and it needs
    no rank to be chosen. One expert has no others: it cuts nothing.

    Args:
        factors: of the zoo's experts.
        zoo: whose descriptions are smoothed over.
        penalty: of the smoother.
        rows: the experts to judge by: what the others were given is predicted by construction.
    """
    scores = factors.scores[rows] - factors.scores[rows].mean(axis=0)
    residuals = left_out_residuals(zoo.wordings[rows], penalty, scores)
    told = (residuals**2).mean(axis=1).sum(axis=0) < (scores**2).sum(axis=0)
    kept = np.flatnonzero(told | (len(rows) < 2))[:MOST_DIRECTIONS]
    return Factors(factors.offset, factors.scores[:, kept], factors.basis[kept])


def smoothed(factors: Factors, zoo: Zoo, penalty: float) -> LinearGenerator:
    """The generator that smooths the experts' coordinates over their descriptions."""
    centre, weights = ridge_map(zoo.wordings, penalty)
    return LinearGenerator(centre, weights @ factors.scores, factors.basis, factors.offset)


def mended(factors: Factors, zoo: Zoo, layout: Layout, penalty: float) -> Factors:
    """Set experts that contradict all others to what the others predict for their descriptions.

    So what a poisoned expert sends does not add up over the rounds, and one that was suspected
    wrongly is judged anew in the next.
    """
    kept = trusted(zoo.embeddings, factors.coordinates(), layout, zoo.owners)
    if kept.all():
        return factors
    rows = np.flatnonzero(kept)
    others = smoothed(factors.select(rows), zoo.select(rows), penalty)
    scores = factors.scores.copy()
    scores[~kept] = (zoo.embeddings[~kept].astype(np.float64) - others.centre) @ others.map
    mean = scores.mean(axis=0)
    offset = (factors.offset + mean @ factors.basis).astype(np.float32)
    return Factors(offset, scores - mean, factors.basis)


def boosted(
    factors: Factors,
    zoo: Zoo,
    layout: Layout,
    penalty: float,
    rows: np.ndarray,
    updates: np.ndarray,
) -> tuple[Factors, np.ndarray]:
    """The coordinates after a round.

    Experts are screened before the cut: poison hides directions that descriptions do predict, and
    what is cut off is lost.

    Args:
        factors: of the zoo's E experts, before the round.
        zoo: whose descriptions are smoothed over.
        layout: of the adapters.
        penalty: of the smoother.
        rows: [n] distinct experts that took part.
        updates: [n, D] what they returned.

    Returns:
        The coordinates, and [n] False for experts whose updates contradict the others'.
    """
    # Poison must not spread to those who wait: `mended` looks at the poisoned alone.
    own, owners = factors.coordinates()[rows], [zoo.owners[row] for row in rows]
    sound = trusted(zoo.embeddings[rows], own + updates, layout, owners, before=own)
    every = completed(zoo, penalty, rows[sound], updates[sound])
    every[rows] = updates
    moved = mended(advance(factors, every), zoo, layout, penalty)
    return predicted(moved, zoo, penalty, rows), sound
