"""Nodes and messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sglora_fed.config.schema.options import POSITIVE, Group, at_least, option, where


@dataclass(frozen=True)
class FederationConfig(Group):
    """Nodes and messages."""

    prefix: ClassVar[str] = "federation."

    nodes: int = option(
        2, "nodes to wait for; in simulation also the number of workers", at_least(1)
    )
    min_replies: float = option(
        1.0,
        "share of nodes that must reply, else the run fails",
        where(lambda value: 0 < value <= 1, "must lie in (0, 1]"),
    )
    timeout: float = option(3600.0, "seconds to wait for nodes and for each reply", POSITIVE)
    ask_again: float = option(
        3600.0,
        "`goal=serve`: seconds until a node that has its adapter is asked whether it wants another",
        POSITIVE,
    )
    retry_after: float = option(
        15.0,
        "`goal=serve`: seconds until a node that failed is asked again; doubled with each failure,"
        " up to ask_again",
        POSITIVE,
    )
    requests_per_node: int = option(
        32, "`goal=serve`: different requests of one node that are answered, ever", at_least(1)
    )
    clients_per_message: int = option(8, "virtual clients in one message", at_least(1))
    shared_rounds: int = option(6, "FedAvg rounds of the shared LoRA", at_least(1))
    shared_steps: int = option(10, "local steps in each round", at_least(1))
    shared_clients: int = option(24, "experts that take part in a round", at_least(1))
    shared_momentum: float = option(
        0.5,
        "momentum of the server's FedAvg step, in [0, 1); 0 is FedAvg as it was published",
        where(lambda value: 0 <= value < 1, "must lie in [0, 1)"),
    )
    generator_rounds: int = option(
        5,
        "rounds of a generator that is trained in the federation, such as `functional`",
        at_least(1),
    )
    generator_steps: int = option(10, "local steps in each round", at_least(1))
    generator_clients: int = option(48, "experts that take part in a round", at_least(1))
    experts_per_node: int = option(10_000, "experts that a node may own", at_least(1))
    clients_per_node: int = option(100_000, "virtual clients that a node may carry", at_least(1))
    examples_per_expert: int = option(
        10_000, "training examples that an expert counts for in a mean, at most", at_least(1)
    )
    respelt: float = option(
        0.0,
        "share of the experts that train in a made-up spelling in a round, in [0, 1]; for writing"
        " styles",
        where(lambda value: 0 <= value <= 1, "must lie in [0, 1]"),
    )
