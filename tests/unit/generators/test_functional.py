"""The functional generator against closed forms, dense arithmetic and a planted law."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sglora_fed.adapters.layout import Layout, ModuleShape
from sglora_fed.config.schema import GeneratorConfig
from sglora_fed.errors import GeneratorError
from sglora_fed.generators import FederatedGenerator, boosting, fit_generator
from sglora_fed.generators.boosting import (
    MEMORY,
    Training,
    advance,
    begun,
    boosted,
    predicted,
    smoothed,
)
from sglora_fed.generators.functional import CLIP, Functional, clipped
from sglora_fed.generators.linear import LinearGenerator
from sglora_fed.generators.ridge import Ridge
from sglora_fed.zoo import Zoo

MakeZoo = Callable[..., Zoo]
Settings = Callable[..., GeneratorConfig]
Descriptions = Callable[..., np.ndarray]


LAYOUT = Layout((ModuleShape("one", 8, 40),), 2, 4.0)


def dense(at: Training) -> np.ndarray:
    return at.coordinates(np.arange(len(at.zoo.ids)))


def first(zoo: Zoo, start: np.ndarray | None = None, penalty: float = 0.1) -> Training:
    return begun(zoo, LAYOUT, penalty, np.zeros(zoo.size) if start is None else start)


def added(at: Training, updates: np.ndarray) -> Training:
    """Everybody took part and is believed."""
    rows = np.arange(len(updates))
    return replace(at, factors=advance(at, rows, updates, np.ones(len(rows), bool)))


def cut(at: Training) -> Training:
    return replace(at, factors=predicted(at, np.arange(len(at.zoo.ids))))


def left(rows: np.ndarray) -> np.ndarray:
    """What is left of all experts' coordinates a round later."""
    mean = rows.mean(axis=0)
    made: np.ndarray = mean + MEMORY * (rows - mean)
    return made


def quadratic_rounds(
    zoo: Zoo,
    targets: np.ndarray,
    rate: float,
    rounds: int,
    kept: Callable[[Training], Training] = lambda at: at,
) -> Training:
    """Every expert's loss is |v - target|^2 / 2 and it takes one gradient step a round."""
    at = first(zoo)
    for _ in range(rounds):
        generated = smoothed(at).adapters(zoo.wordings[:, 0])
        at = kept(added(at, rate * (targets - generated)))
    return at


@given(rounds=st.integers(1, 4), seed=st.integers(0, 10**6))
def test_rounds_equal_dense_additions(make_zoo: MakeZoo, rounds: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    at = first(make_zoo(6), np.ones(11))
    wanted = np.ones((6, 11))
    for _ in range(rounds):
        updates = rng.normal(size=(6, 11))
        at = added(at, updates)
        wanted = left(wanted) + updates
    np.testing.assert_allclose(dense(at), wanted, atol=1e-4)
    basis, scores = at.factors.basis, at.scores(np.arange(6))
    np.testing.assert_allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-4)
    np.testing.assert_allclose(scores.sum(axis=0), 0, atol=1e-9)
    assert (np.diff((scores**2).sum(axis=0)) <= 1e-9).all()


@pytest.mark.parametrize("count", [1, 5, 12])
def test_who_takes_no_part_gets_what_ridge_makes_of_the_others(
    make_zoo: MakeZoo, settings: Settings, count: int
) -> None:
    zoo, rng = make_zoo(12, 6, seed=1, wordings=3), np.random.default_rng(count)
    rows = rng.choice(12, count, replace=False)
    updates = rng.normal(size=(count, zoo.size))
    ridge = Ridge(settings(ridge=0.3))
    ridge.fit(replace(zoo.select(rows), means=updates.astype(np.float32)), 0)
    wanted = ridge.generate(zoo.embeddings, 1, 0).adapters[:, 0]
    wanted[rows] = updates
    at = first(zoo, penalty=0.3)
    moved = replace(at, factors=advance(at, rows, updates, np.ones(count, bool)))
    np.testing.assert_allclose(dense(moved), wanted, atol=1e-4)


Step = Callable[[Training, np.ndarray, np.ndarray], tuple[Training, np.ndarray]]


def sampled_rounds(zoo: Zoo, targets: np.ndarray, step: Step) -> LinearGenerator:
    """A third of the experts takes part in each of six rounds."""
    rng, at = np.random.default_rng(7), first(zoo)
    for _ in range(6):
        rows = rng.choice(len(zoo.ids), len(zoo.ids) // 3, replace=False)
        generated = smoothed(at).adapters(zoo.wordings[rows, 0])
        at, _ = step(at, rows, 0.7 * (targets[rows] - generated))
    return smoothed(at)


def left_behind(at: Training, rows: np.ndarray, updates: np.ndarray) -> tuple[Training, np.ndarray]:
    """Who takes no part stays where it is."""
    every = np.zeros((len(at.zoo.ids), at.zoo.size))
    every[rows] = updates
    return cut(added(at, every)), np.ones(len(rows), bool)


def test_a_law_is_found_when_few_experts_take_part_in_a_round(
    make_zoo: MakeZoo, descriptions: Descriptions
) -> None:
    rng, dim = np.random.default_rng(7), 6
    zoo = make_zoo(60, dim, LAYOUT.size, seed=11)
    law = rng.normal(size=(dim, 2)) @ rng.normal(size=(2, zoo.size))
    targets = zoo.wordings[:, 0] @ law + 0.3 * rng.normal(size=(60, zoo.size))
    fresh = descriptions(20, dim, seed=12)
    wanted = fresh @ law
    errors = [
        ((sampled_rounds(zoo, targets, step).adapters(fresh) - wanted) ** 2).sum()
        for step in (boosted, left_behind)
    ]
    assert errors[0] < 0.08 * (wanted**2).sum()
    assert errors[0] < 0.8 * errors[1]


def test_noise_of_some_experts_gives_no_direction_to_those_who_wait(make_zoo: MakeZoo) -> None:
    """What was filled in is predicted by construction, so it must not judge the directions."""
    zoo, rng = make_zoo(60, 32, LAYOUT.size, seed=3, wordings=6), np.random.default_rng(4)
    rows = rng.choice(60, 20, replace=False)
    made, _ = boosted(first(zoo, penalty=0.3), rows, rng.normal(size=(20, zoo.size)))
    assert len(made.factors.basis) <= 5


def test_one_expert_in_a_round_cuts_nothing(make_zoo: MakeZoo) -> None:
    zoo, rng = make_zoo(9, 6, LAYOUT.size, seed=2), np.random.default_rng(5)
    every = added(first(zoo, penalty=0.3), zoo.embeddings @ rng.normal(size=(6, 96)))
    made, _ = boosted(every, np.array([4]), np.zeros((1, zoo.size)))
    np.testing.assert_allclose(dense(made), left(dense(every)), atol=1e-4)


def test_poison_does_not_spread_to_those_who_wait(make_zoo: MakeZoo) -> None:
    rng = np.random.default_rng(8)
    zoo = make_zoo(64, 12, LAYOUT.size, seed=6, wordings=3)
    start = np.concatenate([5 * rng.normal(size=16), np.zeros(80)]).astype(np.float32)
    law = np.hstack([np.zeros((12, 16)), rng.normal(size=(12, 80))])
    rows = rng.choice(64, 40, replace=False)
    waiting = np.setdiff1d(np.arange(64), rows)
    updates = zoo.embeddings[rows] @ law
    poisoned = updates.copy()
    poisoned[[2, 11, 30]] *= -3
    clean, spoilt = (
        dense(boosted(first(zoo, start), rows, some)[0])[waiting] for some in (updates, poisoned)
    )
    moved = clean - start
    assert ((spoilt - clean) ** 2).sum() < 0.1 * (moved**2).sum()


def test_directions_stay_when_the_other_experts_tell_them_better_than_their_mean(
    make_zoo: MakeZoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a ridge regression for each expert, without it, written out."""
    zoo, penalty = make_zoo(30, 8, seed=4, wordings=3), 0.2
    rng = np.random.default_rng(5)
    law = zoo.wordings.mean(axis=1) @ rng.normal(size=(8, 3)) @ rng.normal(size=(3, zoo.size))
    updates = 3 * law + rng.normal(size=law.shape)
    at = added(first(zoo, penalty=penalty), updates)
    scores = at.scores(np.arange(30))
    inputs = zoo.wordings.astype(np.float64)
    centred = inputs - inputs.mean(axis=(0, 1))
    scale = (centred**2).sum(axis=2).mean()
    ridge = penalty * inputs.shape[1] * scale * np.eye(inputs.shape[2])
    errors = np.empty(scores.shape)
    for expert in range(30):
        others = np.delete(np.arange(30), expert)
        x = centred[others].reshape(-1, inputs.shape[2])
        y = np.repeat(scores[others], inputs.shape[1], axis=0)
        told = centred[expert] @ np.linalg.solve(x.T @ x + ridge, x.T @ y)
        errors[expert] = ((told - scores[expert]) ** 2).mean(axis=0)
    wanted = errors.sum(axis=0) < (scores**2).sum(axis=0)
    assert 2 < wanted.sum() < len(wanted)
    np.testing.assert_array_equal(cut(at).factors.basis, at.factors.basis[wanted])
    monkeypatch.setattr(boosting, "MOST_DIRECTIONS", 2)
    np.testing.assert_array_equal(cut(at).factors.basis, at.factors.basis[wanted][:2])


def test_what_no_description_tells_leaves_one_adapter_for_all(make_zoo: MakeZoo) -> None:
    zoo = make_zoo(4, 6)
    alike = replace(zoo, wordings=np.broadcast_to(zoo.wordings[:1], zoo.wordings.shape))
    updates = np.random.default_rng(3).normal(size=(4, zoo.size))
    made = smoothed(cut(added(first(alike), updates))).adapters(zoo.embeddings)
    np.testing.assert_allclose(made, np.tile(updates.mean(axis=0), (4, 1)), atol=1e-5)


def test_without_directions_a_round_is_fedavg(make_zoo: MakeZoo) -> None:
    """Equal updates move everybody alike, as the mean of FedAvg does."""
    zoo = make_zoo(5, 6)
    update = np.random.default_rng(1).normal(size=zoo.size)
    made = smoothed(added(first(zoo), np.tile(update, (5, 1)))).adapters(zoo.wordings[:, 0])
    np.testing.assert_allclose(made, np.tile(update, (5, 1)), atol=1e-5)


def test_it_smooths_coordinates_as_ridge_smooths_parameters(
    make_zoo: MakeZoo, settings: Settings, descriptions: Descriptions
) -> None:
    zoo, queries = make_zoo(7, 6, seed=3), descriptions(4, 6)
    at = added(first(zoo, penalty=0.3), zoo.means.astype(np.float64))
    ridge = Ridge(settings(ridge=0.3))
    ridge.fit(zoo, 0)
    np.testing.assert_allclose(
        smoothed(at).adapters(queries),
        ridge.generate(queries, 1, 0).adapters[:, 0],
        atol=1e-4,
    )


def test_rounds_on_quadratic_losses_have_their_closed_form(make_zoo: MakeZoo) -> None:
    """Coordinates C start at zero: C <- (memory (I - J) + J) C + r (targets - S C).

    S is the smoother, r the rate, J takes the mean, and the generated rows are S C. S is read off
    unit updates, one expert after the other, so no formula of the code is used.
    """
    zoo, rate, rounds = make_zoo(6, 8, seed=5), 0.5, 4
    targets = np.random.default_rng(2).normal(size=(6, zoo.size))
    smoother = np.empty((6, 6))
    for expert in range(6):
        unit = np.zeros((6, zoo.size))
        unit[expert, 0] = 1
        smoother[:, expert] = smoothed(added(first(zoo), unit)).adapters(zoo.wordings[:, 0])[:, 0]
    step = MEMORY * np.eye(6) + (1 - MEMORY) / 6 - rate * smoother
    summed = sum(np.linalg.matrix_power(step, number) for number in range(rounds))
    made = smoothed(quadratic_rounds(zoo, targets, rate, rounds)).adapters(zoo.wordings[:, 0])
    np.testing.assert_allclose(made, rate * smoother @ summed @ targets, atol=1e-4)


def test_a_planted_linear_law_is_found_for_descriptions_nobody_had(
    make_zoo: MakeZoo, descriptions: Descriptions
) -> None:
    """Targets are a rank-2 law of the description plus noise of each expert's own."""
    rng, dim = np.random.default_rng(7), 6
    zoo = make_zoo(40, dim, seed=11)
    law = rng.normal(size=(dim, 2)) @ rng.normal(size=(2, zoo.size))
    noise = 0.3 * rng.normal(size=(40, zoo.size))
    at = quadratic_rounds(zoo, zoo.wordings[:, 0] @ law + noise, 0.7, 30, cut)
    fresh = descriptions(20, dim, seed=12)
    error = smoothed(at).adapters(fresh) - fresh @ law
    explained = 1 - (error**2).sum() / ((fresh @ law) ** 2).sum()
    assert explained > 0.9
    assert len(at.factors.basis) == 2  # of the 11 that the noise of 40 experts spans here


def test_poison_does_not_hide_what_the_others_learnt(
    make_zoo: MakeZoo, descriptions: Descriptions
) -> None:
    """Some experts return the opposite at three times the length, the most that clipping lets by.

    Without poison 0.79 of the law is found; cutting before screening leaves 0.54, neither 0.66.
    """
    rng, poisoned = np.random.default_rng(8), [3, 17, 40]
    zoo = make_zoo(64, 12, LAYOUT.size, seed=6, wordings=3)
    start = np.concatenate([5 * rng.normal(size=16), np.zeros(80)]).astype(np.float32)
    law = np.hstack([np.zeros((12, 16)), rng.normal(size=(12, 80))])
    updates = zoo.embeddings @ law
    updates[poisoned] *= -3
    fresh = descriptions(20, 12, seed=9)
    at, sound = boosted(first(zoo, start), np.arange(64), updates)
    np.testing.assert_array_equal(np.flatnonzero(~sound), poisoned)
    made = smoothed(at).adapters(fresh)
    told = made - made.mean(axis=0)
    wanted = fresh @ law - (fresh @ law).mean(axis=0)
    assert 1 - ((told - wanted) ** 2).sum() / (wanted**2).sum() > 0.75


def test_long_updates_are_scaled_down_to_the_bound() -> None:
    updates = np.ones((5, 4))
    updates[3] *= 1000
    made, scaled = clipped(updates, np.full(5, 0.2))
    np.testing.assert_array_equal(scaled, [False, False, False, True, False])
    np.testing.assert_allclose(np.linalg.norm(made[3]), CLIP * 2.0)
    np.testing.assert_array_equal(made[[0, 1, 2, 4]], updates[[0, 1, 2, 4]])


def test_a_node_of_many_experts_does_not_say_how_long_updates_are(
    make_zoo: MakeZoo, settings: Settings
) -> None:
    """Six of nine updates are of one node: by a vote of experts the three others were the short."""
    zoo, rows = make_zoo(9, 6, LAYOUT.size), np.arange(9)
    zoo = replace(zoo, owners=("one", "two", "three", *["many"] * 6))
    generator = Functional(settings())
    generator.begin(zoo, LAYOUT, np.zeros(zoo.size, np.float32))
    updates = np.random.default_rng(0).normal(size=(9, zoo.size))
    updates[3:] *= 100
    assert generator.learn(rows, updates) == 6


def test_before_it_has_learnt(make_zoo: MakeZoo, settings: Settings) -> None:
    untrained = Functional(settings())
    with pytest.raises(GeneratorError, match="simulate"):
        fit_generator(settings(), "functional", make_zoo(3, 4), 0)
    with pytest.raises(GeneratorError, match="trained"):
        untrained.generate(np.eye(4, dtype=np.float32), 1, 0)
    with pytest.raises(GeneratorError, match="trained"):
        untrained.starts(np.arange(4), np.eye(4, dtype=np.float32))
    with pytest.raises(GeneratorError, match="begin first"):
        untrained.learn(np.arange(1), np.zeros((1, 11)))


def test_everybody_starts_at_the_start(make_zoo: MakeZoo, settings: Settings) -> None:
    zoo, start = make_zoo(5, 6, LAYOUT.size), np.arange(LAYOUT.size, dtype=np.float32)
    generator = Functional(settings())
    generator.begin(zoo, LAYOUT, start)
    rows = np.array([3, 0])
    starts = generator.starts(rows, zoo.wordings[rows, 0])
    assert starts.dtype == np.float32
    np.testing.assert_array_equal(starts, np.tile(start, (2, 1)))


def rounds_by_protocol(
    generator: FederatedGenerator, zoo: Zoo, targets: np.ndarray, rounds: int
) -> None:
    """As in :func:`sampled_rounds`, by the three methods alone."""
    rng = np.random.default_rng(7)
    generator.begin(zoo, LAYOUT, np.zeros(zoo.size, np.float32))
    for _ in range(rounds):
        rows = rng.choice(len(zoo.ids), len(zoo.ids) // 3, replace=False)
        starts = generator.starts(rows, zoo.wordings[rows, 0])
        generator.learn(rows, 0.7 * (targets[rows] - starts))


def test_the_rounds_by_protocol_are_those_of_the_functions(
    make_zoo: MakeZoo, settings: Settings, descriptions: Descriptions
) -> None:
    zoo, fresh = make_zoo(60, 6, LAYOUT.size, seed=11), descriptions(20, 6, seed=12)
    targets = zoo.wordings[:, 0] @ np.random.default_rng(7).normal(size=(6, zoo.size))
    generator = Functional(settings(smoothing=0.1))
    rounds_by_protocol(generator, zoo, targets, 6)
    wanted = sampled_rounds(zoo, targets, boosted).adapters(fresh)
    made = generator.generate(fresh, 2, 0).adapters
    np.testing.assert_allclose(made[:, 0], wanted, atol=1e-5)
    np.testing.assert_array_equal(made[:, 0], made[:, 1])


def test_a_round_counts_whom_it_doubted(make_zoo: MakeZoo, settings: Settings) -> None:
    """One that is too long and one that says the opposite; who is both counts once."""
    rng = np.random.default_rng(8)
    zoo = make_zoo(64, 12, LAYOUT.size, seed=6, wordings=3)
    start = np.concatenate([5 * rng.normal(size=16), np.zeros(80)]).astype(np.float32)
    updates = zoo.embeddings @ np.hstack([np.zeros((12, 16)), rng.normal(size=(12, 80))])
    for factors, wanted in (({}, 0), ({3: -2}, 1), ({3: -2, 17: 9}, 2), ({3: -9}, 1)):
        generator, sent = Functional(settings()), updates.copy()
        generator.begin(zoo, LAYOUT, start)
        for row, factor in factors.items():
            sent[row] *= factor
        assert generator.learn(np.arange(64), sent) == wanted


def test_it_comes_back_from_its_state_and_no_other(
    make_zoo: MakeZoo, settings: Settings, descriptions: Descriptions
) -> None:
    zoo, queries = make_zoo(12, 6, LAYOUT.size), descriptions(3, 6)
    trained, second = Functional(settings()), Functional(settings())
    rounds_by_protocol(trained, zoo, zoo.means, 2)
    second.restore(trained.state())
    made = trained.generate(queries, 2, 0)
    np.testing.assert_array_equal(made.adapters, second.generate(queries, 2, 0).adapters)
    with pytest.raises(GeneratorError, match="axes"):
        second.restore({**trained.state(), "basis": np.zeros((2, zoo.size + 1), np.float32)})


def test_generated_adapters_are_single_precision(descriptions: Descriptions) -> None:
    linear = LinearGenerator(
        np.zeros(6), np.zeros((6, 0)), np.zeros((0, 9), np.float32), np.ones(9, np.float32)
    )
    made = linear.adapters(descriptions(3, 6))
    assert made.dtype == np.float32
    np.testing.assert_array_equal(made, np.ones((3, 9), np.float32))
