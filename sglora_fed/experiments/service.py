"""The service: descriptions in, one adapter for each client out, and nothing of the experiment."""

from __future__ import annotations

import json
from pathlib import Path

from flwr.serverapp import Grid

from sglora_fed.adapters.start import configured_start
from sglora_fed.config.schema import RunConfig
from sglora_fed.experiments.progress import ProgressLog
from sglora_fed.experiments.run import agreed, batches, enrolled, fitted, open_federation
from sglora_fed.federation.adopt import deliver
from sglora_fed.federation.describe import collect_requests
from sglora_fed.federation.making import make_for
from sglora_fed.federation.readings import check_catalogue
from sglora_fed.federation.shared import shared_lora
from sglora_fed.files import write_atomically
from sglora_fed.generators import generator_sha256, is_federated, make_generator
from sglora_fed.kept.zoos import trusted_zoo
from sglora_fed.results.files import ADOPTED


def serve_adapters(config: RunConfig, grid: Grid, output: Path) -> Path:
    """Give every client of the nodes the configured generator's adapter, which it keeps.

    Args:
        config: of the run; its first seed counts.
        grid: Flower's, or the in-process one.
        output: folder for the progress and for ``adopted.json``: how many clients keep an adapter.

    Returns:
        The folder.

    Raises:
        SgloraError: of any part.
    """
    check_catalogue(config)
    federation = open_federation(config, grid, ProgressLog(output / "progress.jsonl"))
    zoo, name = trusted_zoo(enrolled(federation)), config.generator.name
    if is_federated(make_generator(config.generator, name)):
        start = shared_lora(federation, zoo)
    else:
        start = configured_start(config, federation.layout, federation.seed)[0]
    generator = fitted(federation, zoo, start, name)
    agreement = agreed(federation, generator, zoo)
    requests, report = collect_requests(federation, agreement), federation.reporter("adopt")
    adopted, made_by = 0, generator_sha256(generator)
    for rows in batches(config, len(requests.names)):
        made = make_for(federation, {name: generator}, agreement, requests, rows)
        adopted += sum(map(len, deliver(federation, requests, rows, made, made_by).values()))
        report(adopted, len(requests.names))
    told = {"clients": len(requests.names), "adopted": adopted}
    write_atomically(output / ADOPTED, json.dumps(told).encode())
    return output
