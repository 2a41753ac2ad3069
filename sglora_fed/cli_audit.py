"""The command ``sglora-fed audit``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from sglora_fed.cli_output import console, say
from sglora_fed.errors import AuditError, RefutedError

if TYPE_CHECKING:
    from sglora_fed.privacy.audit import Verdict

EPSILONS = (1.0, 4.0, 8.0)
ON_EMBEDDINGS = ("none", "gaussian", "privunit", "projected_gaussian", "projected_privunit")
ON_PLACES = ("krr", "subset")
NOTHING_LEARNT = ("local", "shares, first server", "shares, second server")
ONE_RUN = "dp_sgd"
FIXED = ("none", *NOTHING_LEARNT)
"""What they claim is not chosen."""


def audit(
    mechanisms: Annotated[
        list[str] | None, typer.Argument(help="Names, or nothing for all, plug-ins' as well.")
    ] = None,
    epsilon: Annotated[
        list[float] | None, typer.Option(help="Claimed; again for more; 1, 4 and 8 if not given.")
    ] = None,
    delta: Annotated[float, typer.Option(help="Claimed by mechanisms that have one.")] = 1e-6,
    draws: Annotated[
        int,
        typer.Option(help="Releases of each of two inputs; of dp_sgd, one run."),
    ] = 100_000,
    confidence: Annotated[float, typer.Option(help="With which a bound holds.")] = 0.99,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="File for the numbers of the table.")
    ] = None,
) -> None:
    """Draw from each mechanism and put what that proves beside what it claims.

    The exit code is 1 when a claim is refuted. A bound below the claim proves no privacy; it says
    that so many draws show nothing against it.
    """
    chosen = _checked(mechanisms or [], json_file)
    claims = tuple(epsilon or EPSILONS)
    found = list(_verdicts(chosen, claims, delta, draws, confidence))
    console.print(_table(found, confidence))
    if json_file is not None:
        from sglora_fed.files import write_atomically

        text = json.dumps([asdict(one) for one in found], indent=1)
        write_atomically(json_file, text.encode() + b"\n")
        say(str(json_file.absolute()))
    broken = [f"{v.mechanism} at epsilon {v.claimed_epsilon:g}" for v in found if v.broken]
    if broken:
        raise RefutedError(", ".join(broken))


def _checked(names: list[str], json_file: Path | None) -> list[str]:
    """The mechanisms to audit; what cannot be is refused before anything is imported or drawn."""
    from sglora_fed.config.plugins import load_plugins
    from sglora_fed.config.schema import MECHANISMS

    load_plugins()
    known = [*ON_EMBEDDINGS, *ON_PLACES, *NOTHING_LEARNT, ONE_RUN]
    known += sorted(set(MECHANISMS) - {*known, "shares"})
    names = [one for name in names for one in (NOTHING_LEARNT[1:] if name == "shares" else (name,))]
    if unknown := [name for name in names if name not in known]:
        raise AuditError(f"unknown mechanism {unknown[0]!r}; there are {known}")
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise AuditError(f"--json {json_file}: no such folder")
    if json_file is not None and json_file.is_dir():
        raise AuditError(f"--json {json_file}: a folder; name a file in it")
    return names or known


def _verdicts(
    names: list[str], epsilons: tuple[float, ...], delta: float, draws: int, confidence: float
) -> Iterator[Verdict]:
    from sglora_fed.privacy.audit import audit as by_many
    from sglora_fed.privacy.audit import subject

    subjects = [
        subject(name, epsilon, delta)
        for name in names
        if name != ONE_RUN
        for epsilon in (epsilons if name not in FIXED else epsilons[:1])
    ]
    columns = (TextColumn("{task.description:30}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        for one in subjects:
            claim = "" if one.mechanism.epsilon is None else f" {one.mechanism.epsilon:g}"
            bar = progress.add_task(f"{one.name}{claim}", total=None)

            def report(done: int, of: int, bar: TaskID = bar) -> None:
                progress.update(bar, completed=done, total=of)

            yield by_many(one, draws, confidence, report)
    if ONE_RUN in names:
        from sglora_fed.privacy.audit.dp_sgd import audit_dp_sgd

        yield from (audit_dp_sgd(epsilon, confidence) for epsilon in epsilons)


def _table(found: list[Verdict], confidence: float) -> Table:
    share = f"{100 * confidence:g} %"
    table = Table("mechanism", "claimed", "delta", f"at least, {share} sure", "draws", "claim")
    for one in found:
        claimed = "nothing" if one.claimed_epsilon is None else f"{one.claimed_epsilon:g}"
        state = "none" if one.claimed_epsilon is None else "REFUTED" if one.broken else "stands"
        delta = f"{one.delta:g}" if one.delta else ""
        bound = f"{one.certified_epsilon:.3f}"
        table.add_row(escape(one.mechanism), claimed, delta, bound, f"{one.draws:,}", state)
    return table
