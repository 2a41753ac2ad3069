"""Where a node keeps its adapter: whole and the old one, or whole and the new one, never between.

``adapter`` is a link to a PEFT folder beside it, whose name begins with a dot. A new folder is
written whole, then the link is replaced in one step of the file system. The folder before the last
stays, for whoever is just loading it.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from sglora_fed.adapters.layout import Layout
from sglora_fed.adapters.peft_io import write_peft
from sglora_fed.backbones.weights import BaseModel
from sglora_fed.edge.settings import OwnNode
from sglora_fed.errors import NodeFileError, ResultsError
from sglora_fed.files import write_atomically

ADOPTED = "adopted.json"
CONTACT = "contact.json"
SCHEMA = 1


def put(
    node: OwnNode, vector: np.ndarray, layout: Layout, base: BaseModel, told: Mapping[str, Any]
) -> None:
    """Replace the adapter in use.

    Args:
        node: whose adapter it is.
        vector: [D].
        layout: of the vector.
        base: the model that it belongs to.
        told: what ``adopted.json`` says besides the date.

    Raises:
        LayoutError, AdapterValueError: when the vector is unusable.
        NodeFileError: when something that is no link stands where the link should.
        ResultsError: when the disk is full. In all these cases the old adapter stays as it was.
    """
    link = node.adapter
    if link.exists() and not link.is_symlink():
        raise NodeFileError(f"{link} is no link to an adapter; move it away")
    folder = link.with_name(f".{link.name}-{secrets.token_hex(8)}")
    before = _target(link)
    try:
        write_peft(vector, layout, base, folder)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        text = json.dumps({"schema": SCHEMA, "date": now, **told}, indent=1)
        write_atomically(folder / ADOPTED, text.encode())
        _point(link, folder)
    except OSError as error:
        raise ResultsError(f"{link} cannot be replaced: {error.strerror or error}") from error
    finally:
        _tidy(link, {before, _target(link)})


def _point(link: Path, folder: Path) -> None:
    """Let the link name another folder, in one step that outlives a loss of power."""
    temporary = folder.with_name(f"{folder.name}.link")
    temporary.symlink_to(folder.name)
    os.replace(temporary, link)
    descriptor = os.open(link.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _target(link: Path) -> str | None:
    return os.readlink(link) if link.is_symlink() else None


def _tidy(link: Path, kept: set[str | None]) -> None:
    """Remove older folders, and what an adoption that was cut short has left."""
    for path in link.parent.glob(f".{link.name}-*"):
        if path.name not in kept:
            if path.is_symlink():
                path.unlink(missing_ok=True)
            else:
                shutil.rmtree(path, ignore_errors=True)


def adopted(node: OwnNode) -> dict[str, Any] | None:
    """What ``adopted.json`` says of the adapter in use; None before the first adoption.

    Raises:
        NodeFileError: when the file is damaged.
    """
    return _read(node.adapter / ADOPTED)


def note_contact(node: OwnNode, kind: str, outcome: str) -> None:
    """Note that the server has asked something, and what became of it.

    Raises:
        ResultsError: when the disk is full.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    values = {"date": now, "kind": kind, "outcome": outcome}
    write_atomically(node.folder / CONTACT, json.dumps(values).encode())


def last_contact(node: OwnNode) -> dict[str, Any] | None:
    """When the server asked last, and what; None when it never has.

    Raises:
        NodeFileError: when the file is damaged.
    """
    return _read(node.folder / CONTACT)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise NodeFileError(f"{path} cannot be read: {type(error).__name__}") from error
