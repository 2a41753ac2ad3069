"""Rounds of any generator that learns in the federation."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from sglora_fed.adapters.layout import Layout, ModuleShape, check_vectors
from sglora_fed.adapters.start import norm_bound
from sglora_fed.config import compose
from sglora_fed.config.schema import FederationConfig, GeneratorConfig
from sglora_fed.errors import RepliesError
from sglora_fed.federation.exchange import Federation
from sglora_fed.federation.inprocess import InProcessGrid
from sglora_fed.federation.roster import Roster
from sglora_fed.federation.rounds import (
    LAST_RATE,
    RoundReply,
    RoundRequest,
    rate_of_round,
    train_in_rounds,
)
from sglora_fed.generators.functional import Functional
from sglora_fed.zoo import Zoo


@pytest.mark.parametrize("rounds", [2, 5, 12])
def test_the_learning_rate_falls_evenly_to_its_share_in_the_last_round(rounds: int) -> None:
    config = FederationConfig(generator_rounds=rounds)
    rates = [rate_of_round(number, config) for number in range(1, rounds + 1)]
    assert rates[0] == 1
    assert rates[-1] == pytest.approx(LAST_RATE)
    steps = [before - after for before, after in pairwise(rates)]
    assert steps == pytest.approx([(1 - LAST_RATE) / (rounds - 1)] * (rounds - 1))


def test_one_round_has_the_whole_rate() -> None:
    assert rate_of_round(1, FederationConfig(generator_rounds=1)) == 1


LAYOUT = Layout((ModuleShape("query", 4, 3), ModuleShape("value", 4, 3)), 1, 1.0)
LIAR = 4


class Noting(Functional):
    """Notes whose updates it gets; everybody starts where it is told."""

    def __init__(self, start: float) -> None:
        super().__init__(GeneratorConfig())
        self._start, self.learnt = start, list[tuple[int, ...]]()

    def begin(self, zoo: Zoo, layout: Layout, start: np.ndarray) -> None:
        pass

    def starts(self, rows: np.ndarray, descriptions: np.ndarray) -> np.ndarray:
        return np.full((len(rows), LAYOUT.size), self._start, np.float32)

    def learn(self, rows: np.ndarray, updates: np.ndarray) -> int:
        self.learnt.append(tuple(rows))
        return 0


def rounds(
    enlisted: Callable[..., Roster], zoo: Zoo, generator: Any, nodes: int = 5, silent: int = LIAR
) -> tuple[tuple[str, ...], list[RoundRequest]]:
    """Rounds of one expert each; a node sends nothing usable. Its absent experts, all requests."""
    app, sent = ClientApp(), list[RoundRequest]()

    @app.train("round")
    def answer(message: Message, context: Context) -> Message:
        sent.append(RoundRequest.parse(message.content, LAYOUT.size))
        number, value = int(context.node_config["partition-id"]), np.float16(0.1)
        value = np.float16(np.inf) if number == silent else value
        updates = np.full((len(sent[-1].ids), LAYOUT.size), value)
        return Message(RoundReply(number, sent[-1].ids, updates).pack(), reply_to=message)

    grid = InProcessGrid(app, nodes, {})
    told = ["federation.generator_rounds=20", "federation.generator_clients=1"]
    config = compose([*told, "federation.min_replies=0.8"])
    ids = tuple(grid.get_node_ids())
    roster = enlisted(config.federation, zoo.ids, ids)
    of = Federation(grid, ids, config, LAYOUT, 6, 0, lambda _: lambda *_: None, roster)
    start = np.zeros(LAYOUT.size, np.float32)
    return train_in_rounds(of, generator, zoo, start, lambda *_: None), sent


def test_a_round_in_which_nobody_answers_is_passed_over(
    make_zoo: Callable[..., Zoo], enlisted: Callable[..., Roster]
) -> None:
    zoo, generator = make_zoo(experts=5, size=LAYOUT.size), Noting(0.1)
    absent, sent = rounds(enlisted, zoo, generator)
    assert absent == (zoo.ids[LIAR],)
    assert len(sent) == 20
    assert 0 < len(generator.learnt) < 20
    assert (LIAR,) not in generator.learnt


def test_rounds_without_any_answer_are_an_error(
    make_zoo: Callable[..., Zoo], enlisted: Callable[..., Roster]
) -> None:
    zoo = make_zoo(experts=1, size=LAYOUT.size)
    with pytest.raises(RepliesError, match=r"0 usable replies, need 1|no expert replied"):
        rounds(enlisted, zoo, Noting(0.1), nodes=1, silent=0)


def test_starts_are_never_beyond_what_experts_take(
    make_zoo: Callable[..., Zoo], enlisted: Callable[..., Roster]
) -> None:
    """A generator may make anything of what liars sent; half precision ends at 65504."""
    zoo = make_zoo(experts=5, size=LAYOUT.size)
    _, sent = rounds(enlisted, zoo, Noting(1e6))
    for request in sent:
        check_vectors(request.starts, LAYOUT, norm_bound(LAYOUT))
