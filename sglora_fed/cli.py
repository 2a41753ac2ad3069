"""The command line: ``sglora-fed``.

Each command imports what it uses when it runs: help, and whatever is refused, take a moment.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sglora_fed import cli_family
from sglora_fed.errors import ConfigError, PluginError, SgloraError, ZooForeignError
from sglora_fed.files import new_folder

app = typer.Typer(
    help="Adapters for a frozen model from task descriptions, in a federation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
zoo_app = typer.Typer(help="Build a zoo of experts, or look at one.", no_args_is_help=True)
app.add_typer(zoo_app, name="zoo")
app.add_typer(cli_family.app, name="family")

console = Console()

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
    run_flower(config, overrides or [], folder, console)
    _show(folder)


@app.command()
def sweep(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="As for simulate, with lists: generator=topk,ridge adapter.rank=2,4"),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Folder; runs finished there stay.")] = None,
) -> None:
    """Run every combination of listed values and put the runs side by side."""
    from sglora_fed.experiments.sweep import Combination, plan, run_sweep

    runs = plan(overrides or [])
    from sglora_fed.launching.run import run_flower
    from sglora_fed.report.sweep import PAGE, sweep_table

    default = f"sweep-{runs[0].config.name}"
    folder = output.absolute() if output else new_folder(Path("results"), default)

    def start(one: Combination, results: Path) -> None:
        _say(f"{one.number} of {len(runs)}: {' '.join(one.swept) or one.folder}")
        run_flower(one.config, one.overrides, results, console)

    console.print(sweep_table(run_sweep(runs, folder, start)))
    _say(f"Report: {folder / PAGE}")
    _say(str(folder))


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="Folder of a finished run.")]) -> None:
    """Draw the table, the figures and the page of a finished run again."""
    from sglora_fed.results.files import read_results

    summary, rows = read_results(folder)
    from sglora_fed.report.page import write_report

    write_report(folder, summary, rows)
    _show(folder.absolute())


def _show(folder: Path) -> None:
    from sglora_fed.report.table import results_table
    from sglora_fed.results.files import read_results

    summary, _ = read_results(folder)
    console.print(results_table(summary))
    _say(f"Report: {folder / 'report.html'}")
    _say(str(folder))


def _verdict(confidence: float) -> str:
    """What the default policy makes of a confidence."""
    from sglora_fed.generators.confidence import SURE

    word = "adopt" if confidence >= SURE else "fall back"
    return f"confidence {confidence:.2f} ({word}; the default policy falls back below {SURE})"


def _say(line: str) -> None:
    """Print a line as it is: neither wrapped nor read as markup, so that a path can be copied."""
    console.print(line, soft_wrap=True, highlight=False, markup=False)


@app.command()
def generate(
    description: Annotated[str, typer.Argument(help="What the adapter should be for.")],
    zoo: Annotated[Path, typer.Option(help="Folder of a zoo.")],
    out: Annotated[Path, typer.Option(help="Folder of the PEFT adapter to write.")],
    overrides: Overrides = None,
) -> None:
    """Write a PEFT adapter for a description, from a zoo on disk."""
    from sglora_fed.config import compose
    from sglora_fed.zoo import read_store

    config, store = compose(overrides or []), read_store(zoo)
    import numpy as np

    from sglora_fed.adapters.layout import Layout
    from sglora_fed.adapters.peft_io import write_peft
    from sglora_fed.backbones import base_with, description_reader, load_describer
    from sglora_fed.experiments.kept import generator_for, kept_confidence, trusted_zoo
    from sglora_fed.experiments.words import check_known

    layout = Layout.from_dict(store.identity.layout)
    describer = load_describer(config.backbone)
    if describer.id != store.identity.encoder:
        raise ZooForeignError(
            f"{zoo} holds descriptions encoded by {store.identity.encoder};"
            f" backbone.path gives {describer.id}"
        )
    check_known("the description", description_reader(config.backbone).read([description]))
    check_known("the description", description_reader(config.backbone).read([description]))
    embedding = describer.encode([description])
    made = generator_for(config, store).generate(np.asarray(embedding), 1, store.identity.seed)
    kept = kept_confidence(config, store, trusted_zoo(store))
    base = base_with(config.backbone, store.identity.weights_sha256)
    write_peft(made.adapters[0, 0], layout, base, out)
    _say(
        f"nearest expert similarity {made.similarity[0]:.3f}, weight entropy"
        f" {made.entropy[0]:.3f} nats"
    )
    if kept:
        _say(_verdict(kept[0].of(made, kept[1])[0]))
    _say(str(out.absolute()))


@zoo_app.command("build")
def zoo_build(overrides: Overrides = None) -> None:
    """Train the experts of a configuration and keep their zoo; only those missing are trained."""
    from sglora_fed.config import compose, home
    from sglora_fed.tasks import load_family

    config = compose(overrides or [])
    load_family(config.family)
    from sglora_fed.launching.run import run_flower
    from sglora_fed.results.files import ZOOS

    output = new_folder(home() / "logs", "zoo")
    run_flower(config, overrides or [], output, console, goal="zoo")
    for folder in json.loads((output / ZOOS).read_text(encoding="utf-8")):
        zoo_verify(Path(folder))


@zoo_app.command("show")
def zoo_show(folder: Annotated[Path, typer.Argument(help="Folder of a zoo.")]) -> None:
    """What a zoo was made for and how many experts it holds."""
    from sglora_fed.adapters.layout import Layout
    from sglora_fed.zoo import read_store

    store = read_store(folder)
    console.print_json(
        json.dumps(
            {
                "experts": len(store.ids()),
                "backbone": store.identity.backbone,
                "encoder": store.identity.encoder,
                "adapter_numbers": Layout.from_dict(store.identity.layout).size,
                "rank": store.identity.layout["rank"],
                "seed": store.identity.seed,
                "versions": dict(store.identity.versions),
            }
        )
    )


@zoo_app.command("list")
def zoo_list(folder: Annotated[Path, typer.Argument(help="Folder of a zoo.")]) -> None:
    """The experts of a zoo."""
    import numpy as np

    from sglora_fed.zoo import read_store

    zoo = read_store(folder).load()
    table = Table("expert", "examples", "norm of mean", "mean deviation")
    for row, name in enumerate(zoo.ids):
        norm = float(np.linalg.norm(zoo.means[row]))
        deviation = float(np.sqrt(zoo.variances[row]).mean())
        table.add_row(name, str(zoo.examples[row]), f"{norm:.3f}", f"{deviation:.2e}")
    console.print(table)


@zoo_app.command("verify")
def zoo_verify(folder: Annotated[Path, typer.Argument(help="Folder of a zoo.")]) -> None:
    """Check every file of a zoo: header, sha256, shapes and values."""
    from sglora_fed.zoo import read_store

    count = len(read_store(folder).load().ids)
    _say(f"{count} experts, all files as written: {folder.absolute()}")


def main() -> None:
    """Run the command line; our own errors become one line and a non-zero exit code."""
    try:
        app(standalone_mode=True)
    except SgloraError as error:
        line = f"[bold red]error[/] {escape(str(error))}"
        Console(stderr=True).print(line, highlight=False, soft_wrap=True)
        sys.exit(2 if isinstance(error, ConfigError | PluginError) else 1)
