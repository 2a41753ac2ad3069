"""What a generator is: it learns from experts, then makes adapters for descriptions.

There are two kinds. A fitted one needs the zoo alone; a federated one is trained in rounds, in
which the experts' losses count and not their parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Protocol, TypeGuard, runtime_checkable

import numpy as np

from sglora_fed.adapters.layout import Layout
from sglora_fed.config.schema import GeneratorConfig
from sglora_fed.errors import GeneratorError
from sglora_fed.units import off_unit
from sglora_fed.zoo import Search, Zoo, entropy, softmax


@dataclass(frozen=True)
class Generated:
    """Adapters and how far to trust them.

    Attributes:
        adapters: [n, samples, D] float32.
        similarity: [n] cosine of the nearest expert's description.
        entropy: [n] of the top-K weights, in nats: 0 when one expert decides.

    Raises:
        GeneratorError: when the shapes or the type disagree.
    """

    adapters: np.ndarray
    similarity: np.ndarray
    entropy: np.ndarray

    def __post_init__(self) -> None:
        shape, rows = self.adapters.shape, self.adapters.shape[:1]
        if len(shape) != 3 or self.adapters.dtype != np.float32:
            raise GeneratorError(
                f"adapters are {self.adapters.dtype} {list(shape)}; need float32 [n, samples, D]"
            )
        if self.similarity.shape != rows or self.entropy.shape != rows:
            raise GeneratorError(
                f"{shape[0]} adapters, but similarity has shape {list(self.similarity.shape)} and"
                f" entropy {list(self.entropy.shape)}"
            )


class Generator(Protocol):
    """Turns description embeddings into adapters: what both kinds of generators have in common.

    A class may have ``settings``, the names of the fields of :class:`GeneratorConfig` that its
    adapters or its confidence depend on (:func:`settings_of`).

    Attributes:
        name: what configuration and results call it.
    """

    name: str

    def generate(self, descriptions: np.ndarray, samples: int, seed: int) -> Generated:
        """Adapters for [n, d] embeddings; a function of what was learnt, arguments and seed.

        Raises:
            GeneratorError: before it has learnt, for samples < 1, or for unusable descriptions.
        """
        ...

    def state(self) -> Mapping[str, np.ndarray]:
        """Arrays from which :meth:`restore` makes a generator that generates the same.

        Raises:
            GeneratorError: before it has learnt.
        """
        ...

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """The inverse of :meth:`state`.

        Raises:
            GeneratorError: when the arrays are not those of such a generator.
        """
        ...


@runtime_checkable
class FittedGenerator(Generator, Protocol):
    """Learns from a zoo: from the experts' descriptions and parameters."""

    def fit(self, zoo: Zoo, seed: int) -> None:
        """Learn from the experts; a function of the zoo and the seed."""
        ...


@runtime_checkable
class FederatedGenerator(Generator, Protocol):
    """Learns in federated rounds: from what the experts' local training changes.

    In each round some experts train, each from an adapter of its own; after every round, and
    before the first one, the generator can generate.
    """

    def begin(self, zoo: Zoo, layout: Layout, start: np.ndarray) -> None:
        """Before the first round.

        Args:
            zoo: the experts that take part.
            layout: of the adapters.
            start: [D] the adapter from which everybody starts.
        """
        ...

    def starts(self, rows: np.ndarray, descriptions: np.ndarray) -> np.ndarray:
        """Adapters from which experts train in the next round.

        Args:
            rows: [n] distinct experts, as rows of the zoo.
            descriptions: [n, d] unit embeddings of the wordings that they use in this round.

        Returns:
            [n, D] float32.

        Raises:
            GeneratorError: before :meth:`begin`, or for unusable descriptions.
        """
        ...

    def learn(self, rows: np.ndarray, updates: np.ndarray) -> int:
        """Take up a round. Who was asked and did not reply is not among the rows.

        Args:
            rows: [n] distinct experts, as rows of the zoo.
            updates: [n, D] what training changed: the adapter after it less the one before.

        Returns:
            How many updates were scaled down or not believed.

        Raises:
            GeneratorError: before :meth:`begin`.
        """
        ...


def is_federated(generator: Generator) -> TypeGuard[FederatedGenerator]:
    """Whether a generator is trained in federated rounds; one that could be fitted too is."""
    return isinstance(generator, FederatedGenerator)


ASKED = ("readings",)
"""Fields about how a generator is asked: what it has learnt is no function of them."""


def settings_of(generator: Generator) -> tuple[str, ...]:
    """The fields of its configuration that a generator is a function of.

    What is kept of a generator is made again when one of them changes. One that does not say is a
    function of all.

    Raises:
        GeneratorError: for a name that is no field.
    """
    known = tuple(one.name for one in fields(GeneratorConfig) if one.name not in ASKED)
    named: tuple[str, ...] = tuple(getattr(generator, "settings", known))
    if unknown := sorted(set(named) - set(known)):
        raise GeneratorError(f"settings of {generator.name} name {unknown}; there are {known}")
    return named


def check_request(descriptions: np.ndarray, dim: int, samples: int) -> np.ndarray:
    """Descriptions as [n, dim] float64.

    Raises:
        GeneratorError: for another shape, NaN, infinity, rows that are no unit vectors, or
            samples < 1.
    """
    if samples < 1:
        raise GeneratorError(f"samples={samples}; at least 1")
    if descriptions.ndim != 2 or descriptions.shape[1] != dim:
        raise GeneratorError(f"descriptions have shape {list(descriptions.shape)}; need [n, {dim}]")
    if off_unit(descriptions) is not None:
        raise GeneratorError("a description is no unit vector of finite numbers")
    return descriptions.astype(np.float64)


NEIGHBOURHOOD = ("neighbours", "temperature")
"""Settings that :func:`neighbourhood` depends on, and with it every generator that calls it."""


@dataclass(frozen=True)
class Neighbourhood:
    """The experts near some descriptions.

    Attributes:
        rows: [n, K] the nearest, the nearest first.
        weights: [n, K] theirs, rows sum to 1.
        similarity: [n] cosine of the nearest.
        entropy: [n] of the weights, in nats.
    """

    rows: np.ndarray
    weights: np.ndarray
    similarity: np.ndarray
    entropy: np.ndarray

    def dense(self, experts: int) -> np.ndarray:
        """[n, E] the weights of all experts."""
        made = np.zeros((len(self.rows), experts))
        np.put_along_axis(made, self.rows, self.weights, axis=1)
        return made


def neighbourhood(
    queries: np.ndarray, experts: np.ndarray | Search, config: GeneratorConfig
) -> Neighbourhood:
    """Weights and confidence of descriptions [n, d], which all generators compute alike.

    Args:
        queries: [n, d] unit rows.
        experts: [E, d] their embeddings; for many experts and many calls, a search to keep.
        config: K and temperature.
    """
    search = experts if isinstance(experts, Search) else Search(experts)
    near = search.nearest(queries, config.neighbours)
    weights = softmax(near.similarity, config.temperature)
    return Neighbourhood(near.rows, weights, near.similarity[:, 0], entropy(weights))


def repeat_samples(adapters: np.ndarray, samples: int) -> np.ndarray:
    """[n, D] to [n, samples, D] for generators without randomness."""
    return adapters[:, None] if samples == 1 else np.repeat(adapters[:, None], samples, axis=1)


def checked_state(
    name: str, state: Mapping[str, np.ndarray], axes: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """The arrays of a generator, if they are exactly those it needs and fit one another.

    Args:
        name: of the generator.
        state: array name -> array.
        axes: array name -> one letter for each axis; equal letters have equal sizes.

    Raises:
        GeneratorError: when an array is missing, unknown, or of another shape.
    """
    shapes = {key: list(array.shape) for key, array in state.items()}
    sizes: dict[str, int] = {}
    fits = shapes.keys() == axes.keys() and all(
        len(shapes[key]) == len(letters)
        and all(sizes.setdefault(a, n) == n for a, n in zip(letters, shapes[key], strict=True))
        for key, letters in axes.items()
    )
    if not fits:
        raise GeneratorError(f"{name} needs arrays with axes {dict(axes)}; found {shapes}")
    return dict(state)
