"""One run: from a configuration and a grid of nodes to results on disk."""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
from flwr.serverapp import Grid

from sglora_fed import __version__
from sglora_fed.adapters.layout import Layout
from sglora_fed.backbones import load_backbone, load_describer
from sglora_fed.config import config_sha256, config_yaml, home, subset_sha256
from sglora_fed.config.schema import SHARED_METHOD, RunConfig
from sglora_fed.experiments.finish import write_results
from sglora_fed.experiments.kept import Trainer, trusted_zoo
from sglora_fed.experiments.progress import ProgressLog
from sglora_fed.experiments.reproduce import command
from sglora_fed.federation.bench import LOCAL_METHODS, federation_start, norm_bound
from sglora_fed.federation.coordinator import (
    Federation,
    Requests,
    collect_requests,
    deliver,
    enrol,
)
from sglora_fed.federation.exchange import wait_for_nodes
from sglora_fed.federation.finetuned import STARTED
from sglora_fed.federation.messages import AdoptReply, ExpertReply
from sglora_fed.federation.node import run_layout
from sglora_fed.files import write_atomically
from sglora_fed.generators import (
    Generated,
    Generator,
    fit_generator,
    is_federated,
    make_generator,
)
from sglora_fed.privacy import make_mechanism
from sglora_fed.results.files import ZOOS
from sglora_fed.results.rows import Row
from sglora_fed.results.summary import RunFacts
from sglora_fed.seeds import derive_seed
from sglora_fed.tasks import known_tasks_sha256
from sglora_fed.zoo import Zoo, ZooIdentity, ZooStore, open_zoo

COMMON = ("soup", SHARED_METHOD)
SHUFFLED = "shuffled"


@dataclass
class _Record:
    """What a run has measured so far."""

    rows: list[Row] = field(default_factory=list)
    experts: int = 0
    clients: set[str] = field(default_factory=set)
    stages: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    method_seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    distrusted: int = 0
    confidence: dict[str, list[np.ndarray]] = field(default_factory=lambda: defaultdict(list))
    bytes_up: int = 0

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.stages[stage] += time.perf_counter() - started


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
    started, record = time.perf_counter(), _Record()
    progress = ProgressLog(output / "progress.jsonl")
    layout, federation = _open_federation(config, grid)
    for seed in config.seeds:
        _run_seed(config, federation, layout, seed, record, progress)
    facts = _facts(config, record, federation, time.perf_counter() - started)
    return write_results(output, record.rows, facts, config_yaml(config))


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
    progress = ProgressLog(output / "progress.jsonl")
    layout, federation = _open_federation(config, grid)
    for seed in config.seeds:
        store = open_zoo(zoo_path(config, seed), zoo_identity(config, layout, seed))
        _enrol(federation, store, seed, progress)
    folders = [str(zoo_path(config, seed)) for seed in config.seeds]
    write_atomically(output / ZOOS, json.dumps(folders).encode())
    return output


def _open_federation(config: RunConfig, grid: Grid) -> tuple[Layout, Federation]:
    layout = run_layout(config)
    nodes = tuple(wait_for_nodes(grid, config.federation))
    dim = load_describer(config.backbone).dim
    bound = norm_bound(layout)
    return layout, Federation(grid, nodes, config.federation, dim, layout.size, bound)


def _run_seed(
    config: RunConfig,
    federation: Federation,
    layout: Layout,
    seed: int,
    record: _Record,
    progress: ProgressLog,
) -> None:
    identity = zoo_identity(config, layout, seed)
    store = open_zoo(zoo_path(config, seed), identity)
    with record.timed("experts"):
        _enrol(federation, store, seed, progress)
    zoo = trusted_zoo(store)
    record.distrusted = max(record.distrusted, len(store.ids()) - len(zoo.ids))
    trainer = Trainer(config, federation, layout, store, zoo, seed, progress.reporter)
    with record.timed("shared"):
        shared = trainer.shared_lora() if SHARED_METHOD in config.experiment.methods else None
    generators = _fit(config, trainer, record)
    requests = collect_requests(federation, seed)
    fallback = federation_start(layout, seed)[0] if shared is None else shared
    with record.timed("confidence"):
        sure = trainer.confidence(generators[config.generator.name], fallback)
    made = _generate(config, generators, requests, seed, record)
    chances = sure.of(made[config.generator.name], fallback)
    _keep_confidence(record, requests, made[config.generator.name], chances)
    adapters = {name: generated.adapters[:, 0] for name, generated in made.items()}
    if shared is not None:
        adapters[SHARED_METHOD] = np.broadcast_to(shared, (len(requests.ids), layout.size))
    if config.experiment.controls:
        order = _derangement(len(requests.ids), seed)
        adapters[SHUFFLED] = adapters[config.generator.name][order]
    common = {name: adapters.pop(name)[0] for name in COMMON if name in adapters}
    with record.timed("evaluate"):
        report = progress.reporter("evaluate")
        replies = deliver(federation, seed, requests, adapters, chances, common, report)
    record.experts = max(record.experts, len(zoo.ids))
    record.bytes_up = federation.dim * 4 + max(len(name) for name in requests.ids)
    _keep(replies, seed, record)


def zoo_identity(config: RunConfig, layout: Layout, seed: int) -> ZooIdentity:
    """What a zoo must match to be reused by a run."""
    backbone = load_backbone(config.backbone, config.adapter)
    return ZooIdentity(
        backbone=backbone.id,
        weights_sha256=backbone.weights_sha256,
        encoder=load_describer(config.backbone).fingerprint,
        layout=layout.to_dict(),
        seed=seed,
        config_sha256=_training_sha256(config),
        tasks_sha256=known_tasks_sha256(config.family),
        versions=_versions(),
    )


def _training_sha256(config: RunConfig) -> str:
    """What experts' training depends on: another version of this package may train otherwise."""
    settings = subset_sha256(config, "family", "backbone", "adapter")
    return hashlib.sha256(f"{settings} {__version__}".encode()).hexdigest()


def _versions() -> dict[str, str]:
    libraries = ("flwr", "torch", "transformers", "peft", "numpy")
    return {"sglora-fed": __version__, **{name: version(name) for name in libraries}}


def zoo_path(config: RunConfig, seed: int) -> Path:
    """Where a run keeps its zoo: as configured, else by what it depends on."""
    if config.zoo.path:
        return Path(config.zoo.path).expanduser().absolute()
    key = _training_sha256(config)[:12]
    tasks = known_tasks_sha256(config.family)[:8]
    return home() / "zoos" / f"{config.family.name}-{key}{tasks}-seed{seed}"


def _enrol(federation: Federation, store: ZooStore, seed: int, progress: ProgressLog) -> None:
    def keep(reply: ExpertReply) -> None:
        store.add(Zoo(reply.ids, reply.wordings, reply.means, reply.variances, reply.examples))

    enrol(federation, seed, store.ids(), keep, progress.reporter("experts"))


def _fit(config: RunConfig, trainer: Trainer, record: _Record) -> dict[str, Generator]:
    """Every generator of the run by name, fitted to the zoo or trained in the federation."""
    wanted = [m for m in config.experiment.methods if m not in (*LOCAL_METHODS, SHARED_METHOD)]
    if config.generator.name not in wanted:
        wanted.append(config.generator.name)
    generators = {}
    for done, name in enumerate(wanted, 1):
        with record.timed("functional" if _federated(config, name) else "fit"):
            generators[name] = _fitted(config, trainer, name)
        trainer.reporter("generators")(done, len(wanted))
    return generators


def _federated(config: RunConfig, name: str) -> bool:
    return is_federated(make_generator(config.generator, name))


def _fitted(config: RunConfig, trainer: Trainer, name: str) -> Generator:
    if _federated(config, name):
        return trainer.functional()
    return fit_generator(config.generator, name, trainer.zoo, trainer.seed)


def _generate(
    config: RunConfig,
    generators: dict[str, Generator],
    requests: Requests,
    seed: int,
    record: _Record,
) -> dict[str, Generated]:
    """One adapter of every generator for each request."""
    found = {}
    for name, generator in generators.items():
        started = time.perf_counter()
        sample_seed = derive_seed(seed, "generate", name)
        found[name] = generator.generate(requests.embeddings, 1, sample_seed)
        record.method_seconds[name].append((time.perf_counter() - started) / len(requests.ids))
        if name == config.generator.name:
            record.stages["generate_per_adapter"] = record.method_seconds[name][-1]
    return found


def _keep_confidence(
    record: _Record, requests: Requests, made: Generated, chances: np.ndarray
) -> None:
    rows = np.stack([made.similarity, made.entropy, chances], axis=1)
    for client, row in zip(requests.ids, rows, strict=True):
        record.confidence[client].append(row)


def _derangement(count: int, seed: int) -> np.ndarray:
    """[count] a seeded permutation in which nobody keeps its own place (one long cycle)."""
    order = np.random.default_rng(derive_seed(seed, SHUFFLED)).permutation(count)
    places = np.empty(count, np.int64)
    places[order] = np.roll(order, 1)
    return places


def _keep(replies: list[AdoptReply], seed: int, record: _Record) -> None:
    for reply in replies:
        for client, split, values in zip(reply.ids, reply.splits, reply.values, strict=True):
            record.clients.add(client)
            record.rows += [
                Row(client, split, seed, method, metric, float(values[m, k]))
                for m, method in enumerate(reply.methods)
                for k, metric in enumerate(reply.metrics)
            ]
        for method, seconds in zip(reply.methods, reply.seconds.tolist(), strict=True):
            record.method_seconds[f"client:{method}"].append(seconds)
    record.rows.sort(key=lambda row: (row.seed, row.client, row.method, row.metric))


def _facts(config: RunConfig, record: _Record, federation: Federation, seconds: float) -> RunFacts:
    mechanism = make_mechanism(config.privacy, 1)
    down = 2 * federation.size
    methods = sorted({row.method for row in record.rows})
    sent = {m: 0 if m in LOCAL_METHODS and m not in STARTED else down for m in methods}
    return RunFacts(
        name=config.name,
        generator=config.generator.name,
        seeds=config.seeds,
        seconds=seconds,
        config_sha256=config_sha256(config),
        versions=_versions(),
        experts=record.experts,
        clients=len(record.clients),
        virtual_clients_per_node=-(-len(record.clients) // len(federation.nodes)),
        refused_replies=len(federation.refusals),
        distrusted_experts=record.distrusted,
        privacy={
            "mechanism": config.privacy.mechanism,
            "epsilon": mechanism.epsilon,
            "delta": mechanism.delta,
            "unit": "one description, local",
        },
        bytes_per_client={"up": record.bytes_up, "down": down},
        seconds_by_stage=dict(record.stages),
        seconds_by_method={m: _client_seconds(record, m) for m in methods},
        bytes_by_method=sent,
        confidence={
            name: tuple(np.mean(rows, axis=0).tolist()) for name, rows in record.confidence.items()
        },
        command=command(config),
    )


def _client_seconds(record: _Record, method: str) -> float:
    times = record.method_seconds[f"client:{method}"]
    return float(np.mean(times)) if times else 0.0
