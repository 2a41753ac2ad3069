"""Finished runs for a tracker, which is asked whether it will take them before a run starts."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sglora_fed.config import home
from sglora_fed.config.schema import RunConfig, TrackingConfig
from sglora_fed.errors import ResultsError, TrackingError
from sglora_fed.experiments.reproduce import flat
from sglora_fed.results.files import CONFIG, PAGE, SUMMARY, read_summary

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

Entry = TypeVar("Entry")

EXPERIMENT = "sglora-fed"
"""What MLflow calls all our runs together; each has its own name in it."""

AT_ONCE = 100
"""Entries of one request: MLflow takes 100 parameters and 1,000 metrics."""

LETTERS = 6000
"""Of a parameter's value, as MLflow keeps it."""


@dataclass(frozen=True)
class Tracker:
    """A store of MLflow that answered.

    Attributes:
        client: of the store.
        experiment: id of :data:`EXPERIMENT`.
    """

    client: MlflowClient
    experiment: str


def check_tracking(config: TrackingConfig) -> None:
    """Refuse a tracker that is not installed; imports nothing.

    Raises:
        TrackingError: naming what to install.
    """
    if config.name == "mlflow" and find_spec("mlflow") is None:
        raise TrackingError(
            "tracking=mlflow: mlflow is not installed; pip install 'sglora-fed[tracking]'"
        )


def open_tracker(config: TrackingConfig) -> Tracker | None:
    """The configured tracker, once it has shown that it answers.

    Raises:
        TrackingError: when it is not installed or does not answer.
        ResultsError: when its folder below the home folder cannot be made.
    """
    check_tracking(config)
    if config.name == "none":
        return None
    # What people do with their models is nobody else's business.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    uri, artifacts = (config.uri, None) if config.uri else _own_store()
    with _refusals(uri):
        client = MlflowClient(uri)
        found = client.get_experiment_by_name(EXPERIMENT)
        known = found.experiment_id if found else client.create_experiment(EXPERIMENT, artifacts)
    return Tracker(client, known)


def _own_store() -> tuple[str, str]:
    """Address and place for files of the store below the home folder.

    A database in one file, since MLflow takes no runs into folders any longer.
    """
    folder = home() / "tracking"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultsError(f"{folder} cannot be made: {error.strerror or error}") from error
    return f"sqlite:///{folder / 'mlflow.db'}", (folder / "artifacts").as_uri()


def track(tracker: Tracker | None, config: RunConfig, folder: Path) -> None:
    """Tell a tracker of a finished run, in the numbers of its summary.

    Args:
        tracker: from :func:`open_tracker`; None tells nobody.
        config: of the run; its options become parameters.
        folder: of the results; page, summary and configuration become artefacts.

    Raises:
        TrackingError: when the tracker refuses them; the results in the folder are whole.
        ResultsError: when the folder has no summary.
    """
    if tracker is None:
        return
    summary = read_summary(folder)
    with _refusals(f"the results in {folder} are whole, but the tracker"):
        run = tracker.client.create_run(tracker.experiment, run_name=config.name).info.run_id
        for some in _batches(parameters(config)):
            tracker.client.log_batch(run, params=some)
        for more in _batches(metrics(summary)):
            tracker.client.log_batch(run, metrics=more)
        for name in (PAGE, SUMMARY, CONFIG):
            tracker.client.log_artifact(run, str(folder / name))
        tracker.client.set_terminated(run)


def parameters(config: RunConfig) -> list[Param]:
    """Every option by its dotted name."""
    from mlflow.entities import Param

    return [Param(name, str(value)[:LETTERS]) for name, value in flat(asdict(config)).items()]


def metrics(summary: Mapping[str, Any]) -> list[Metric]:
    """Means as ``method/split/metric``, and the ends of their intervals behind that."""
    from mlflow.entities import Metric

    values: dict[str, float] = {}
    for result in summary["results"]:
        name = f"{result['method']}/{result['split']}/{result['metric']}"
        values[name] = result["mean"]
        if result["ci95"] is not None:
            values |= zip((f"{name}/low", f"{name}/high"), result["ci95"], strict=True)
    now = time.time_ns() // 1_000_000
    return [Metric(name, value, now, 0) for name, value in values.items()]


def _batches(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    return (entries[start : start + AT_ONCE] for start in range(0, len(entries), AT_ONCE))


@contextmanager
def _refusals(who: str) -> Iterator[None]:
    """Whatever a store fails with is told as one error of ours."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise TrackingError(f"{who}: {str(error).splitlines()[0]}") from error
