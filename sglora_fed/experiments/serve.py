"""The standing service: zoo and generator are loaded once, nodes are served until it is stopped."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from flwr.serverapp import Grid

from sglora_fed.config.schema import RunConfig
from sglora_fed.errors import ResultsError
from sglora_fed.experiments.makers import LoadedMaker, load_maker
from sglora_fed.experiments.progress import ProgressLog
from sglora_fed.experiments.witness import ServiceWitness
from sglora_fed.federation.book import Book
from sglora_fed.federation.exchange import Federation
from sglora_fed.federation.roster import Roster
from sglora_fed.federation.visits import Service
from sglora_fed.files import private_files

BOOK = "nodes.sqlite"

STEP_SECONDS = 0.5

logger = logging.getLogger(__name__)


def serve_for_ever(config: RunConfig, grid: Grid, output: Path) -> Path:
    """Serve the nodes of a grid until the process is ended.

    Args:
        config: of the run; its first seed counts.
        grid: Flower's, or the in-process one.
        output: folder of the book of nodes, the log of events and the counters; a service that is
            started again with the same folder goes on where it was.

    Returns:
        Never.

    Raises:
        SgloraError: when zoo or generator cannot be read, or the folder cannot be written.
    """
    return serve_while(config, grid, output, lambda _: True, _pause)


def serve_while(
    config: RunConfig,
    grid: Grid,
    output: Path,
    wanted: Callable[[Service], bool],
    pause: Callable[[], None],
) -> Path:
    """Serve nodes as long as it is wanted, looking at them between pauses; else as above."""
    with private_files(), closing(_witness(output)) as witness:
        maker = load_maker(config)
        logger.info("serving %s of %s", maker.generator.name, maker.sha256[:16])
        with closing(Book(output / BOOK, config.federation)) as book:
            service = Service(_federation(config, grid, maker, output), maker, book, witness)
            try:
                while wanted(service):
                    service.step()
                    witness.write_counters(service.online, service.in_flight)
                    pause()
            finally:
                witness.write_counters(0, service.in_flight, at_once=True)
    return output


def _witness(folder: Path) -> ServiceWitness:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return ServiceWitness(folder)
    except OSError as error:
        raise ResultsError(f"{folder} cannot be written: {error.strerror}") from error


def _pause() -> None:
    time.sleep(STEP_SECONDS)


def _federation(config: RunConfig, grid: Grid, maker: LoadedMaker, output: Path) -> Federation:
    """Without nodes of its own: whoever is there is asked."""
    return Federation(
        grid=grid,
        nodes=(),
        config=config,
        layout=maker.layout,
        dim=maker.dim,
        seed=config.seeds[0],
        reporter=ProgressLog(output / "progress.jsonl").reporter,
        roster=Roster(config.federation),
    )
