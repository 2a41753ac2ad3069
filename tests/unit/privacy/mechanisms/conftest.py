"""Exact probabilities of samplers that draw whole numbers, by going through all draws."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from fractions import Fraction
from types import ModuleType

import pytest

Pmf = dict[Hashable, Fraction]
Enumerate = Callable[[ModuleType, Callable[[], Hashable]], Pmf]


class UnfinishedError(Exception):
    """A draw was asked for beyond those that are prescribed."""


@pytest.fixture
def enumerated(monkeypatch: pytest.MonkeyPatch) -> Enumerate:
    """A function of (module, sampler) -> the probability of each thing that the sampler gives.

    The module's ``below`` is replaced by one that gives each of its values in turn; a path's
    probability is the product of one over its bounds.
    """

    def run(module: ModuleType, sampler: Callable[[], Hashable]) -> Pmf:
        pmf: Counter[Hashable] = Counter()
        for value, probability in _paths(module, sampler, monkeypatch):
            pmf[value] += probability
        return dict(pmf)

    return run


def _paths(
    module: ModuleType, sampler: Callable[[], Hashable], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Hashable, Fraction]]:
    open_paths: list[tuple[tuple[int, ...], Fraction]] = [((), Fraction(1))]
    while open_paths:
        path, probability = open_paths.pop()
        rest, bounds = list(path), list[int]()

        def below(bound: int, rest: list[int] = rest, bounds: list[int] = bounds) -> int:
            if not rest:
                bounds.append(bound)
                raise UnfinishedError
            return rest.pop(0)

        monkeypatch.setattr(module, "below", below)
        try:
            value = sampler()
        except UnfinishedError:
            (bound,) = bounds
            open_paths += [((*path, n), probability / bound) for n in range(bound)]
        else:
            assert not rest
            yield value, probability
