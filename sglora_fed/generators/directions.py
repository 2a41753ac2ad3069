"""The public directions in which requests may be sent, from what the server has of its experts."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from sglora_fed.errors import GeneratorError
from sglora_fed.generators.base import Generator
from sglora_fed.generators.linear import LinearGenerator
from sglora_fed.generators.ridge import regression
from sglora_fed.privacy.mechanisms import Projection
from sglora_fed.zoo import Zoo
from sglora_fed.zoo.rows import chunks

PENALTY = 0.1
"""Of the regression whose directions stand in for those of a generator that is not linear."""

FLAT = 1e-10
"""Share of the largest singular value below which a direction changes nothing."""


@runtime_checkable
class Linear(Protocol):
    """A generator that has learnt a linear map."""

    def linear(self) -> LinearGenerator:
        """What it has learnt."""
        ...


def linear_of(generator: Generator) -> LinearGenerator:
    """What a linear generator has learnt.

    Raises:
        GeneratorError: when it is not linear, or has learnt nothing.
    """
    if not isinstance(generator, Linear):
        raise GeneratorError(f"{generator.name} is not linear in the description; use ridge")
    return generator.linear()


def generator_projection(generator: Generator, zoo: Zoo, rank: int | None) -> Projection:
    """The directions of descriptions that move a generator's adapters most.

    No client's description is in them. For a generator that is not linear they are those of a ridge
    regression to the experts' adapters.

    Args:
        generator: that has learnt.
        zoo: of its experts.
        rank: r at most; None: all that move an adapter.
    """
    linear = generator.linear() if isinstance(generator, Linear) else regression(zoo, PENALTY)
    directions, centre = strongest(linear, rank), np.asarray(linear.centre, np.float64)
    squares = [(((texts - centre) @ directions) ** 2).sum() for (texts,) in chunks(zoo.wordings)]
    reach = float(np.sqrt(sum(squares) / (len(zoo.ids) * zoo.wordings.shape[1])))
    return Projection(centre, directions, reach, _unseen(linear, centre, directions))


def _unseen(
    linear: LinearGenerator, centre: np.ndarray, directions: np.ndarray
) -> np.ndarray | None:
    """[d] a direction that changes no adapter, at right angles to all else; None without one."""
    seen = np.column_stack([centre, directions, linear.map])
    left, sizes, _ = np.linalg.svd(seen, full_matrices=True)
    used = int((sizes > FLAT * sizes.max(initial=0.0)).sum())
    return None if used == len(left) else np.asarray(left[:, -1], np.float64)


def strongest(linear: LinearGenerator, most: int | None) -> np.ndarray:
    """[d, r] orthonormal: what moves the adapter most comes first; r at most ``most``."""
    # The rows of the basis need not be orthonormal: their Gram matrix says how long they are.
    basis = linear.basis.astype(np.float64)
    values, vectors = np.linalg.eigh(basis @ basis.T)
    root = vectors * np.sqrt(values.clip(min=0))
    left, sizes, _ = np.linalg.svd(linear.map @ root, full_matrices=False)
    kept = max(1, int((sizes > FLAT * sizes.max(initial=0.0)).sum()))
    return np.asarray(left[:, : kept if most is None else min(kept, most)], np.float64)


def along(linear: LinearGenerator, directions: np.ndarray) -> np.ndarray:
    """[r, D] how the adapter moves with the coordinates in some directions [d, r]."""
    return np.asarray(directions.T @ linear.map @ linear.basis.astype(np.float64))
