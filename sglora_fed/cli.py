"""The command line: ``sglora-fed``.

Each command imports what it uses when it runs: help, and whatever is refused, take a moment.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sglora_fed import __version__, cli_audit, cli_client, cli_family, cli_serving, cli_zoo
from sglora_fed.cli_output import complain, console, say, warn
from sglora_fed.errors import ConfigError, PluginError, SgloraError
from sglora_fed.files import new_folder

if TYPE_CHECKING:
    from sglora_fed.config import RunConfig
    from sglora_fed.experiments.generate import Trust

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Hydra overrides, e.g. generator=sglora privacy=gaussian seeds=[0,1,2]"),
]


@app.command()
def simulate(
    overrides: Overrides = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the results.")] = None,
) -> None:
    """Run the whole loop in simulation: experts, zoo, generators, clients, report."""
    from sglora_fed.config import compose

    config = compose(overrides or [])
    from sglora_fed.experiments.checks import check_runnable

    check_runnable(config)
    from sglora_fed.launching.run import run_flower

    folder = output.absolute() if output else new_folder(Path("results"), config.name)
    with _can_go_on(folder):
        run_flower(config, overrides or [], folder, console)
    _show(folder)


@contextmanager
def _can_go_on(folder: Path) -> Iterator[None]:
    """Whoever stops a run hears how not to lose it."""
    try:
        yield
    except KeyboardInterrupt:
        warn(f"stopped; the same command with --output {folder} goes on where it was")
        raise


@app.command()
def sweep(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="As for simulate, with lists: generator=topk,ridge adapter.rank=2,4"),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Folder; runs finished there stay.")] = None,
) -> None:
    """Run every combination of listed values and put the runs side by side.

    With experiment=privacy, or privacy_assistant: the study of mechanisms by epsilon.
    """
    if {"experiment=privacy", "experiment=privacy_assistant"} & set(overrides or []):
        _study(overrides or [], output)
        return
    from sglora_fed.experiments.sweep import Combination, plan, run_sweep

    runs = plan(overrides or [])
    from sglora_fed.launching.run import run_flower
    from sglora_fed.report.sweep import PAGE, sweep_table

    default = f"sweep-{runs[0].config.name}"
    folder = output.absolute() if output else new_folder(Path("results"), default)

    def start(one: Combination, results: Path) -> None:
        say(f"{one.number} of {len(runs)}: {' '.join(one.swept) or one.folder}")
        run_flower(one.config, one.overrides, results, console)

    with _can_go_on(folder):
        console.print(sweep_table(run_sweep(runs, folder, start)))
    say(f"Report: {folder / PAGE}")
    say(str(folder))


def _study(overrides: list[str], output: Path | None) -> None:
    from sglora_fed.config import compose

    config = compose(overrides)
    from sglora_fed.experiments.privacy_study import points, run_study
    from sglora_fed.report.privacy import write_study

    folder = output.absolute() if output else new_folder(Path("results"), f"sweep-{config.name}")
    with _can_go_on(folder):
        settings = run_study(overrides, folder, say, points())
    say(f"Report: {write_study(folder, settings)}")
    say(str(folder))


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="Folder of a finished run.")]) -> None:
    """Draw the table, the figures and the page of a finished run again."""
    from sglora_fed.results.files import read_rows, read_summary
    from sglora_fed.results.gallery import read_gallery

    summary = read_summary(folder)
    from sglora_fed.report.page import write_report

    write_report(folder, summary, read_rows(folder), read_gallery(folder))
    _show(folder.absolute())


def _show(folder: Path) -> None:
    from sglora_fed.report.table import results_table
    from sglora_fed.results.files import PAGE, read_summary

    console.print(results_table(read_summary(folder)))
    say(f"Report: {folder / PAGE}")
    say(str(folder))


def _verdict(confidence: float) -> str:
    """What the default policy makes of a confidence."""
    from sglora_fed.generators.confidence import SURE

    word = "adopt" if confidence >= SURE else "fall back"
    return f"confidence {confidence:.2f} ({word}; the default policy falls back below {SURE})"


@app.command()
def generate(
    description: Annotated[str, typer.Argument(help="What the adapter should be for.")],
    out: Annotated[Path, typer.Option(help="Folder of the PEFT adapter to write.")],
    overrides: Overrides = None,
    zoo: Annotated[
        Path | None,
        typer.Option(help="Folder of a zoo; else the newest that fits the configuration."),
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="Folder of an exported generator, in place of a zoo.")
    ] = None,
) -> None:
    """Write a PEFT adapter for a description, from a zoo on disk or an exported generator."""
    from sglora_fed.config import compose

    config = compose(overrides or [])
    made = _made_alone(config, export, description, out) if export else None
    made = made or _made_from_zoo(config, zoo, description, out)
    if made.read_as is not None:
        say(f"read as: {made.read_as}")
    say(f"nearest expert similarity {made.similarity:.3f}, weight entropy {made.entropy:.3f} nats")
    if made.confidence is not None:
        say(_verdict(made.confidence))
    say(str(out.absolute()))


def _made_from_zoo(config: RunConfig, zoo: Path | None, description: str, out: Path) -> Trust:
    from sglora_fed.zoo import read_store

    store = read_store(zoo) if zoo else None
    from sglora_fed.experiments.generate import write_adapter
    from sglora_fed.experiments.zoos import newest_zoo
    from sglora_fed.kept.zoos import check_signed

    if store is None:
        store = newest_zoo(config)
        say(f"zoo {store.path}")
    check_signed(config, store)
    return write_adapter(config, store, description, out)


def _made_alone(config: RunConfig, export: Path, description: str, out: Path) -> Trust:
    from sglora_fed.generators.export import read_export

    found = read_export(export, config.zoo.key)
    from sglora_fed.experiments.generate import write_alone

    return write_alone(config, found, description, out)


# In the order in which help lists them.
app.command()(cli_audit.audit)
app.command()(cli_serving.serve)
app.command()(cli_client.run)
app.command()(cli_client.predict)
app.add_typer(cli_zoo.app, name="zoo")
app.add_typer(cli_family.app, name="family")
app.add_typer(cli_client.app, name="client")
app.add_typer(cli_client.certs, name="certs")


def _version(wanted: bool) -> None:
    if wanted:
        say(f"sglora-fed {__version__}, flwr {version('flwr')}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Of sglora-fed and Flower."
        ),
    ] = False,
) -> None:
    """Adapters for a frozen model from task descriptions, in a federation."""


def main() -> None:
    """Run the command line; our own errors become one line and a non-zero exit code."""
    try:
        app(standalone_mode=True)
    except SgloraError as error:
        complain(error)
        sys.exit(2 if isinstance(error, ConfigError | PluginError) else 1)
