"""``node.toml``: who a node is, what it wants, what it promises itself.

::

    [node]
    name = "kitchen"                       # what its one client is called in messages
    description = "My camera hangs upside down."
    captions = ["a red circle", "a blue square"]     # or the table [node.labels]
    data = "tasks"                         # optional: a task family of one task, to measure on
    adapter = "adapter"                    # where the adapter is put

    [privacy]                              # sglora_fed.privacy.floor

Relative names lie beside the file.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sglora_fed.errors import NodeFileError
from sglora_fed.files import read_bounded
from sglora_fed.tasks.types import IDENTIFIER
from sglora_fed.tasks.visible import is_visible

TABLE = "node"
FILE = "node.toml"

BARE = re.compile("[A-Za-z0-9_-]+")
"""Keys that TOML takes without quotes."""

LARGEST_FILE = 2**20
"""Bytes of a node's file."""


@dataclass(frozen=True)
class OwnNode:
    """A node that carries one client: its owner.

    Attributes:
        file: its own; its state lies beside it.
        description: what the adapter is to be for.
        name: of its client.
        labels: label key -> candidate text, for a prediction; empty for captions.
        captions: candidate captions of pictures, for a prediction.
        data: folder of a task family of one task, on which an adapter is measured, or None.
        adapter: name that points to the adapter in use; a link, put there by the first adoption.

    Raises:
        NodeFileError: for a name that is no identifier, or texts of which nothing is visible.
    """

    file: Path
    description: str
    name: str = "owner"
    labels: Mapping[str, str] = field(default_factory=dict)
    captions: tuple[str, ...] = ()
    data: Path | None = None
    adapter: Path = Path("adapter")

    def __post_init__(self) -> None:
        if not IDENTIFIER.fullmatch(self.name):
            raise NodeFileError(f"name={self.name!r}; need 1 to 64 letters, digits and ._- only")
        if not is_visible(self.description):
            raise NodeFileError("the description is empty")
        if self.labels and self.captions:
            raise NodeFileError("labels and captions are both given; a task has one of them")
        if (texts := self.texts) and (len(texts) < 2 or not all(map(is_visible, texts))):
            raise NodeFileError(f"{len(texts)} labels or captions; need two or more, none empty")
        if not self.adapter.is_absolute():
            object.__setattr__(self, "adapter", self.folder / self.adapter)

    @property
    def folder(self) -> Path:
        """In which its file and its state lie."""
        return self.file.parent

    @property
    def texts(self) -> tuple[str, ...]:
        """The candidate texts of a prediction."""
        return self.captions or tuple(self.labels.values())

    @property
    def description_sha256(self) -> str:
        """Which words an adapter was made for; stays on the node."""
        return hashlib.sha256(self.description.encode()).hexdigest()


def is_own(path: Path) -> bool:
    """Whether a node's file makes it a node of one's own; else it only limits what it releases.

    Raises:
        NodeFileError: when the file cannot be read.
    """
    return TABLE in _values(path)


def read_node(path: Path) -> OwnNode:
    """The node that a file describes.

    Raises:
        NodeFileError: when it cannot be read, lacks the table, or holds something wrong.
    """
    values, path = _values(path).get(TABLE), path.absolute()
    if not isinstance(values, dict):
        raise NodeFileError(f"{path} has no table [{TABLE}]")
    known = set(OwnNode.__dataclass_fields__) - {"file"}
    if unknown := sorted(set(values) - known):
        raise NodeFileError(f"{path}: [{TABLE}] has {unknown}; it may have {sorted(known)}")
    try:
        return OwnNode(path, **_checked(values, path.parent))
    except NodeFileError as error:
        raise NodeFileError(f"{path}: {error.args[0]}") from error


def _checked(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The fields of an ``OwnNode``, each of its type."""
    found: dict[str, Any] = {"description": ""}
    for name, value in values.items():
        if name == "labels":
            found[name] = _labels(value)
        elif name == "captions":
            found[name] = _captions(value)
        elif not isinstance(value, str):
            raise NodeFileError(f"{name}={value!r}; need text")
        else:
            path = name in ("data", "adapter")
            found[name] = folder / Path(value).expanduser() if path else value
    return found


def _labels(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise NodeFileError(f"labels={value!r}; need a table of texts")
    return value


def _captions(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise NodeFileError(f"captions={value!r}; need a list of texts")
    return tuple(value)


def _values(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_bounded(path, LARGEST_FILE))
    except OSError as error:
        hint = "; client init makes it" if isinstance(error, FileNotFoundError) else ""
        raise NodeFileError(f"{path} cannot be read: {error.strerror}{hint}") from error
    except (ValueError, RecursionError) as error:
        raise NodeFileError(f"{path} cannot be read: {error}") from error


def node_toml(node: OwnNode, privacy: Mapping[str, Any]) -> str:
    """The file of a node, as :func:`read_node` reads it.

    Args:
        node: to be described.
        privacy: the table ``[privacy]``: texts, numbers, lists of texts.
    """
    given: dict[str, Any] = {"name": node.name, "description": node.description}
    if node.captions:
        given["captions"] = list(node.captions)
    if node.data:
        given["data"] = str(node.data)
    given["adapter"] = _beside(node.adapter, node.folder)
    tables = {TABLE: given, f"{TABLE}.labels": node.labels, "privacy": privacy}
    return "\n".join(_table(name, values) for name, values in tables.items() if values)


def _beside(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def _table(name: str, values: Mapping[str, Any]) -> str:
    keys = [key if BARE.fullmatch(key) else _quoted(key) for key in values]
    lines = [f"{key} = {_quoted(value)}" for key, value in zip(keys, values.values(), strict=True)]
    return "\n".join([f"[{name}]", *lines, ""])


def _quoted(value: Any) -> str:
    """A text, a number or a list in TOML: JSON but for one control character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
