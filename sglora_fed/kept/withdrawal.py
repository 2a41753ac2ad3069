"""Whatever was made with an expert is dropped when its owner withdraws it.

What is kept has a digest for a name, which does not tell what went in. So its facts lie beside it,
and for each zoo that something was made with, a list of its experts. What cannot be shown to be
made without the expert is dropped with the rest: nothing here is more than time saved.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from sglora_fed.config import home
from sglora_fed.errors import ResultsError, WithdrawalError, ZooSizeError
from sglora_fed.files import write_atomically
from sglora_fed.generators.export import export_manifest
from sglora_fed.kept.catalogues import KIND as CATALOGUES
from sglora_fed.kept.store import ALONE, FACTS
from sglora_fed.zoo import Zoo, ZooStore

EXPERTS = "experts"
"""Kind of the files that list a zoo's experts."""

APART = (ALONE, CATALOGUES, FACTS, EXPERTS)
"""Kinds that no expert has a part in, and those that tell who has."""

DIGITS = 64
"""Of a sha256, with which every name begins."""


def note_experts(zoo: Zoo) -> None:
    """Note who is in a zoo that something is made with.

    Raises:
        ResultsError: when the disk is full.
    """
    path = _experts_path(zoo.sha256)
    if not path.exists():
        write_atomically(path, json.dumps(zoo.fingerprints()).encode())


def withdraw(store: ZooStore, experts: Collection[str], exports: Sequence[Path]) -> list[Path]:
    """Take experts out of a zoo, once all that was made with them is deleted.

    Args:
        store: of the zoo.
        experts: their names there.
        exports: folders of exported generators; those that the experts have no part in stay.

    Returns:
        What was deleted besides the experts' own numbers.

    Raises:
        ZooSizeError: for an expert that is not in the zoo; nothing is deleted then.
        ExportError: when an export cannot be read; nothing is deleted then.
        ResultsError: when something cannot be deleted; the experts are in the zoo still, and the
            same call may be made again.
    """
    if missing := set(experts) - set(store.ids()):
        raise ZooSizeError(f"{store.path} has no experts {sorted(missing)}; nothing was removed")
    found = store.load().fingerprints()
    gone = {found[name] for name in experts}
    made = [path for path in exports if gone & set(export_manifest(path)["experts"])]
    dropped = drop_made_with(gone)
    for path in made:
        _delete(path)
    store.remove(experts)
    return [*dropped, *made]


def check_without(folder: Path, inside: Collection[str], gone: Collection[str]) -> None:
    """Check that withdrawn experts have no part in a zoo or an export.

    Args:
        folder: of it.
        inside: fingerprints of its experts.
        gone: fingerprints of those that must not be in it.

    Raises:
        WithdrawalError: for one that is.
    """
    if still := sorted(set(gone) & set(inside)):
        raise WithdrawalError(f"{folder} holds {', '.join(still)}")


def drop_made_with(fingerprints: Collection[str]) -> list[Path]:
    """Delete all under the home folder that some experts have a part in, or may have.

    Args:
        fingerprints: of the experts (:meth:`~sglora_fed.zoo.Zoo.fingerprints`).

    Returns:
        What was deleted.

    Raises:
        ResultsError: when something cannot be deleted.
    """
    dropped = [path for path in _made() if not _made_without(path, set(fingerprints))]
    listed = [path for path in _files(EXPERTS) if not _without(path, set(fingerprints))]
    # The lists last: should this end early, the next call still knows what to drop.
    for path in (*dropped, *listed):
        _delete(path)
    return dropped


def _made() -> Iterator[Path]:
    """All that is kept, of whatever kind, that experts may have a part in."""
    for kind in sorted((home() / "kept").glob("*")):
        if kind.name not in APART:
            yield from _files(kind.name)
    yield from _files(FACTS)


def _made_without(path: Path, fingerprints: set[str]) -> bool:
    zoos = _zoos(home() / "kept" / FACTS / f"{path.name[:DIGITS]}.json")
    return bool(zoos) and all(_without(_experts_path(zoo), fingerprints) for zoo in zoos)


def _zoos(facts: Path) -> list[str]:
    """Hashes of the zoos that something was made with; none where nothing is known."""
    return list(_named_zoos(_read(facts)))


def _named_zoos(values: Any) -> Iterator[str]:
    if not isinstance(values, dict):
        return
    for name, value in values.items():
        if name == "zoo" and isinstance(value, str):
            yield value
        else:
            yield from _named_zoos(value)


def _without(listed: Path, fingerprints: set[str]) -> bool:
    """Whether a list of experts is there and has none of these."""
    experts = _read(listed)
    return bool(experts) and not fingerprints & set(map(str, experts.values()))


def _read(path: Path) -> dict[str, Any]:
    """A file's JSON object; empty where there is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _files(kind: str) -> list[Path]:
    return sorted((home() / "kept" / kind).glob("*"))


def _experts_path(sha256: str) -> Path:
    return home() / "kept" / EXPERTS / f"{sha256}.json"


def _delete(path: Path) -> None:
    try:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    except OSError as error:
        raise ResultsError(f"{path} cannot be deleted: {error.strerror}") from error
