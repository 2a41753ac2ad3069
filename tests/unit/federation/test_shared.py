"""The shared LoRA: momentum, what a node's word weighs, and what liars can do to a mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from scipy.optimize import minimize

from sglora_fed.adapters.layout import Layout, ModuleShape
from sglora_fed.adapters.start import federation_start, norm_bound
from sglora_fed.config import compose
from sglora_fed.errors import RepliesError
from sglora_fed.federation.exchange import Federation
from sglora_fed.federation.inprocess import InProcessGrid
from sglora_fed.federation.roster import Roster
from sglora_fed.federation.shared import SharedReply, SharedRequest, robust_mean, train_shared
from sglora_fed.zoo import Zoo

MakeZoo = Callable[..., Zoo]
Answer = Callable[[SharedRequest], np.ndarray]
Make = Callable[..., Federation]

ROUNDS, PULL = 7, 0.3
LAYOUT = Layout((ModuleShape("query", 4, 3), ModuleShape("value", 4, 3)), 1, 1.0)
GOAL = np.linspace(-0.3, 0.3, LAYOUT.size)


def towards_goal(request: SharedRequest) -> np.ndarray:
    made: np.ndarray = request.start + PULL * (GOAL - request.start)
    return made


@pytest.fixture
def federation(enlisted: Callable[..., Roster]) -> Callable[..., Federation]:
    return partial(_federation, enlisted)


def _federation(
    enlisted: Callable[..., Roster], zoo: Zoo, answers: list[Answer], *overrides: str
) -> Federation:
    """Nodes that own every n-th expert, each with its own way to train."""
    app = ClientApp()

    @app.train("shared")
    def answer(message: Message, context: Context) -> Message:
        number = int(context.node_config["partition-id"])
        request = SharedRequest.parse(message.content, LAYOUT.size)
        reply = SharedReply(number, request.ids, answers[number](request))
        return Message(reply.pack(), reply_to=message)

    grid = InProcessGrid(app, len(answers), {})
    told = (f"federation.nodes={len(answers)}", f"federation.shared_rounds={ROUNDS}", *overrides)
    config = compose(told)
    nodes = tuple(grid.get_node_ids())
    roster = enlisted(config.federation, zoo.ids, nodes)
    return Federation(grid, nodes, config, LAYOUT, 6, 0, lambda _: lambda *_: None, roster)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_experts_of_a_quadratic_loss_give_the_solution_of_its_recurrence(
    make_zoo: MakeZoo, federation: Make, momentum: float
) -> None:
    """The distance e of the goal follows e(t+1) = (1 + m - a) e(t) - m e(t-1), in closed form."""
    zoo = make_zoo(experts=4, size=LAYOUT.size)
    of = federation(zoo, [towards_goal] * 2, f"federation.shared_momentum={momentum}")
    made, absent = train_shared(of, zoo)
    # The first step has no velocity: as if e(-1) = e(0).
    step = np.array([[1 + momentum - PULL, -momentum], [1.0, 0.0]])
    left = (np.linalg.matrix_power(step, ROUNDS) @ np.ones(2))[0]
    start = federation_start(LAYOUT, 0)[0]
    np.testing.assert_allclose(made, GOAL + left * (start - GOAL), atol=1e-5)
    assert absent == ()


def at_the_bound(request: SharedRequest) -> np.ndarray:
    made = np.zeros(LAYOUT.size)
    made[0] = norm_bound(LAYOUT) * 0.999
    return made


def test_momentum_does_not_carry_a_mean_beyond_what_clients_take(
    make_zoo: MakeZoo, federation: Make
) -> None:
    zoo = make_zoo(experts=2, size=LAYOUT.size)
    made, _ = train_shared(federation(zoo, [at_the_bound] * 2), zoo)
    assert norm_bound(LAYOUT) * 0.99 < np.linalg.norm(made) <= norm_bound(LAYOUT)


def test_a_node_counts_as_much_as_the_experts_that_it_enrolled(
    make_zoo: MakeZoo, federation: Make
) -> None:
    """One round without momentum, against the mean worked out from the zoo alone."""
    zoo = make_zoo(experts=5, size=LAYOUT.size)
    answers: list[Answer] = [
        lambda request: np.full(LAYOUT.size, 0.1),
        lambda request: np.full(LAYOUT.size, 0.4),
    ]
    for most in (10_000, 50):
        of = federation(
            zoo,
            answers,
            *("federation.shared_rounds=1", "federation.shared_momentum=0"),
            f"federation.examples_per_expert={most}",
        )
        weights = np.minimum(zoo.examples, most)
        share = weights[::2].sum() / weights.sum()
        np.testing.assert_allclose(train_shared(of, zoo)[0], 0.4 - 0.3 * share, rtol=1e-5)


def test_one_liar_of_five_changes_little(make_zoo: MakeZoo, federation: Make) -> None:
    zoo = make_zoo(experts=25, size=LAYOUT.size)
    of = federation(zoo, [towards_goal] * 4 + [at_the_bound])
    made, _ = train_shared(of, zoo)
    honest, _ = train_shared(federation(zoo, [towards_goal] * 5), zoo)
    assert np.linalg.norm(made - honest) < 0.01 * norm_bound(LAYOUT)


def test_a_liar_of_many_experts_and_examples_weighs_no_more_than_others(
    make_zoo: MakeZoo, federation: Make
) -> None:
    zoo = make_zoo(experts=25, size=LAYOUT.size)
    examples = zoo.examples.copy()
    examples[4::5] = 2**62
    rich = replace(zoo, examples=examples)
    made, _ = train_shared(federation(rich, [towards_goal] * 4 + [at_the_bound]), rich)
    honest, _ = train_shared(federation(zoo, [towards_goal] * 5), zoo)
    assert np.linalg.norm(made - honest) < 0.01 * norm_bound(LAYOUT)


def test_a_round_in_which_nobody_answers_is_passed_over(
    make_zoo: MakeZoo, federation: Make
) -> None:
    """One expert a round: sometimes that of the node which says nothing usable."""
    zoo = make_zoo(experts=5, size=LAYOUT.size)
    told = ("shared_rounds=20", "shared_clients=1", "min_replies=0.8")
    told = tuple(f"federation.{setting}" for setting in told)
    made, absent = train_shared(federation(zoo, [towards_goal] * 4 + [nobody], *told), zoo)
    assert absent == zoo.ids[4:]
    assert np.linalg.norm(made - GOAL) < np.linalg.norm(federation_start(LAYOUT, 0)[0] - GOAL)


def test_rounds_without_any_answer_are_an_error(make_zoo: MakeZoo, federation: Make) -> None:
    zoo = make_zoo(experts=1, size=LAYOUT.size)
    with pytest.raises(RepliesError, match="no expert replied in 7 rounds"):
        train_shared(federation(zoo, [nobody, nobody], "federation.min_replies=0.5"), zoo)


def test_without_liars_nothing_is_lost(make_zoo: MakeZoo, federation: Make) -> None:
    zoo = make_zoo(experts=25, size=LAYOUT.size)
    five, two = (federation(zoo, [towards_goal] * count) for count in (5, 2))
    np.testing.assert_allclose(train_shared(five, zoo)[0], train_shared(two, zoo)[0], atol=1e-6)


def test_the_geometric_median_is_that_of_an_optimiser() -> None:
    rng = np.random.default_rng(0)
    points, weights = rng.normal(size=(6, 3)), rng.uniform(1, 2, 6)
    capped = np.minimum(weights, sorted(weights)[2] / 2 + sorted(weights)[3] / 2)

    def cost(centre: np.ndarray) -> float:
        return float(capped @ np.linalg.norm(points - centre, axis=1))

    found = minimize(cost, points.mean(axis=0), method="BFGS", options={"gtol": 1e-8}).x
    np.testing.assert_allclose(robust_mean(points, weights), found, atol=1e-4)


def test_fewer_than_three_nodes_have_a_plain_mean() -> None:
    means, weights = np.array([[0.0, 1.0], [4.0, 3.0]]), np.array([1.0, 3.0])
    np.testing.assert_allclose(robust_mean(means, weights), [3.0, 2.5])


def nobody(request: SharedRequest) -> np.ndarray:
    return np.full(LAYOUT.size, np.nan)


def test_experts_that_are_asked_in_vain_are_named(make_zoo: MakeZoo, federation: Make) -> None:
    zoo = make_zoo(experts=4, size=LAYOUT.size)
    of = federation(zoo, [towards_goal, nobody], "federation.min_replies=0.5")
    assert train_shared(of, zoo)[1] == zoo.ids[1::2]
