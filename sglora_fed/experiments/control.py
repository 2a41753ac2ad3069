"""The control of a run: whose description has least to do with a client's own."""

from __future__ import annotations

from os import SEEK_END
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import numpy as np

from sglora_fed.errors import ResultsError
from sglora_fed.federation.describe import Decoded
from sglora_fed.privacy.snapping import whitening
from sglora_fed.seeds import derive_seed
from sglora_fed.zoo.rows import Rows, chunks

SHUFFLED = "shuffled"
"""The adopted generator's adapter for somebody else's description."""

OTHERS = 32
"""Clients among whom each has its other looked for, so that the work grows with the clients alone.

In a family whose tasks share parts a single one by chance would often wish for much the same."""

RIDGE = 0.3
"""Of the mean variance, added in every direction: few experts' wordings do not fill all of them."""

AT_ONCE = 512
"""Clients who are compared with their others together."""


def least_alike(
    embeddings: np.ndarray | Decoded,
    wordings: np.ndarray | Rows,
    seed: int,
    folder: Path | None = None,
) -> np.ndarray:
    """For each client the one of some others whose description has least to do with its own.

    Of how much two have to do with one another the cosine tells, in a space of what experts mean:
    how somebody speaks fills most of an embedding. Of several descriptions for each client it is
    the mean over all pairs. All of it is made of what clients have released and experts have told,
    so it costs no privacy; noise makes the choice more random, as it does what the generator reads.

    Args:
        embeddings: [n, m, d] what adapters are made for.
        wordings: [E, W, d] unit embeddings of what experts say.
        seed: of the run.
        folder: with room for [n, d] single precision while this runs; None: that of the system.

    Returns:
        [n] rows, nobody's own unless there is nobody else; the first drawn of equals.

    Raises:
        ResultsError: when the disk is full.
    """
    count = len(embeddings)
    if count == 1:
        return np.zeros(1, np.int64)
    order, steps = circle(count, seed)
    chosen = np.empty(count, np.int64)
    try:
        with TemporaryFile(dir=folder) as file:
            _tell(embeddings, _meanings(wordings), order, file)
            for start in range(0, count, AT_ONCE):
                places = np.arange(start, min(start + AT_ONCE, count))
                least = steps[_least(file, places, steps, count)]
                chosen[order[places]] = order[(places + least) % count]
    except OSError as error:
        raise ResultsError(f"what clients mean cannot be kept: {error.strerror}") from error
    return chosen


def circle(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """How clients stand, and how many places further on each looks, at as many as ``OTHERS``.

    So all others are different, and each is looked at as often as it looks.

    Returns:
        [count] rows in the order of the circle, and [k] steps, both drawn.
    """
    rng = np.random.default_rng(derive_seed(seed, SHUFFLED))
    return rng.permutation(count), 1 + rng.permutation(count - 1)[:OTHERS]


def _tell(
    embeddings: np.ndarray | Decoded,
    meanings: tuple[np.ndarray, np.ndarray],
    order: np.ndarray,
    file: IO[bytes],
) -> None:
    """Write [n, d] of each client the mean of its descriptions, unit vectors, as the circle has it.

    In that order whoever stand beside one another are read at once; of many clients it is more
    than should lie in memory.
    """
    centre, matrix = meanings
    places = np.argsort(order)
    for start in range(0, len(places), AT_ONCE):
        rows = (embeddings[start : start + AT_ONCE] - centre) @ matrix
        lengths = np.maximum(np.linalg.norm(rows, axis=2, keepdims=True), np.finfo(float).tiny)
        told = (rows / lengths).mean(axis=1).astype(np.float32)
        for place, one in zip(places[start : start + AT_ONCE].tolist(), told, strict=True):
            file.seek(place * one.nbytes)
            file.write(one.tobytes())


def _least(file: IO[bytes], places: np.ndarray, steps: np.ndarray, count: int) -> np.ndarray:
    """[p] which of the steps leads from some neighbouring places to whom is least alike."""
    own = _told(file, places[0], len(places), count)
    alike = [
        np.einsum("pd,pd->p", own, _told(file, (places[0] + step) % count, len(places), count))
        for step in steps
    ]
    found: np.ndarray = np.argmin(alike, axis=0)
    return found


def _told(file: IO[bytes], first: int, some: int, count: int) -> np.ndarray:
    """[some, d] of a circle of so many clients, from one place on."""
    each = file.seek(0, SEEK_END) // count
    file.seek(first * each)
    rows = file.read(some * each)
    file.seek(0)  # behind the last one stands the first
    rows += file.read(some * each - len(rows))
    return np.frombuffer(rows, np.float32).reshape(some, -1)


def _meanings(wordings: np.ndarray | Rows) -> tuple[np.ndarray, np.ndarray]:
    """The mean [d] of experts' wordings, and a matrix [d, d] into a space of what they mean.

    Wordings of one expert scatter alike in all its directions, and each counts for the share of
    what is meant in the variance along it (probabilistic linear discriminant analysis, Ioffe 2006).
    With one wording each nothing is known of manners: all directions count the same.
    """
    _, each, dim = wordings.shape
    centre, within, between = _spread(wordings)
    if each == 1:
        return centre, np.eye(dim)
    white = whitening(within, RIDGE)
    found, directions = np.linalg.eigh(white.T @ between @ white)
    # The mean of W wordings scatters by 1 / W although nothing else be meant.
    meant = np.maximum(found - 1 / each, 0)
    return centre, white @ (directions * np.sqrt(meant / (meant + 1)))


def _spread(wordings: np.ndarray | Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean [d] of experts' wordings; the scatters [d, d] within experts, and of their means."""
    experts, each, dim = wordings.shape
    origin = wordings[:1][0].mean(axis=0, dtype=np.float64)
    total, within, squares = np.zeros(dim), np.zeros((dim, dim)), np.zeros((dim, dim))
    for (texts,) in chunks(wordings):
        means = texts.mean(axis=1, dtype=np.float64)
        away, moved = (texts - means[:, None]).reshape(-1, dim), means - origin
        within += away.T @ away
        squares += moved.T @ moved
        total += moved.sum(axis=0)
    mean = total / experts
    return origin + mean, within / (experts * each), squares / experts - np.outer(mean, mean)
