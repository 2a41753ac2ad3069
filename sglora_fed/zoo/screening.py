"""Which experts to trust: one whose LoRA says the opposite of all others must not be merged.

Every node has one voice, however many experts it has: fewer than half of the nodes, not of the
experts, can be told apart from the others. ``docs/decisions/0005-robust-weighting.md`` tells what
was measured.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from sglora_fed.adapters.layout import Layout, effect_gram
from sglora_fed.zoo.rows import Rows

PENALTY = 1.0
"""Of the regression, relative to the mean squared norm of the centred embeddings."""

OUTLIER = 4.0
"""Robust standard deviations from the median at which an adapter's length is an outlier."""

CONTRARY = 2.5
"""Robust standard deviations below the median at which agreement is an outlier, if it is as far
below zero as a third of the median is above, too: who is hardly predicted by the others is near
zero."""

CLEAR = 1.1
"""How far above that of noise the largest eigenvalue must be for camps to be believed."""

MAD_TO_SIGMA = 1.4826
"""The standard deviation of normal values over their median absolute deviation."""

TOGETHER = 512
"""Experts that are held against one another; effects have too many numbers to be summed up."""

FEWEST = 8
"""Experts below which nobody is distrusted: there is no telling who is the exception."""

FEWEST_NODES = 3
"""Nodes below which a whole node is never the exception; a single expert may be."""

PASSES = 20
"""In which everybody may change the camp; a few do."""


def trusted(
    embeddings: np.ndarray,
    vectors: np.ndarray | Rows,
    layout: Layout,
    owners: Sequence[str],
    before: np.ndarray | None = None,
) -> np.ndarray:
    """[E] True for experts that do not contradict all others.

    Distrusted is whose parameters lie far outside the others' (Hampel's rule: median and median
    absolute deviation, which a minority cannot move); and whose effect points against what the
    others predict for its description, far more so than is usual among these experts. Effects are
    looked at twice: as they are, and less their mean, because what all experts have in common hides
    what one says against the others about a description.

    More than ``TOGETHER`` experts are judged in random groups, beside experts of as many nodes as
    possible: the cost grows with the experts, not with their pairs.

    Args:
        embeddings: [E, d] of the descriptions.
        vectors: [E, D] the experts' adapters.
        layout: of the vectors.
        owners: E names of the nodes that the experts came from.
        before: [E, D] adapters from which the experts changed to the vectors, when it is the change
            that is judged.
    """
    kept = np.ones(len(embeddings), bool)
    for rows, witnesses in _groups(embeddings, owners):
        together = np.union1d(rows, witnesses)
        changes = None if before is None else before[together]
        some = [owners[row] for row in together]
        sound = _sound(embeddings[together], vectors[together], layout, some, changes)
        kept[rows] = sound[np.searchsorted(together, rows)]
    return kept


def _groups(embeddings: np.ndarray, owners: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows of experts to be judged, and of those that are heard beside them.

    Up to ``TOGETHER`` experts are one group. Of more, half a group are witnesses, the same for all
    groups: one of every node, then a second one. Without them, few honest nodes would be missing
    where a node of many experts is judged. Who is with whom follows from what all experts say: none
    can choose.
    """
    count, half = len(embeddings), TOGETHER // 2
    if count <= TOGETHER:
        return [(np.arange(count), np.arange(count))]
    seed = hashlib.sha256(np.ascontiguousarray(embeddings).tobytes()).digest()
    order = np.random.default_rng(list(seed)).permutation(count)
    witnesses = order[np.argsort(_turns(np.array(owners)[order]), kind="stable")][:half]
    return [(np.sort(rows), witnesses) for rows in np.array_split(order, -(-count // half))]


def _turns(nodes: np.ndarray) -> np.ndarray:
    """[E] how many experts of its node come before each."""
    _, places, counts = np.unique(nodes, return_inverse=True, return_counts=True)
    by_node = np.argsort(places, kind="stable")
    turns = np.empty(len(nodes), np.int64)
    turns[by_node] = np.arange(len(nodes)) - np.repeat(np.cumsum(counts) - counts, counts)
    return turns


def _sound(
    embeddings: np.ndarray,
    vectors: np.ndarray,
    layout: Layout,
    owners: Sequence[str],
    before: np.ndarray | None,
) -> np.ndarray:
    """As :func:`trusted`, every expert held against every other."""
    kept = np.ones(len(vectors), bool)
    if len(vectors) < FEWEST:
        return kept
    nodes = np.array(owners)
    changes = vectors.astype(np.float64) - (0 if before is None else before)
    kept = _usual_length(changes, voices(owners))
    gram = _effects(layout, vectors, before)
    for centred in (False, True):
        rows = np.flatnonzero(kept)
        some = np.ix_(rows, rows)
        kept[rows] = ~contradicting(embeddings[rows], gram[some], nodes[rows], centred)
    return kept


def voices(owners: Sequence[str]) -> np.ndarray:
    """[E] weights of sum one, equal in sum for all nodes, of experts that came from these nodes."""
    _, places, counts = np.unique(np.array(owners), return_inverse=True, return_counts=True)
    weights: np.ndarray = 1 / (counts[places] * len(counts))
    return weights


def weighted_median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The median of each column: [n] or [n, k] values with [n] weights of sum one.

    Between two values that halve the weights it is their mean, as the plain median is.
    """
    order = np.argsort(values, axis=0)
    ranked = np.take_along_axis(values, order, axis=0)
    below = np.cumsum(weights[order], axis=0)
    # Sums of weights are rounded: exactly half must be seen as half.
    ends = [(below < 0.5 + margin).sum(axis=0, keepdims=True) for margin in (-1e-9, 1e-9)]
    middle = [np.take_along_axis(ranked, np.minimum(end, len(values) - 1), axis=0) for end in ends]
    made: np.ndarray = (middle[0][0] + middle[1][0]) / 2
    return made


def contradicting(
    embeddings: np.ndarray, gram: np.ndarray, nodes: np.ndarray, centred: bool
) -> np.ndarray:
    """[E] True for experts whose effects say the opposite of what the larger camp predicts.

    Args:
        embeddings: [E, d] of the descriptions.
        gram: [E, E] inner products of the experts' effects.
        nodes: [E] names of the nodes that the experts came from.
        centred: compare effects less their mean.
    """
    weights = voices(nodes.tolist())
    believed = larger_camp(embeddings, gram, nodes, centred)
    found = agreement(embeddings, gram, np.where(believed, weights, 0.0), centred)
    usual, spread = _location(found[believed], weights[believed])
    # Where each of a node's experts alone is in doubt, all together may be clear.
    _, places, counts = np.unique(nodes, return_inverse=True, return_counts=True)
    together = np.bincount(places, found) / counts
    lowest = np.minimum(found, together[places])
    against: np.ndarray = lowest < min(-usual / 3, usual - CONTRARY * spread)
    return against


def larger_camp(
    embeddings: np.ndarray, gram: np.ndarray, nodes: np.ndarray, centred: bool
) -> np.ndarray:
    """[E] True for experts of the camp that has more voices; for all where no camps are seen.

    Signs are sought with which the experts agree best: S_ij is the cosine of two effects times the
    weight that one of them has in predicting the other, and sum_ij s_i s_j S_ij is to be large
    (synchronisation over Z2). The signs of the leading eigenvector of S, with rows scaled as in the
    signed Laplacian (Kunegis et al. 2010), are a start that no minority hides from; then everybody
    joins the camp with which it agrees (power iterations in signs, Boumal 2016). A node's experts
    do not vouch for one another. Noise has camps, too: its largest eigenvalue, twice the root of
    the mean squared length of a row (the edge of Wigner's semicircle), must be exceeded.

    Args:
        embeddings: [E, d] of the descriptions.
        gram: [E, E] inner products of the experts' effects.
        nodes: [E] names of the nodes that the experts came from.
        centred: compare effects less their mean.
    """
    if len(np.unique(nodes)) < FEWEST_NODES:
        return np.ones(len(nodes), bool)
    weights = voices(nodes.tolist())
    ties = _ties(embeddings, gram, weights, centred) * (nodes[:, None] != nodes)
    degrees = np.maximum(np.abs(ties).sum(axis=1), 1e-12)
    scaled = ties / np.sqrt(np.outer(degrees, degrees))
    values, vectors = np.linalg.eigh(scaled)
    if values[-1] <= CLEAR * 2 * np.sqrt((scaled**2).sum() / len(scaled)):
        return np.ones(len(nodes), bool)
    signs = np.where(vectors[:, -1] >= 0, 1.0, -1.0)
    for _ in range(PASSES):
        signs = np.where(ties @ signs >= 0, 1.0, -1.0)
    larger: np.ndarray = signs * (weights @ signs) >= 0
    return larger


def _ties(
    embeddings: np.ndarray, gram: np.ndarray, weights: np.ndarray, centred: bool
) -> np.ndarray:
    """[E, E] cosine of two effects times the weight of one in the prediction of the other."""
    roots = np.sqrt(weights * len(weights))
    kernel = np.outer(roots, roots) * _kernel(embeddings, weights, centred)
    smoother = kernel @ np.linalg.inv(kernel + PENALTY * np.eye(len(kernel)))
    inner = _around_mean(gram, weights) if centred else gram
    lengths = np.sqrt(np.maximum(np.diag(inner), 1e-24))
    made: np.ndarray = smoother * inner / np.outer(lengths, lengths)
    return made


def agreement(
    embeddings: np.ndarray, gram: np.ndarray, weights: np.ndarray, centred: bool
) -> np.ndarray:
    """Cosine between what each expert does and what the others would do for its description.

    The others' word is a weighted ridge regression of effects on embeddings without the expert, in
    the closed form of the leave-one-out residual (Allen 1974): r_e = (A y)_e / A_ee with
    A = (K + penalty / (n w))^-1 for the n experts with a weight above zero.

    Args:
        embeddings: [E, d] of the descriptions.
        gram: [E, E] inner products of the experts' effects.
        weights: [E] how much each expert counts; who has none is predicted all the same.
        centred: compare effects less their mean.

    Returns:
        [E] in [-1, 1]; 0 where either side is nothing.
    """
    shares, rows = weights / weights.sum(), np.flatnonzero(weights)
    inner = _around_mean(gram, shares) if centred else gram
    kernel = _kernel(embeddings, shares, centred)
    doubt = PENALTY / (len(rows) * shares[rows])
    inverse = np.linalg.inv(kernel[np.ix_(rows, rows)] + np.diag(doubt))
    parts = kernel[:, rows] @ inverse
    parts[rows] = -inverse / np.diag(inverse)[:, None]
    parts[rows, np.arange(len(rows))] = 0
    along = (parts * inner[:, rows]).sum(axis=1)
    squares = ((parts @ inner[np.ix_(rows, rows)]) * parts).sum(axis=1) * np.diag(inner)
    lengths = np.sqrt(np.maximum(squares, 0))
    found: np.ndarray = np.divide(along, lengths, out=np.zeros_like(along), where=lengths > 0)
    return found


def _effects(layout: Layout, vectors: np.ndarray, before: np.ndarray | None) -> np.ndarray:
    """[E, E] inner products of what the adapters, or their changes, add to the weights."""
    if before is None:
        return effect_gram(layout, vectors)
    both = effect_gram(layout, np.concatenate([vectors, before]))
    count = len(vectors)
    after, cross, base = both[:count, :count], both[:count, count:], both[count:, count:]
    changed: np.ndarray = after - cross - cross.T + base
    return changed


def _kernel(embeddings: np.ndarray, weights: np.ndarray, centred: bool) -> np.ndarray:
    """[E, E] of the regression; a constant predicts what effects have in common."""
    inputs = embeddings.astype(np.float64)
    inputs = inputs - weights @ inputs
    kernel = inputs @ inputs.T
    # Descriptions that are all equal carry nothing: any scale gives the same prediction.
    scaled: np.ndarray = kernel / (float(weights @ np.diag(kernel)) or 1.0)
    return scaled if centred else 1 + scaled


def _around_mean(gram: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Inner products of effects less their weighted mean."""
    to_mean = gram @ weights
    made: np.ndarray = gram - to_mean - to_mean[:, None] + weights @ to_mean
    return made


def _usual_length(vectors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    offsets = vectors - weighted_median(vectors, weights)
    lengths = np.log(np.maximum(np.linalg.norm(offsets, axis=1), 1e-12))
    median, spread = _location(lengths, weights)
    return lengths - median <= OUTLIER * spread if spread > 0 else np.ones(len(vectors), bool)


def _location(values: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Median and robust standard deviation."""
    shares = weights / weights.sum()
    median = float(weighted_median(values, shares))
    return median, MAD_TO_SIGMA * float(weighted_median(np.abs(values - median), shares))
