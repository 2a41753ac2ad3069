"""What a run has measured so far, and what its results say of it."""

from __future__ import annotations

import time
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from sglora_fed.config import config_sha256
from sglora_fed.config.schema import RunConfig
from sglora_fed.experiments.reproduce import command
from sglora_fed.federation.adopt import AdoptRequest, adopt_request
from sglora_fed.federation.codec import wire_bytes
from sglora_fed.federation.compare import Measured, agreeing, delivered_bytes
from sglora_fed.federation.comparison import CompareReply
from sglora_fed.federation.describe import DescribeReply, Requests
from sglora_fed.federation.exchange import Federation
from sglora_fed.federation.making import Made
from sglora_fed.federation.terms import Agreement
from sglora_fed.generators import Generated
from sglora_fed.kept.zoos import versions
from sglora_fed.memory import peak_mb
from sglora_fed.privacy.mechanisms import UNIT, promise
from sglora_fed.promises import Promise
from sglora_fed.results.gallery import Exhibit
from sglora_fed.results.parts import Part
from sglora_fed.results.rows import Row
from sglora_fed.results.summary import RunFacts
from sglora_fed.tasks.types import Kind


@dataclass
class Means:
    """Means over seeds of two numbers of each client: little is held of each.

    Attributes:
        places: client -> its number, in the order in which they came.
        sums: of both numbers, client after client.
        seeds: that have told, of each client.
    """

    places: dict[str, int] = field(default_factory=dict)
    sums: array[float] = field(default_factory=lambda: array("d"))
    seeds: array[int] = field(default_factory=lambda: array("q"))

    def add(self, client: str, first: float, second: float) -> None:
        """What one seed tells of a client."""
        place = self.places.setdefault(client, len(self.places))
        if place == len(self.seeds):
            self.sums.extend((0.0, 0.0))
            self.seeds.append(0)
        self.sums[2 * place] += first
        self.sums[2 * place + 1] += second
        self.seeds[place] += 1

    def of(self, client: str) -> tuple[float, ...]:
        """Both means; nothing of whom nobody has told."""
        if (place := self.places.get(client)) is None:
            return ()
        return tuple(one / self.seeds[place] for one in self.sums[2 * place : 2 * place + 2])


@dataclass
class Record:
    """Grows over the seeds of a run.

    Attributes:
        promises: about experts' training examples, each once.
        experts: most that a seed's zoo held, without the distrusted.
        distrusted: most experts that were not used.
        stages: stage -> seconds.
        method_seconds: method -> seconds that each node's clients needed.
        nearness: similarity and entropy of each client.
        trust: confidence, and 1 for who adopted, of each client with the policy.
        wire: up, down and results -> bytes of one client's message.
        common: bytes of such a message with one adapter, as when all clients get the same.
        exhibits: of the first seed, to look at.
        agreements: what clients released, seed by seed.
        peaks: node's partition -> the most memory of a process that measured for it, 2^20 bytes.
    """

    promises: set[Promise] = field(default_factory=set)
    experts: int = 0
    distrusted: int = 0
    stages: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    method_seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    nearness: Means = field(default_factory=Means)
    trust: Means = field(default_factory=Means)
    wire: dict[str, int] = field(default_factory=dict)
    common: int = 0
    exhibits: list[Exhibit] = field(default_factory=list)
    agreements: list[Agreement] = field(default_factory=list)
    peaks: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the seconds within to a stage."""
        started = time.perf_counter()
        yield
        self.stages[stage] += time.perf_counter() - started

    def judge(self, names: Sequence[str], made: Generated) -> None:
        """Note how near the experts are to some clients."""
        told = zip(names, made.similarity.tolist(), made.entropy.tolist(), strict=True)
        for client, similarity, entropy in told:
            self.nearness.add(client, similarity, entropy)

    def add(self, part: Part) -> None:
        """Note what some clients measured, but for the results themselves."""
        for client, (sure, adopts) in part.trust.items():
            self.trust.add(client, sure, adopts)
        for method, seconds in part.method_seconds.items():
            self.method_seconds[method] += seconds
        self.wire.update(part.wire)
        for node, peak in part.peaks.items():
            self.peaks[node] = max(peak, self.peaks.get(node, 0))

    def weigh(
        self, requests: Requests, made: Made, rows: np.ndarray, federation: Federation
    ) -> None:
        """Measure what one client's messages weigh on the wire, that of the longest id."""
        if "down" in self.wire:
            return
        place = max(range(len(rows)), key=lambda i: len(requests.own_ids[rows[i]]))
        ids, row = requests.called(rows[[place]]), rows[[place]]
        one = adopt_request(federation, ids, made.of(np.array([place])))
        self.wire["up"] = wire_bytes(DescribeReply(0, ids, requests.released[row]).pack())
        self.wire["down"] = wire_bytes(one.pack())
        single = np.zeros((1, federation.layout.size), np.float16)
        self.common = wire_bytes(AdoptRequest(ids, single, federation.seed).pack())


def part_of(found: Sequence[Measured], methods: Sequence[str], seed: int, kind: Kind) -> Part:
    """What some clients measured, as it is kept: those whose tasks are of the run's kind."""
    kept = agreeing(found, kind)
    rows, trust, peaks = list[Row](), dict[str, list[float]](), dict[str, int]()
    seconds: dict[str, list[float]] = {method: [] for method in methods}
    for one in kept:
        reply = one.reply
        for client, split, values in zip(one.names, reply.splits, reply.values, strict=True):
            rows += [
                Row(client, split, seed, method, metric, float(values[m, k]))
                for m, method in enumerate(methods)
                for k, metric in enumerate(reply.metrics)
            ]
        for client, told in zip(one.names, reply.trust, strict=False):
            trust[client] = told.astype(np.float64).tolist()
        for method, needed in zip(methods, reply.seconds.tolist(), strict=True):
            seconds[method].append(needed)
        node = str(reply.partition)
        peaks[node] = max(reply.peak_mb, peaks.get(node, 0))
    rows.sort(key=lambda row: (row.client, row.method, row.metric))
    return Part(rows, seconds, trust, weight_of(found), len(found) - len(kept), peaks)


def weight_of(found: Sequence[Measured]) -> dict[str, int]:
    """What one client's results weigh on the wire, those of the longest id."""
    if not found:
        return {}
    reply = found[0].reply
    one = CompareReply(
        0,
        (max(reply.ids, key=len),),
        reply.splits[:1],
        reply.metrics,
        reply.values[:1],
        reply.seconds,
    )
    return {"results": wire_bytes(one.pack())}


def facts(
    config: RunConfig,
    record: Record,
    rows: Iterable[Row],
    federation: Federation,
    seconds: float,
) -> RunFacts:
    """What the results of a finished run say of it."""
    epsilon, delta = promise(config.privacy)
    methods, clients = set[str](), set[str]()
    for row in rows:
        methods.add(row.method)
        clients.add(row.client)
    return RunFacts(
        name=config.name,
        generator=config.generator.name,
        seeds=config.seeds,
        seconds=seconds,
        config_sha256=config_sha256(config),
        versions=versions(),
        experts=record.experts,
        clients=len(clients),
        virtual_clients_per_node=-(-len(clients) // len(federation.nodes)),
        refused_replies=len(federation.refusals),
        distrusted_experts=record.distrusted,
        privacy={
            "mechanism": config.privacy.mechanism,
            "epsilon": epsilon,
            "delta": delta,
            "unit": UNIT,
            "training": _training(record),
            "experts": [config.privacy.experts, config.privacy.experts_epsilon],
        },
        bytes_per_client=dict(record.wire),
        seconds_by_stage=dict(record.stages),
        seconds_by_method={m: float(np.mean(record.method_seconds[m])) for m in sorted(methods)},
        bytes_by_method={
            m: delivered_bytes(m, config, record.wire["down"], record.common)
            for m in sorted(methods)
        },
        confidence={
            name: (*record.nearness.of(name), *record.trust.of(name))
            for name in record.nearness.places
        },
        command=command(config),
        peak_mb=peak_mb(),
        nodes=_nodes(federation, record),
    )


def _nodes(federation: Federation, record: Record) -> dict[str, object]:
    """Memory and bytes of the nodes; bytes are the mean over them."""
    count, traffic = len(federation.nodes), federation.traffic
    kinds = sorted({kind for kind, _ in traffic})
    ways = ("down", "up")
    return {
        "count": count,
        "peak_mb": [record.peaks[node] for node in sorted(record.peaks, key=int)],
        "bytes": {kind: {way: round(traffic[kind, way] / count) for way in ways} for kind in kinds},
    }


def _training(record: Record) -> dict[str, object] | None:
    """The weakest promise about training examples in a seed, None where there is none."""
    if not record.promises:
        return None
    return {
        "unit": min(one.unit for one in record.promises),
        "epsilon": max(one.epsilon for one in record.promises),
        "delta": max(one.delta for one in record.promises),
    }
