"""The command ``sglora-fed serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sglora_fed.cli_output import warn

COUNTS = "endpoint.sqlite"
"""Below the home folder: what clients have released to whichever endpoint there."""


def serve(
    export: Annotated[Path, typer.Argument(help="Folder of a generator, from zoo export.")],
    certificate: Annotated[
        Path | None, typer.Option("--cert", help="The endpoint's certificate (PEM).")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="Its private key (PEM, no password).")] = None,
    authority: Annotated[
        Path | None, typer.Option("--ca", help="Authority of the clients' certificates (PEM).")
    ] = None,
    revoked: Annotated[
        Path | None, typer.Option("--crl", help="The authority's list of revoked ones (PEM).")
    ] = None,
    signer: Annotated[
        Path | None, typer.Option(help="Public key (PEM) that must have signed the export.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at; 0 for any.")] = 8443,
    rate: Annotated[float, typer.Option(help="Requests a second of one client.")] = 20.0,
    epsilon: Annotated[
        float | None,
        typer.Option(help="That a different request of a client counts as; with --total-epsilon."),
    ] = None,
    total_epsilon: Annotated[
        float | None,
        typer.Option(help="Of all different requests of one client, ever; others are refused."),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Plain HTTP, for anybody on this machine.")
    ] = False,
    page: Annotated[
        bool, typer.Option("--page", help="A page at / that shows what an adapter changes.")
    ] = False,
) -> None:
    """Answer requests for adapters over HTTPS until told to stop; clients show certificates."""
    from sglora_fed.generators.export import export_manifest, read_export

    export_manifest(export)
    from sglora_fed.config import home
    from sglora_fed.errors import ConfigError
    from sglora_fed.serving.limits import Budget, Limits
    from sglora_fed.serving.run import Where, serve_export
    from sglora_fed.serving.tls import files_of

    files = files_of(certificate, key, authority, revoked, insecure=insecure)
    where = Where(host, port, files)
    if (epsilon is None) != (total_epsilon is None):
        raise ConfigError(["give --epsilon and --total-epsilon, or none of them"])
    budget = None
    if epsilon is not None and total_epsilon is not None:
        budget = Budget(epsilon, total_epsilon, home() / COUNTS)
    found = read_export(export, signer)
    if insecure:
        warn("plain HTTP: whoever uses this machine can ask, and read what others ask")
    serve_export(found, where, Limits(rate=rate, burst=max(1, round(2 * rate))), budget, page)
