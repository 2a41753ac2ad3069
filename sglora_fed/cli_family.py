"""The command group ``sglora-fed family``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sglora_fed.cli_output import say

app = typer.Typer(help="Task families.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Task families."""


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Folder to write.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Hydra overrides, e.g. family=cameras family.experts=12"),
    ] = None,
) -> None:
    """Write a family as data of your own look: family=local family.path=FOLDER reads it."""
    from sglora_fed.config import compose

    config = compose(overrides or [])
    from sglora_fed.privacy.catalogue import write_catalogue
    from sglora_fed.privacy.families import WITH_CATALOGUE, catalogue_of
    from sglora_fed.tasks import load_family
    from sglora_fed.tasks.export import write_family

    family = load_family(config.family)
    write_family(family, folder)
    if config.family.name in WITH_CATALOGUE:
        write_catalogue(catalogue_of(config.family.name), folder / "catalogue.json")
    experts, clients = (len(family.of_role(role)) for role in ("expert", "client"))
    say(f"{experts} experts and {clients} clients of {family.name}")
    say(str(folder.absolute()))
