"""Reading a data set of the hub, or a copy of it on disk (extra ``hub``)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sglora_fed.errors import TaskFileError


def open_parts(
    source: str, name: str | None, revision: str, path: str | None
) -> tuple[Mapping[str, Any], str]:
    """The parts of a data set, and how messages call it.

    Args:
        source: id on the hub.
        name: of the data set's configuration, or None.
        revision: commit on the hub.
        path: a folder written by ``save_to_disk``, which is read instead.

    Raises:
        TaskFileError: when ``datasets`` is not installed, or the data set cannot be had or has no
            parts.
    """
    where = path or f"{source} at revision {revision[:7]}"
    try:
        import datasets
    except ImportError as error:
        raise TaskFileError("family=hub needs pip install 'sglora-fed[hub]'") from error
    try:
        if path:
            found = datasets.load_from_disk(path)
        else:
            found = datasets.load_dataset(source, name, revision=revision)
    # RuntimeError: how `datasets` refuses loading scripts.
    except (OSError, ValueError, RuntimeError) as error:
        raise TaskFileError(
            f"{where} cannot be loaded ({type(error).__name__}); without a network give"
            " family.path, a folder written by save_to_disk"
        ) from error
    if not isinstance(found, Mapping):
        raise TaskFileError(f"{where} has one table; need the parts of a DatasetDict")
    return found, where


def check_columns(
    features: Mapping[str, Any], wanted: Collection[str], part: str, where: str
) -> None:
    """Refuse a part that lacks some fields.

    Raises:
        TaskFileError: naming them, and what there is.
    """
    if missing := sorted(set(wanted) - set(features)):
        raise TaskFileError(f"{where}: {part} lacks the fields {missing}; has {list(features)}")


def class_names(features: Mapping[str, Any], label: str, part: str, where: str) -> list[str]:
    """What the numbers in a field stand for.

    Raises:
        TaskFileError: when the field holds something else.
    """
    names: list[str] | None = getattr(features[label], "names", None)
    if names is None:
        raise TaskFileError(
            f"{where}: field {label!r} of {part} is {features[label]}; need a ClassLabel"
        )
    return names
