"""The command group ``sglora-fed zoo``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from sglora_fed.cli_output import console, say
from sglora_fed.files import new_folder

app = typer.Typer(
    help="Build a zoo of experts, look at one, keep it in operation.", no_args_is_help=True
)

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
        "promises": store.promises(),
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
def zoo_verify(
    folder: Annotated[Path, typer.Argument(help="Folder of a zoo, or of an exported generator.")],
    key: Annotated[
        Path | None, typer.Option(help="Public key (PEM) that must have signed the manifest.")
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(help="An expert that must have no part in it: fingerprint; repeatable."),
    ] = None,
) -> None:
    """Check every file of a zoo: header, sha256, shapes and values; with --key who signed it."""
    from sglora_fed.generators.export import (
        GENERATOR,
        export_manifest,
        read_export,
        signable_export,
    )
    from sglora_fed.kept.withdrawal import check_without
    from sglora_fed.zoo import read_store

    if (folder / GENERATOR).exists():
        signable = signable_export(folder, export_manifest(folder))
        experts, what = read_export(folder, key).about.experts, "generator of "
    else:
        store = read_store(folder)
        signable, what = store.signable(), ""
        experts = tuple(store.load().fingerprints().values())
    signed = ""
    if key is not None:
        from sglora_fed.zoo.signing import check_signature

        found = check_signature(signable, key)
        signed = f", signed {found.date} (serial {found.serial})"
    check_without(folder, experts, without or [])
    say(f"{what}{len(experts)} experts, all files as written: {folder.absolute()}{signed}")


@app.command("sign")
def zoo_sign(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders of zoos, or of exported generators.")
    ],
    key: Annotated[Path, typer.Option(help="Ed25519 private key (PEM, no password).")],
) -> None:
    """Sign manifests, once every file was checked; a change or a newer signature ends it."""
    from sglora_fed.generators.export import (
        GENERATOR,
        export_manifest,
        read_export,
        signable_export,
    )
    from sglora_fed.zoo import read_store
    from sglora_fed.zoo.signing import SIGNATURE, sign

    manifests = []
    for folder in folders:
        if (folder / GENERATOR).exists():
            read_export(folder)
            manifests.append(signable_export(folder, export_manifest(folder)))
        else:
            store = read_store(folder)
            store.load()
            manifests.append(store.signable())
    made = sign(manifests, key)
    for folder in folders:
        say(str((folder / SIGNATURE).absolute()))
    say(f"signed {made.date} (serial {made.serial})")


@app.command("add")
def zoo_add(
    folder: Annotated[Path, typer.Argument(help="Folder of a zoo.")],
    expert: Annotated[str, typer.Argument(help="Name of the expert in the zoo.")],
    peft: Annotated[
        list[Path], typer.Option(help="PEFT folder of one of its last steps; repeatable.")
    ],
    description: Annotated[list[str], typer.Option(help="A wording of its task; repeatable.")],
    owner: Annotated[str, typer.Option(help="Who answers for it: has one voice.")],
    examples: Annotated[int, typer.Option(help="That it was trained on.", min=1)],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="A Hydra override; repeatable.")
    ] = None,
) -> None:
    """Add an expert that was trained elsewhere, from the federation's common start."""
    from sglora_fed.config import compose
    from sglora_fed.zoo import read_store

    config, store = compose(overrides or []), read_store(folder)
    from sglora_fed.experiments.addition import Newcomer, add_expert

    add_expert(config, store, Newcomer(expert, tuple(peft), tuple(description), owner, examples))
    say(f"{len(store.ids())} experts: {folder.absolute()}")


@app.command("remove")
def zoo_remove(
    folder: Annotated[Path, typer.Argument(help="Folder of a zoo.")],
    experts: Annotated[list[str], typer.Argument(help="Names of experts, as in zoo list.")],
    export: Annotated[
        list[Path] | None, typer.Option(help="An exported generator that may hold them; repeatable")
    ] = None,
) -> None:
    """Withdraw experts: their numbers, and all that was made with them, are deleted."""
    from sglora_fed.zoo import read_store

    store = read_store(folder)
    from sglora_fed.kept.withdrawal import withdraw

    gone = store.load().fingerprints()
    for line in _deleted(withdraw(store, experts, export or [])):
        say(line)
    for name in experts:
        say(f"withdrawn {name}, fingerprint {gone[name]}")
    say(f"{len(experts)} experts withdrawn from {folder.absolute()}; {len(store.ids())} are left")


def _deleted(paths: Iterable[Path]) -> list[str]:
    """A line for each folder: simulated clients have trained hundreds of files."""
    inside: dict[Path, list[Path]] = {}
    for path in paths:
        inside.setdefault(path.parent, []).append(path)
    return [
        f"deleted {found[0]}" if len(found) == 1 else f"deleted {len(found)} files in {folder}"
        for folder, found in inside.items()
    ]


@app.command("export")
def zoo_export(
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    overrides: Overrides = None,
    zoo: Annotated[
        Path | None,
        typer.Option(help="Folder of a zoo; else the newest that fits the configuration."),
    ] = None,
) -> None:
    """Write the configured generator, trained, as a folder to serve or to use alone."""
    from sglora_fed.config import compose
    from sglora_fed.zoo import read_store

    config = compose(overrides or [])
    store = read_store(zoo) if zoo else None
    from sglora_fed.experiments.export import export_generator
    from sglora_fed.experiments.zoos import newest_zoo
    from sglora_fed.kept.zoos import check_signed

    store = store or newest_zoo(config)
    check_signed(config, store)
    about = export_generator(config, store, out)
    used, all_of_them = len(about.experts), len(store.ids())
    of = f"{used}" if used == all_of_them else f"{used} of {all_of_them}"
    say(f"{config.generator.name} of {of} experts, zoo {store.path}")
    say(str(out.absolute()))
