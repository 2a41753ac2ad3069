"""One run: from a configuration and a grid of nodes to results on disk."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flwr.serverapp import Grid

from sglora_fed.adapters.start import configured_start
from sglora_fed.backbones import load_describer
from sglora_fed.config import config_sha256, config_yaml
from sglora_fed.config.schema import POLICY_METHOD, SHARED_METHOD, UNSPENT, RunConfig
from sglora_fed.experiments.control import SHUFFLED, least_alike
from sglora_fed.experiments.finish import write_results
from sglora_fed.experiments.gallery import exhibits
from sglora_fed.experiments.progress import ProgressLog
from sglora_fed.experiments.record import Record, facts, part_of
from sglora_fed.experiments.requests import requests_of
from sglora_fed.experiments.tracking import open_tracker, track
from sglora_fed.federation.calibrate import confidence
from sglora_fed.federation.compare import LOCAL_METHODS, SOUP, Delivery, Measured, compare
from sglora_fed.federation.describe import Requests
from sglora_fed.federation.enrol import enrol
from sglora_fed.federation.exchange import Federation, Progress, wait_for_nodes
from sglora_fed.federation.layouts import run_layout
from sglora_fed.federation.making import Made, generate, make_for, server_projection
from sglora_fed.federation.readings import check_catalogue, is_read, run_catalogue
from sglora_fed.federation.roster import Roster
from sglora_fed.federation.rounds import trained_generator
from sglora_fed.federation.shared import shared_lora
from sglora_fed.federation.terms import Agreement, server_agreement
from sglora_fed.files import write_atomically
from sglora_fed.generators import Generator, fit_generator, is_federated, make_generator
from sglora_fed.generators.confidence import Confidence
from sglora_fed.kept.zoos import check_signed, trusted_zoo, versions, zoo_identity, zoo_path
from sglora_fed.memory import give_back
from sglora_fed.results.files import ZOOS
from sglora_fed.results.parts import Part, PartRows, Parts, remove_parts
from sglora_fed.results.summary import RunFacts
from sglora_fed.zoo import Zoo, ZooStore, open_zoo

NOT_GENERATED = (*LOCAL_METHODS, SHARED_METHOD, POLICY_METHOD, SHUFFLED)

GENERATED_AT_ONCE = 1024
"""Adapters of one method that are in memory together, whatever the number of clients."""


def run_experiment(config: RunConfig, grid: Grid, output: Path) -> Path:
    """Run all seeds and write the results.

    Args:
        config: of the run.
        grid: Flower's, or the in-process one.
        output: folder of the results.

    Returns:
        The folder.

    Raises:
        SgloraError: of any part; nothing is reported as done then.
    """
    tracker = open_tracker(config.tracking)
    record, rows, found = measured(config, grid, output)
    folder = write_results(output, rows, found, config_yaml(config), record.exhibits)
    remove_parts(output)
    track(tracker, config, folder)
    return folder


def measured(
    config: RunConfig, grid: Grid, output: Path, gallery: bool = True
) -> tuple[Record, PartRows, RunFacts]:
    """Run all seeds and write their parts alone.

    Args:
        config: of the run.
        grid: Flower's, or the in-process one.
        output: folder of progress and parts.
        gallery: whether a few clients are shown.

    Raises:
        SgloraError: of any part.
    """
    check_catalogue(config)
    started, record = time.perf_counter(), Record()
    federation = open_federation(config, grid, ProgressLog(output / "progress.jsonl"))
    parts = [_run_seed(federation.of_seed(seed), record, output, gallery) for seed in config.seeds]
    rows = PartRows(tuple(parts))
    return record, rows, facts(config, record, rows, federation, time.perf_counter() - started)


def build_zoos(config: RunConfig, grid: Grid, output: Path) -> Path:
    """Train the experts that are missing in the zoo of every seed, and stop there.

    Args:
        config: of the run whose zoos are wanted.
        grid: Flower's, or the in-process one.
        output: folder for the progress and for ``zoos.json``, the list of the zoos' folders.

    Returns:
        The folder.

    Raises:
        SgloraError: of any part; experts that arrived before stay in the zoo.
    """
    federation = open_federation(config, grid, ProgressLog(output / "progress.jsonl"))
    folders = [str(enrolled(federation.of_seed(seed)).path) for seed in config.seeds]
    write_atomically(output / ZOOS, json.dumps(folders).encode())
    return output


def open_federation(config: RunConfig, grid: Grid, progress: ProgressLog) -> Federation:
    """The nodes of a run, once all wanted ones are there."""
    return Federation(
        grid=grid,
        nodes=wait_for_nodes(grid, config.federation),
        config=config,
        layout=run_layout(config),
        dim=load_describer(config.backbone).dim,
        seed=config.seeds[0],
        reporter=progress.reporter,
        roster=Roster(config.federation),
    )


def enrolled(federation: Federation) -> ZooStore:
    """The zoo of a federation's seed, with all experts that its nodes have."""
    config, layout, seed = federation.config, federation.layout, federation.seed
    store = open_zoo(zoo_path(config, layout, seed), zoo_identity(config, layout, seed))
    check_signed(config, store)
    enrol(federation, store)
    return store


def fitted(federation: Federation, zoo: Zoo, start: np.ndarray, name: str) -> Generator:
    """A generator of the zoo, fitted to it or trained in the federation, by its name."""
    config = federation.config.generator
    if is_federated(make_generator(config, name)):
        return trained_generator(federation, name, zoo, start)
    return fit_generator(config, name, zoo, federation.seed)


@dataclass(frozen=True)
class _Tools:
    """What a seed's adapters are made with.

    Attributes:
        methods: all that are measured.
        generators: by name.
        shared: [D] the shared LoRA, where it is among the methods.
        fallback: [D] what a client without a generated adapter uses.
        sure: of the adopted generator's adapters; None where nobody needs it.
        agreement: what clients release, and what it refers to.
    """

    methods: tuple[str, ...]
    generators: dict[str, Generator]
    shared: np.ndarray | None
    fallback: np.ndarray
    sure: Confidence | None
    agreement: Agreement


def _run_seed(federation: Federation, record: Record, output: Path, gallery: bool) -> Parts:
    """From enrolment to measurements; what an interrupted run has measured stays."""
    with record.timed("experts"):
        store = enrolled(federation)
    zoo = trusted_zoo(store)
    record.experts = max(record.experts, len(zoo.ids))
    record.distrusted = max(record.distrusted, len(store.ids()) - len(zoo.ids))
    record.promises |= {promise for promise in zoo.promises if promise is not None}
    tools = _prepared(federation, zoo, record)
    record.agreements.append(tools.agreement)
    parts = Parts(output, federation.seed, _made_for(federation.config, zoo, tools))
    requests = requests_of(federation, tools.agreement, parts.folder)
    others = None
    if SHUFFLED in tools.methods:
        others = least_alike(requests.embeddings, zoo.wordings, federation.seed, parts.folder)
    # Of what is recalled no speed can be told: it is a stage of its own.
    report, recalled = federation.reporter("evaluate"), federation.reporter("recalled")
    for number, rows in enumerate(batches(federation.config, len(requests.names))):
        delivery = _delivery(federation, tools, requests, rows, others, record)
        if (part := parts.get(number)) is None:
            with record.timed("evaluate"):
                part = _measured(federation, requests, delivery, report)
            parts.add(number, part)
            report(int(rows[-1]) + 1, len(requests.names))
        else:
            recalled(int(rows[-1]) + 1, len(requests.names))
        record.add(part)
        if part.left_out:
            told = f"{part.left_out} replies measured something else than most nodes"
            federation.refusals.append(told)
        if gallery and federation.seed == federation.config.seeds[0]:
            record.exhibits += exhibits(federation, requests, delivery)
        del delivery  # the next one's adapters take as much
        give_back()
    return parts


def batches(config: RunConfig, clients: int) -> list[np.ndarray]:
    """Rows of the requests that adapters are made for together."""
    each = config.generator.readings if is_read(config) else config.privacy.replies
    starts = range(0, clients, max(1, GENERATED_AT_ONCE // each))
    return np.split(np.arange(clients), starts[1:]) if clients else []


def _made_for(config: RunConfig, zoo: Zoo, tools: _Tools) -> str:
    """What measurements are a function of.

    What was trained while some nodes were away is not kept, and is another one when it is trained
    again: the lengths of one description's adapters tell, up to rounding.
    """
    made = [
        generator.generate(zoo.embeddings[:1], 1, 0).adapters - tools.fallback
        for generator in tools.generators.values()
    ]
    lengths = [f"{float(np.linalg.norm(vector)):.4g}" for vector in (*made, tools.fallback)]
    # A file may hold another list under the same name; the terms are of what is released alone.
    read = "" if tools.agreement.readings is None else run_catalogue(config).sha256
    facts = [config_sha256(config), zoo.sha256, tools.agreement.terms.sha256, read, versions()]
    return json.dumps([*facts, lengths, GENERATED_AT_ONCE])


def _measured(
    federation: Federation, requests: Requests, delivery: Delivery, report: Progress
) -> Part:
    """What a delivery's clients measure."""
    measured, before = list[Measured](), int(delivery.rows[0])
    report(before, len(requests.names))
    for one in compare(federation, requests, delivery):
        measured.append(one)
        done = before + sum(len(some.names) for some in measured)
        report(done, len(requests.names))
    return part_of(measured, delivery.methods, federation.seed, federation.roster.kind)


def _prepared(federation: Federation, zoo: Zoo, record: Record) -> _Tools:
    """Train or recall all that the zoo's experts can give."""
    config, methods = federation.config, _methods(federation)
    names = [name for name in methods if name not in NOT_GENERATED]
    fallback = configured_start(config, federation.layout, federation.seed)[0]
    shared = None
    if SHARED_METHOD in methods or any(_is_federated(config, name) for name in names):
        with record.timed("shared"):
            shared = shared_lora(federation, zoo)
    start = fallback if shared is None else shared
    generators, report = {}, federation.reporter("generators")
    for done, name in enumerate(names, 1):
        with record.timed(name if _is_federated(config, name) else "fit"):
            generators[name] = fitted(federation, zoo, start, name)
        report(done, len(names))
    if SHARED_METHOD not in methods:
        shared = None
    fallback = fallback if shared is None else shared
    sure = None
    # Clients of retrieval tasks can tell for themselves.
    if POLICY_METHOD in methods and federation.roster.kind == "labelled":
        adopted = generators[config.generator.name]
        with record.timed("confidence"):
            sure = confidence(federation, adopted, zoo, start, fallback)
    agreement = agreed(federation, generators[config.generator.name], zoo)
    return _Tools(methods, generators, shared, fallback, sure, agreement)


def agreed(federation: Federation, generator: Generator, zoo: Zoo) -> Agreement:
    """The server's side of what clients release: with the generator's own directions, if need be.

    Raises:
        CatalogueError, PrivacyError: when the configuration lacks something.
        GeneratorError: when shares are for a generator that is not linear.
    """
    config = federation.config
    projection = server_projection(config.privacy, generator, zoo)
    describer = load_describer(config.backbone)
    return server_agreement(config, describer, projection, zoo.embeddings)


def _methods(federation: Federation) -> tuple[str, ...]:
    """All that a run measures: as configured, the adopted generator, and the control.

    Less what needs more than a mechanism tells: the control needs somebody else's description, the
    policy of labelled tasks a look at the adapter that a client takes, and shares are of the
    directions of one generator.
    """
    config = federation.config
    control = (SHUFFLED,) if config.experiment.controls else ()
    named = dict.fromkeys((*config.experiment.methods, config.generator.name, *control))
    return tuple(name for name in named if not _beyond(name, federation))


def _beyond(method: str, federation: Federation) -> bool:
    """Whether a method needs more than the mechanism tells."""
    config, privacy = federation.config, federation.config.privacy
    blind = privacy.mechanism in UNSPENT
    if method == POLICY_METHOD:
        several = privacy.replies > 1 or is_read(config)
        return federation.roster.kind == "labelled" and (blind or several)
    if method == SHUFFLED:
        return blind
    others = method not in (*NOT_GENERATED, config.generator.name)
    return privacy.mechanism == "shares" and others


def _is_federated(config: RunConfig, name: str) -> bool:
    return is_federated(make_generator(config.generator, name))


def _made(
    federation: Federation, tools: _Tools, requests: Requests, rows: np.ndarray, record: Record
) -> Made:
    """What every generator makes for the clients in some rows, timed and weighed."""
    started = time.perf_counter()
    made = make_for(federation, tools.generators, tools.agreement, requests, rows)
    seconds = time.perf_counter() - started
    adapters = len(rows) * len(tools.generators) * made.each
    record.stages["generate_per_adapter"] = seconds / adapters
    record.weigh(requests, made, rows, federation)
    return made


def _delivery(
    federation: Federation,
    tools: _Tools,
    requests: Requests,
    rows: np.ndarray,
    others: np.ndarray | None,
    record: Record,
) -> Delivery:
    """What every generator makes for the clients in some rows.

    Args:
        federation: whose clients they are.
        tools: generators and what else is needed.
        requests: of all clients.
        rows: of those that are delivered to.
        others: [n] whose description each client is tried with as the control; None without it.
        record: of what is measured.
    """
    adopted, seed = federation.config.generator.name, federation.seed
    made = _made(federation, tools, requests, rows, record)
    chances = None
    if made.generated:
        own = made.generated[adopted]
        chances = None if tools.sure is None else tools.sure.of(own, tools.fallback)
        record.judge([requests.names[row] for row in rows], own)
    adapters = dict(made.adapters)
    if others is not None:
        theirs = tools.agreement.read(requests.embeddings[others[rows]])
        adapters[SHUFFLED] = generate(tools.generators[adopted], theirs, seed).adapters
    common = {SOUP: adapters.pop(SOUP)[0, 0]} if SOUP in adapters else {}
    if tools.shared is not None:
        common[SHARED_METHOD] = tools.shared
    return Delivery(
        rows, tools.methods, adapters, common, chances, made.places, made.shares, made.generators
    )
