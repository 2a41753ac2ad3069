"""Ridge regression over experts' wordings by sums over experts: their cost grows with the experts.

All that a regression on d numbers needs of a zoo are its moments, d x d whatever the number of
experts, and they can be added and taken away. The same regression in its dual form, with a row and
a column for each wording, is what the tests compare with.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from sglora_fed.zoo.rows import Rows, chunks

ALIKE = 1e-12
"""Mean squared distance from their mean below which descriptions are equal up to rounding."""


@dataclass(frozen=True)
class LinearGenerator:
    """An adapter is ``offset + (x - centre) @ map @ basis``.

    Attributes:
        centre: [d] mean of the experts' description embeddings.
        map: [d, k].
        basis: [k, D].
        offset: [D].
    """

    centre: np.ndarray
    map: np.ndarray
    basis: np.ndarray
    offset: np.ndarray

    def scores(self, descriptions: np.ndarray) -> np.ndarray:
        """[n, d] description embeddings to [n, k]."""
        made: np.ndarray = (descriptions.astype(np.float64) - self.centre) @ self.map
        return made

    def adapters(self, descriptions: np.ndarray) -> np.ndarray:
        """[n, d] description embeddings to [n, D] float32."""
        scores = self.scores(descriptions).astype(np.float32)
        if len(scores) <= len(self.basis):
            few: np.ndarray = scores @ self.basis + self.offset
            return few
        # The offset as one more direction: a sum afterwards would pass over the result again.
        weights = np.pad(scores, ((0, 0), (0, 1)), constant_values=1)
        made: np.ndarray = weights @ np.vstack([self.basis, self.offset])
        return made

    def padded(self) -> LinearGenerator:
        """The same with at least one direction: a file holds no array without numbers."""
        missing = int(len(self.basis) == 0)
        return replace(
            self,
            map=np.pad(self.map, ((0, 0), (0, missing))),
            basis=np.pad(self.basis, ((0, missing), (0, 0))),
        )


@dataclass(frozen=True)
class Moments:
    """Sums over experts, of embeddings less an origin: near it, nothing cancels.

    The place of an expert is (1, z), z its description's embedding; m is the mean of its wordings'
    embeddings x.

    Attributes:
        origin: [d].
        experts: how many.
        wordings: of each expert, W.
        total: [d] sum of m.
        squares: [d, d] sum of x x^T, over all wordings.
        means: [d, d] sum of m m^T.
        cross: [d, 1 + d] sum of m (1, z)^T.
        placed: [1 + d, 1 + d] sum of (1, z) (1, z)^T.
    """

    origin: np.ndarray
    experts: int
    wordings: int
    total: np.ndarray
    squares: np.ndarray
    means: np.ndarray
    cross: np.ndarray
    placed: np.ndarray

    def without(self, other: Moments) -> Moments:
        """Of these experts less some of them."""
        summed = ("experts", *(field.name for field in fields(self)[3:]))
        return replace(self, **{n: getattr(self, n) - getattr(other, n) for n in summed})


def places(embeddings: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """[n, 1 + d]: one, and the embedding [n, d] less the origin [d]."""
    moved = embeddings.astype(np.float64) - origin
    return np.pad(moved, ((0, 0), (1, 0)), constant_values=1)


def moments(
    wordings: np.ndarray | Rows, embeddings: np.ndarray, origin: np.ndarray | None = None
) -> Moments:
    """Of experts with wordings [E, W, d] and descriptions [E, d]; by default about the first."""
    _, each, dim = wordings.shape
    if origin is None:
        origin = wordings[:1][0, 0].astype(np.float64)
    squares, means = np.zeros((dim, dim)), np.zeros((dim, dim))
    cross, placed = np.zeros((dim, 1 + dim)), np.zeros((1 + dim, 1 + dim))
    for texts, texts_of in chunks(wordings, embeddings):
        inputs = texts.astype(np.float64) - origin
        flat, middle, place = inputs.reshape(-1, dim), inputs.mean(axis=1), places(texts_of, origin)
        squares += flat.T @ flat
        means += middle.T @ middle
        cross += middle.T @ place
        placed += place.T @ place
    return Moments(origin, len(wordings), each, cross[:, 0], squares, means, cross, placed)


@dataclass(frozen=True)
class Smoother:
    """Ridge regression of experts' values on their wordings, before the values are known.

    It minimises sum_e (mean_w |y_e - M^T x_ew|^2) + penalty s |M|^2: y_e is an expert's value and
    x_ew the embedding of one of its wordings, both less their means over the experts; s is the mean
    squared norm of the x_ew, so that the penalty does not depend on how alike descriptions are.

    Attributes:
        centre: [d] mean of the wordings.
        inverse: [d, d] of sum_ew x_ew x_ew^T + W penalty s I.
        wordings: W.
    """

    centre: np.ndarray
    inverse: np.ndarray
    wordings: int

    def fit(self, products: np.ndarray) -> np.ndarray:
        """From sum_e (m_e - centre) y_e^T [d, k] to the map M [d, k]."""
        made: np.ndarray = self.wordings * self.inverse @ products
        return made


def smoother(sums: Moments, penalty: float) -> Smoother:
    """The ridge regression over the experts of some moments.

    Args:
        sums: of the experts.
        penalty: relative to the mean squared norm of the centred embeddings.
    """
    mean, count = sums.total / sums.experts, sums.experts * sums.wordings
    system = sums.squares - count * np.outer(mean, mean)
    spread = float(np.trace(system)) / count
    # Descriptions that are all equal carry nothing: any scale gives equal weights.
    scale = spread if spread > ALIKE else 1.0
    system += sums.wordings * penalty * scale * np.eye(len(system))
    return Smoother(sums.origin + mean, np.linalg.inv(system), sums.wordings)


def regressed(wordings: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """How much each of a few experts counts for a description.

    Args:
        wordings: [E, W, d] unit embeddings.
        penalty: as in :func:`smoother`.

    Returns:
        The centre [d] and a map [d, E]: the weights are ``(x - centre) @ map``, plus what they lack
        to a sum of one, in equal parts.
    """
    ridge = smoother(moments(wordings, wordings[:, 0]), penalty)
    return ridge.centre, ridge.fit((wordings.mean(axis=1, dtype=np.float64) - ridge.centre).T)


def left_out_residuals(wordings: np.ndarray, penalty: float, values: np.ndarray) -> np.ndarray:
    """What the ridge regression of all other experts gets wrong about each expert.

    In closed form, without a regression for each expert: the block of the residuals divided by that
    of ``I - H``, H the hat matrix (Hastie, Tibshirani & Friedman 2009, eq. 7.64, for a group of
    rows). The centre and the scale of the inputs stay those of all experts.

    Args:
        wordings: [E, W, d] unit embeddings.
        penalty: as in :func:`smoother`.
        values: [E, k] what is to be told from a wording, means over experts zero.

    Returns:
        [E, W, k].
    """
    ridge = smoother(moments(wordings, wordings[:, 0]), penalty)
    inputs = wordings.astype(np.float64) - ridge.centre
    told = inputs @ ridge.fit(inputs.mean(axis=1).T @ values)
    # An expert meets the others' regression in its own block of H alone.
    rest = np.eye(inputs.shape[1]) - (inputs @ ridge.inverse) @ inputs.transpose(0, 2, 1)
    made: np.ndarray = np.linalg.solve(rest, values[:, None] - told)
    return made
