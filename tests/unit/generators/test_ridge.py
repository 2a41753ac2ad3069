"""Ridge regression against other ways to the same minimum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from sglora_fed.config.schema import GeneratorConfig
from sglora_fed.errors import GeneratorError
from sglora_fed.generators.ridge import Ridge
from sglora_fed.zoo import Zoo

MakeZoo = Callable[..., Zoo]
Settings = Callable[..., GeneratorConfig]
Descriptions = Callable[..., np.ndarray]


def generated(zoo: Zoo, queries: np.ndarray, penalty: float, settings: Settings) -> np.ndarray:
    generator = Ridge(settings(ridge=penalty))
    generator.fit(zoo, seed=0)
    return generator.generate(queries, samples=1, seed=0).adapters[:, 0]


def by_least_squares(zoo: Zoo, queries: np.ndarray, penalty: float) -> np.ndarray:
    """The primal problem as plain least squares: one more row per coefficient, sqrt(p) e_i -> 0.

    The documented penalty is in units of the mean squared norm of the centred embeddings.
    """
    inputs, outputs = zoo.embeddings.astype(np.float64), zoo.means.astype(np.float64)
    centre, mean = inputs.mean(axis=0), outputs.mean(axis=0)
    unit = np.mean([np.dot(row, row) for row in inputs - centre]) if len(inputs) > 1 else 1.0
    dim = inputs.shape[1]
    rows = np.vstack([inputs - centre, np.sqrt(penalty * unit) * np.eye(dim)])
    wanted = np.vstack([outputs - mean, np.zeros((dim, outputs.shape[1]))])
    weights, *_ = np.linalg.lstsq(rows, wanted, rcond=None)
    return mean + (queries - centre) @ weights


@given(
    experts=st.integers(2, 12),
    dim=st.integers(2, 9),
    penalty=st.floats(1e-3, 100),
    seed=st.integers(0, 10**6),
)
def test_it_is_the_primal_least_squares_solution(
    make_zoo: MakeZoo,
    settings: Settings,
    descriptions: Descriptions,
    experts: int,
    dim: int,
    penalty: float,
    seed: int,
) -> None:
    zoo, queries = make_zoo(experts, dim, seed=seed), descriptions(3, dim, seed + 1)
    wanted = by_least_squares(zoo, queries, penalty)
    np.testing.assert_allclose(generated(zoo, queries, penalty, settings), wanted, atol=2e-3)


@pytest.mark.parametrize("wordings", [1, 2])
def test_it_minimises_the_penalised_error(
    make_zoo: MakeZoo, settings: Settings, wordings: int
) -> None:
    """A general optimiser over weights and offset, with the offset free of any penalty."""
    zoo = make_zoo(8, dim=3, size=1, seed=4, wordings=wordings)
    texts, outputs = zoo.wordings.astype(np.float64), zoo.means[:, 0].astype(np.float64)
    unit = ((texts - texts.mean(axis=(0, 1))) ** 2).sum() / (8 * wordings)

    def loss(values: np.ndarray) -> float:
        errors = texts @ values[:3] + values[3] - outputs[:, None]
        fit = sum(float(np.mean(row**2)) for row in errors)
        return float(fit + 0.3 * unit * values[:3] @ values[:3])

    best = minimize(loss, np.zeros(4), tol=1e-12).x
    found = generated(zoo, texts[:, 0], 0.3, settings)[:, 0]
    np.testing.assert_allclose(found, texts[:, 0] @ best[:3] + best[3], atol=1e-4)


def test_it_recovers_a_linear_map(make_zoo: MakeZoo, settings: Settings) -> None:
    """Adapters planted as a linear function of the description come back for new ones."""
    zoo, unseen = make_zoo(40, dim=6, seed=1), make_zoo(5, dim=6, seed=2)
    planted, offset = np.random.default_rng(3).normal(size=(6, 11)), np.arange(11.0)
    zoo = replace(zoo, means=(zoo.embeddings @ planted + offset).astype(np.float32))
    found = generated(zoo, unseen.embeddings, 1e-6, settings)
    np.testing.assert_allclose(found, unseen.embeddings @ planted + offset, atol=1e-3)


def test_penalties_from_interpolation_to_the_mean(make_zoo: MakeZoo, settings: Settings) -> None:
    zoo = make_zoo(5, dim=8)
    exact = generated(zoo, zoo.embeddings, 1e-7, settings)
    np.testing.assert_allclose(exact, zoo.means, atol=1e-3)
    flat = generated(zoo, zoo.embeddings, 1e9, settings)
    np.testing.assert_allclose(flat, np.broadcast_to(zoo.means.mean(axis=0), (5, 11)), atol=1e-5)


def test_the_penalty_does_not_depend_on_how_alike_descriptions_are(
    make_zoo: MakeZoo, settings: Settings
) -> None:
    """Real embeddings share a large common part; adding one must not change what is learnt."""
    zoo = make_zoo(6, dim=4, seed=5)

    def seen_through(common: float) -> np.ndarray:
        rows = np.hstack([zoo.embeddings, np.full((6, 1), common)])
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        near = replace(zoo, wordings=rows.astype(np.float32)[:, None])
        return generated(near, near.embeddings, 0.05, settings)

    np.testing.assert_allclose(seen_through(1.0), seen_through(5.0), atol=1e-3)


def test_equal_descriptions_give_the_mean(make_zoo: MakeZoo, settings: Settings) -> None:
    zoo = make_zoo(4)
    same = replace(zoo, wordings=np.repeat(zoo.wordings[:1], 4, axis=0))
    found = generated(same, same.embeddings[:1], 0.03, settings)
    np.testing.assert_allclose(found[0], zoo.means.mean(axis=0), atol=1e-5)


def test_a_wording_sent_twice_counts_once(make_zoo: MakeZoo, settings: Settings) -> None:
    zoo = make_zoo(6, dim=4)
    again = replace(zoo, wordings=np.repeat(zoo.wordings, 3, axis=1))
    once = generated(zoo, zoo.embeddings, 0.1, settings)
    np.testing.assert_allclose(generated(again, zoo.embeddings, 0.1, settings), once, atol=1e-5)


def test_rows_do_not_influence_one_another(
    make_zoo: MakeZoo, settings: Settings, descriptions: Descriptions
) -> None:
    zoo, queries = make_zoo(), descriptions(5)
    together = generated(zoo, queries, 0.1, settings)
    alone = [generated(zoo, queries[i : i + 1], 0.1, settings)[0] for i in range(5)]
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_unfitted(settings: Settings, descriptions: Descriptions) -> None:
    generator = Ridge(settings())
    with pytest.raises(GeneratorError, match=r"SGL-600.*ridge has not been fitted"):
        generator.generate(descriptions(), 1, 0)
    with pytest.raises(GeneratorError, match="not been fitted"):
        generator.state()
