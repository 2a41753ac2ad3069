"""What one lying node of five costs the clients of the honest ones.

    python benchmarks/liars.py [OVERRIDE ...]

The whole loop runs in this process: with five honest nodes, without the fifth, and with the fifth
telling each lie. Writes benchmarks/results/liars.json with each method's accuracy on the honest
nodes' clients, the paired differences to both honest runs, and how often the liar was asked and
left out: a lie that never reached an exchange says nothing of that exchange.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import Error, Message, RecordDict

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import client.app
import machine
from sglora_fed.adapters.layout import Layout
from sglora_fed.adapters.start import norm_bound
from sglora_fed.backbones.metrics import METRIC_SETS
from sglora_fed.config import compose
from sglora_fed.config.schema import RunConfig
from sglora_fed.experiments.run import run_experiment
from sglora_fed.federation.compare import COMPARE
from sglora_fed.federation.comparison import CompareReply, CompareRequest
from sglora_fed.federation.describe import DESCRIBE, DescribeReply
from sglora_fed.federation.enrol import ENROL, EnrolReply, EnrolRequest
from sglora_fed.federation.inprocess import InProcessGrid
from sglora_fed.federation.node import Node
from sglora_fed.federation.private import ROUND, SHARED
from sglora_fed.federation.rounds import RoundReply, RoundRequest
from sglora_fed.federation.shared import SharedReply, SharedRequest
from sglora_fed.federation.terms import in_clear
from sglora_fed.results.files import SUMMARY, read_rows
from sglora_fed.results.statistics import Estimate, estimate

NODES, LIAR = 5, 4
GOAL = 0.02
METRICS = ("accuracy", "i2t_r1", "t2i_r1")
"""What a client's number is the mean of."""

COPIES = 10
"""Experts that the liar claims for each that it has."""

RUN = (
    *("family.experts=40", "family.clients_per_split=24", "experiment.controls=false"),
    "federation.generator_rounds=10",
    "experiment.methods=[topk,ridge,functional,shared_lora]",
    *(f"federation.nodes={NODES}", "federation.min_replies=0.8"),
)

Change = Callable[[Layout, np.ndarray], np.ndarray]
"""What a liar makes of vectors [..., D]."""


def flipped(layout: Layout, vectors: np.ndarray) -> np.ndarray:
    """The opposite effect: B is negated."""
    made = vectors.reshape(-1, layout.size).copy()
    for _, b in layout.unpack(torch.from_numpy(made)).values():
        b.neg_()
    return made.reshape(vectors.shape)


def longest(layout: Layout, vectors: np.ndarray) -> np.ndarray:
    """The opposite effect, as long as a server takes."""
    made = flipped(layout, vectors)
    norms = np.maximum(np.linalg.norm(made, axis=-1, keepdims=True), 1e-9)
    scaled: np.ndarray = (made * (0.999 * norm_bound(layout) / norms)).astype(vectors.dtype)
    return scaled


@dataclass(frozen=True)
class Lie:
    """How a node lies.

    Attributes:
        change: of all vectors that it sends; None: it answers nothing.
        copies: experts claimed for each of its own.
        borrowed: it calls its experts and clients as another node calls those.
        later: it enrols honestly, so that the screening lets it in, and lies in the rounds alone.
    """

    change: Change | None
    copies: int = 1
    borrowed: bool = False
    later: bool = False


ABSENT = Lie(None)

LIES: Mapping[str, Lie] = {
    "flips": Lie(flipped),
    "bound": Lie(longest),
    "many": Lie(flipped, copies=COPIES),
    "repeats": Lie(flipped, borrowed=True),
    "later": Lie(flipped, later=True),
    "later_bound": Lie(longest, later=True),
}


@dataclass
class Liar:
    """The lying node, in front of the honest app.

    Attributes:
        lie: what it does.
        node: what it holds.
        victim: the node whose ids it may borrow.
        honest: answers a request as the app would.
        experts, clients: id that it claims -> its own.
        enrolment: of all its experts, once it was asked.
        told: kind of message -> how often it lied.
    """

    lie: Lie
    node: Node
    victim: Node
    honest: Callable[[RecordDict], RecordDict]
    experts: dict[str, str] = field(default_factory=dict)
    clients: dict[str, str] = field(default_factory=dict)
    enrolment: EnrolReply | None = None
    told: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        claimed = [*self.node.experts], [*self.node.clients]
        if self.lie.borrowed:
            claimed = [*self.victim.experts], [*self.victim.clients]
        self.clients = dict(zip(claimed[1], self.node.clients, strict=False))
        for own, name in zip(self.node.experts, claimed[0], strict=False):
            copies = [name, *(f"{name}.c{copy}" for copy in range(1, self.lie.copies))]
            self.experts |= dict.fromkeys(copies, own)

    def changed(self, vectors: np.ndarray) -> np.ndarray:
        assert self.lie.change is not None
        return self.lie.change(self.node.layout, vectors)

    def answer(self, kind: str, body: RecordDict) -> RecordDict:
        """The lie."""
        self.told[kind] += 1
        return {
            ENROL: self._enrol,
            SHARED: self._shared,
            ROUND: self._round,
            DESCRIBE: self._describe,
            COMPARE: self._compare,
        }[kind](body)

    def _enrol(self, body: RecordDict) -> RecordDict:
        request = EnrolRequest.parse(body)
        if self.enrolment is None:
            everything = EnrolRequest(request.seed, (), len(self.node.experts))
            dim, size = self.node.describer.dim, self.node.layout.size
            self.enrolment = EnrolReply.parse(self.honest(everything.pack()), dim, size)
        whole, names = self.enrolment, [n for n in self.experts if n not in set(request.known)]
        names = names[: request.limit]
        rows = [whole.trained.index(self.experts[name]) for name in names]
        return replace(
            whole,
            ids=tuple(self.experts),
            task_digests=tuple(f"{place:064x}" for place in range(len(self.experts))),
            trained=tuple(names),
            wordings=whole.wordings[rows],
            means=whole.means[rows] if self.lie.later else self.changed(whole.means[rows]),
            variances=whole.variances[rows],
            examples=np.full(len(names), 2**40),
        ).pack()

    def _shared(self, body: RecordDict) -> RecordDict:
        request = SharedRequest.parse(body, self.node.layout.size)
        own = tuple(dict.fromkeys(self.experts[name] for name in request.ids))
        reply = SharedReply.parse(
            self.honest(replace(request, ids=own).pack()), self.node.layout.size
        )
        return replace(reply, ids=request.ids, mean=self.changed(reply.mean)).pack()

    def _round(self, body: RecordDict) -> RecordDict:
        size = self.node.layout.size
        request = RoundRequest.parse(body, size)
        first = {self.experts[name]: row for row, name in enumerate(request.ids)}
        asked = replace(request, ids=tuple(first), starts=request.starts[[*first.values()]])
        reply = RoundReply.parse(self.honest(asked.pack()), size)
        rows = [reply.ids.index(self.experts[name]) for name in request.ids]
        made = self.changed(request.starts[rows] + reply.updates[rows].astype(np.float32))
        updates = made - request.starts[rows]
        return replace(reply, ids=request.ids, updates=updates).pack()

    def _describe(self, body: RecordDict) -> RecordDict:
        reply = DescribeReply.parse(self.honest(body), in_clear(self.node.describer.dim))
        names = {own: name for name, own in self.clients.items()}
        rows = [row for row, own in enumerate(reply.ids) if own in names]
        ids = tuple(names[reply.ids[row]] for row in rows)
        return replace(reply, ids=ids, released=reply.released[rows]).pack()

    def _compare(self, body: RecordDict) -> RecordDict:
        """Nothing is measured, all is perfect."""
        request = CompareRequest.parse(body, self.node.layout.size)
        tasks = [self.node.clients[self.clients[name]] for name in request.ids]
        metrics = METRIC_SETS[tasks[0].kind == "retrieval"]
        return CompareReply(
            partition=LIAR,
            ids=request.ids,
            splits=tuple(task.split for task in tasks),
            metrics=metrics,
            values=np.ones((len(tasks), len(request.methods), len(metrics))),
            seconds=np.zeros(len(request.methods)),
        ).pack()


class LyingGrid(InProcessGrid):
    """Five nodes of which one may lie; what an expert's training gives is kept for the next lie."""

    def __init__(self, overrides: Sequence[str], lie: Lie | None, kept: dict[str, Message]) -> None:
        super().__init__(client.app.app, NODES, {"overrides": shlex.join(overrides)})
        self._lie, self._kept, self._config = lie, kept, compose(overrides)
        self._liar: Liar | None = None

    @property
    def told(self) -> Mapping[str, int]:
        """Kind of message -> how often the liar answered it with a lie."""
        return self._liar.told if self._liar else {}

    def _answer(self, message: Message) -> Message | None:
        lies = message.metadata.dst_node_id == 1000 + LIAR and self._lie is not None
        return self._lied(message) if lies else self._honest(message)

    def _honest(self, message: Message) -> Message | None:
        if message.metadata.message_type != ENROL:
            return super()._answer(message)
        key = f"{message.metadata.dst_node_id} {EnrolRequest.parse(message.content)}"
        if key not in self._kept and (reply := super()._answer(message)):
            self._kept[key] = reply
        return self._kept.get(key)

    def _lied(self, message: Message) -> Message:
        assert self._lie is not None
        if self._lie.change is None:
            return Message(Error(8, "away"), reply_to=message)
        if self._liar is None:
            node, victim = (Node(self._config, place, NODES) for place in (LIAR, 0))
            self._liar = Liar(self._lie, node, victim, lambda body: body)
        self._liar.honest = lambda body: self._asked(message, body)
        return Message(
            self._liar.answer(message.metadata.message_type, message.content), reply_to=message
        )

    def _asked(self, message: Message, body: RecordDict) -> RecordDict:
        """What the app would answer to another body."""
        other = Message(body, message.metadata.dst_node_id, message.metadata.message_type)
        reply = self._honest(other)
        assert reply is not None
        return reply.content


@dataclass(frozen=True)
class Outcome:
    """What a run gave.

    Attributes:
        accuracy: method -> honest client -> accuracy.
        lies: kind of message -> how often the liar answered it: none if it was never asked.
        distrusted: experts that the screening left out.
        refused: replies that were not used, and updates that were scaled down.
    """

    accuracy: dict[str, dict[str, float]]
    lies: dict[str, int]
    distrusted: int
    refused: int


def outcome(overrides: Sequence[str], lie: Lie | None, kept: dict[str, Message]) -> Outcome:
    """One run in a home of its own."""
    config, grid = compose(overrides), LyingGrid(overrides, lie, kept)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SGLORA_FED_HOME"] = str(Path(folder) / "home")
        out = run_experiment(config, grid, Path(folder) / "out")
        rows = list(read_rows(out))
        counts = json.loads((out / SUMMARY).read_text(encoding="utf-8"))["counts"]
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.client in honest_clients(config) and row.metric in METRICS:
            found[row.method][row.client].append(row.value)
    return Outcome(
        {method: {c: float(np.mean(v)) for c, v in own.items()} for method, own in found.items()},
        dict(grid.told),
        counts["distrusted_experts"],
        counts["refused_replies"],
    )


def honest_clients(config: RunConfig) -> set[str]:
    """Of all nodes but the last."""
    return {name for place in range(NODES - 1) for name in Node(config, place, NODES).clients}


def told(values: Estimate) -> dict[str, Any]:
    """A mean and its interval for the file."""
    bounds = values.bounds
    return {
        "mean": round(values.mean, 4),
        "ci95": None if bounds is None else [round(end, 4) for end in bounds],
        "clients": values.clients,
    }


def compared(other: Outcome, bases: Mapping[str, Outcome]) -> dict[str, Any]:
    """What a run gave, and per method the paired differences to some others."""
    methods = {}
    for method, values in other.accuracy.items():
        methods[method] = {"accuracy": told(estimate(np.array([*values.values()])[:, None]))}
        for name, base in bases.items():
            pairs = [values[client] - base.accuracy[method][client] for client in values]
            methods[method][f"minus_{name}"] = told(estimate(np.array(pairs)[:, None]))
    return {
        "answered_with_lies": other.lies,
        "distrusted_experts": other.distrusted,
        "refused_replies": other.refused,
        "methods": methods,
    }


def worst(lies: Mapping[str, Mapping[str, Any]], base: str) -> dict[str, Any]:
    """The lie and method that cost most, against a base."""
    costs = [
        (-entry[f"minus_{base}"]["mean"], name, method)
        for name, found in lies.items()
        for method, entry in found["methods"].items()
    ]
    points, name, method = max(costs)
    return {"points": round(points, 4), "lie": name, "method": method}


def main(overrides: Sequence[str]) -> None:
    """Measure every lie and write."""
    torch.set_num_threads(1)
    kept: dict[str, Message] = {}
    wanted = (*RUN, *overrides)
    bases = {"honest": outcome(wanted, None, kept), "absent": outcome(wanted, ABSENT, kept)}
    lies = {name: compared(outcome(wanted, lie, kept), bases) for name, lie in LIES.items()}
    costs = {f"against_{base}": worst(lies, base) for base in bases}
    found = machine.facts("flwr", "torch", "numpy") | {
        "command": shlex.join(["python", "benchmarks/liars.py", *overrides]),
        "nodes": NODES,
        **{name: compared(base, {"honest": bases["honest"]}) for name, base in bases.items()},
        "lies": lies,
        "worst_cost": costs,
        "goal": {"points": GOAL, "reached": costs["against_honest"]["points"] <= GOAL},
    }
    machine.write("liars", found)


if __name__ == "__main__":
    main(sys.argv[1:])
