"""Merges against loops over experts."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sglora_fed.config.schema import GeneratorConfig
from sglora_fed.errors import GeneratorError
from sglora_fed.generators.merges import Merge
from sglora_fed.zoo import Zoo

MakeZoo = Callable[..., Zoo]
Settings = Callable[..., GeneratorConfig]
Descriptions = Callable[..., np.ndarray]
NAMES = ("soup", "nearest", "adapter_soup", "topk")


def fitted(name: str, config: GeneratorConfig, zoo: Zoo) -> Merge:
    generator = Merge(name, config)
    generator.fit(zoo, seed=0)
    return generator


def by_hand(query: np.ndarray, zoo: Zoo, neighbours: int, temperature: float) -> dict[int, float]:
    """Weights of the nearest experts of one description."""
    cosines = {
        row: math.fsum(float(a) * float(b) for a, b in zip(query, other, strict=True))
        for row, other in enumerate(zoo.embeddings)
    }
    near = sorted(cosines, key=lambda row: -cosines[row])[:neighbours]
    parts = {row: math.exp(cosines[row] / temperature) for row in near}
    return {row: part / math.fsum(parts.values()) for row, part in parts.items()}


@given(
    experts=st.integers(1, 7),
    neighbours=st.integers(1, 9),
    temperature=st.floats(0.02, 5),
    seed=st.integers(0, 10**6),
)
def test_topk_is_the_weighted_sum_over_the_nearest(
    make_zoo: MakeZoo,
    settings: Settings,
    descriptions: Descriptions,
    experts: int,
    neighbours: int,
    temperature: float,
    seed: int,
) -> None:
    zoo, queries = make_zoo(experts, seed=seed), descriptions(seed=seed + 1)
    config = settings(neighbours=neighbours, temperature=temperature)
    found = fitted("topk", config, zoo).generate(queries, samples=1, seed=0)
    assert found.adapters.shape == (4, 1, 11)
    for row, query in enumerate(queries):
        weights = by_hand(query, zoo, neighbours, temperature)
        wanted = np.zeros(11)
        for expert, weight in weights.items():
            wanted += weight * zoo.means[expert].astype(np.float64)
        np.testing.assert_allclose(found.adapters[row, 0], wanted, rtol=1e-5, atol=1e-5)
        nearest = max(math.fsum(query.astype(float) * e.astype(float)) for e in zoo.embeddings)
        assert found.similarity[row] == pytest.approx(nearest, abs=1e-9)
        assert found.entropy[row] == pytest.approx(stats.entropy(list(weights.values())), abs=1e-9)


def test_nearest_is_the_expert_with_the_largest_cosine(
    make_zoo: MakeZoo, settings: Settings, descriptions: Descriptions
) -> None:
    zoo, queries = make_zoo(20), descriptions(50)
    found = fitted("nearest", settings(), zoo).generate(queries, 1, 0).adapters[:, 0]
    chosen = set()
    for row, query in enumerate(queries):
        closest = min(range(20), key=lambda e: float(((query - zoo.embeddings[e]) ** 2).sum()))
        np.testing.assert_array_equal(found[row], zoo.means[closest])
        chosen.add(closest)
    assert len(chosen) > 5


def test_nearest_is_topk_with_one_neighbour(
    make_zoo: MakeZoo, settings: Settings, descriptions: Descriptions
) -> None:
    zoo, queries = make_zoo(20), descriptions(50)
    nearest = fitted("nearest", settings(neighbours=4), zoo).generate(queries, 1, 0)
    single = fitted("topk", settings(neighbours=1), zoo).generate(queries, 1, 0)
    np.testing.assert_array_equal(nearest.adapters, single.adapters)
    np.testing.assert_array_equal(single.entropy, 0)


def test_soup_is_the_mean_whatever_is_asked(
    make_zoo: MakeZoo, settings: Settings, descriptions: Descriptions
) -> None:
    zoo, queries = make_zoo(6), descriptions(3)
    found = fitted("soup", settings(), zoo).generate(queries, 1, 0).adapters
    wanted = [math.fsum(float(m) for m in zoo.means[:, d]) / 6 for d in range(11)]
    for row in found[:, 0]:
        np.testing.assert_allclose(row, wanted, rtol=1e-5, atol=1e-6)


@given(experts=st.integers(1, 7), neighbours=st.integers(1, 9), seed=st.integers(0, 10**6))
def test_adapter_soup_is_the_mean_of_the_nearest(
    make_zoo: MakeZoo,
    settings: Settings,
    descriptions: Descriptions,
    experts: int,
    neighbours: int,
    seed: int,
) -> None:
    zoo, queries = make_zoo(experts, seed=seed), descriptions(seed=seed + 1)
    # At so low a temperature the softmax weights of all but one round to nothing.
    config = settings(neighbours=neighbours, temperature=1e-6)
    found = fitted("adapter_soup", config, zoo).generate(queries, 1, 0).adapters[:, 0]
    for row, query in enumerate(queries):
        near = list(by_hand(query, zoo, neighbours, 1.0))
        wanted = [math.fsum(float(zoo.means[e, d]) for e in near) / len(near) for d in range(11)]
        np.testing.assert_allclose(found[row], wanted, rtol=1e-5, atol=1e-5)


def test_topk_goes_from_nearest_to_soup_with_the_temperature(
    make_zoo: MakeZoo, settings: Settings, descriptions: Descriptions
) -> None:
    zoo, queries = make_zoo(6), descriptions(3)

    def made(name: str, temperature: float) -> np.ndarray:
        config = settings(neighbours=6, temperature=temperature)
        return fitted(name, config, zoo).generate(queries, 1, 0).adapters

    np.testing.assert_allclose(made("topk", 1e-6), made("nearest", 1.0), atol=1e-6)
    np.testing.assert_allclose(made("topk", 1e6), made("soup", 1.0), atol=1e-5)
    np.testing.assert_allclose(made("adapter_soup", 1.0), made("soup", 1.0), atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_an_experts_own_description_alone(make_zoo: MakeZoo, settings: Settings, name: str) -> None:
    zoo = make_zoo(1)
    found = fitted(name, settings(), zoo).generate(zoo.embeddings, 1, 0)
    np.testing.assert_allclose(found.adapters[0], zoo.means, rtol=1e-6)
    assert found.similarity[0] == pytest.approx(1, abs=1e-6)
    assert found.entropy[0] == 0


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_equal_and_single_precision(
    make_zoo: MakeZoo, settings: Settings, descriptions: Descriptions, name: str
) -> None:
    found = fitted(name, settings(), make_zoo()).generate(descriptions(), 3, seed=9).adapters
    assert found.shape == (4, 3, 11)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:, 0], found[:, 2])


@pytest.mark.parametrize("name", NAMES)
def test_unfitted(settings: Settings, descriptions: Descriptions, name: str) -> None:
    generator = Merge(name, settings())
    with pytest.raises(GeneratorError, match=f"SGL-600.*{name} has not been fitted"):
        generator.generate(descriptions(), 1, 0)
    with pytest.raises(GeneratorError, match="not been fitted"):
        generator.state()
