"""The command group ``sglora-fed zoo``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from sglora_fed.cli_output import console, say
from sglora_fed.files import new_folder

app = typer.Typer(help="Build a zoo of experts, or look at one.", no_args_is_help=True)

Overrides = Annotated[
    list[str] | None, typer.Argument(help="Hydra overrides, as for sglora-fed simulate")
]


@app.command("build")
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


@app.command("show")
def zoo_show(folder: Annotated[Path, typer.Argument(help="Folder of a zoo.")]) -> None:
    """What a zoo was made for and how many experts it holds."""
    from sglora_fed.adapters.layout import Layout
    from sglora_fed.zoo import read_store

    store = read_store(folder)
    shown = {
        "experts": len(store.ids()),
        "backbone": store.identity.backbone,
        "encoder": store.identity.encoder,
        "adapter_numbers": Layout.from_dict(store.identity.layout).size,
        "rank": store.identity.layout["rank"],
        "seed": store.identity.seed,
        "versions": dict(store.identity.versions),
    }
    console.print_json(data=shown, ensure_ascii=True)


@app.command("list")
def zoo_list(folder: Annotated[Path, typer.Argument(help="Folder of a zoo.")]) -> None:
    """The experts of a zoo."""
    import numpy as np

    from sglora_fed.zoo import read_store

    zoo = read_store(folder).load()
    table = Table("expert", "examples", "norm of mean", "mean deviation")
    for row, name in enumerate(zoo.ids):
        norm = float(np.linalg.norm(zoo.means[row]))
        deviation = float(np.sqrt(zoo.variances[row]).mean())
        table.add_row(escape(name), str(zoo.examples[row]), f"{norm:.3f}", f"{deviation:.2e}")
    console.print(table)


@app.command("verify")
def zoo_verify(folder: Annotated[Path, typer.Argument(help="Folder of a zoo.")]) -> None:
    """Check every file of a zoo: header, sha256, shapes and values."""
    from sglora_fed.zoo import read_store

    count = len(read_store(folder).load().ids)
    say(f"{count} experts, all files as written: {folder.absolute()}")
