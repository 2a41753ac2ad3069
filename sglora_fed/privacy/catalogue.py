"""The public list of descriptions that requests are snapped to.

Both sides must hold the same one: a place means nothing in another list. So a catalogue has a hash,
and the sides compare it before anything is drawn.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sglora_fed.errors import CatalogueError
from sglora_fed.files import read_bounded, write_atomically
from sglora_fed.units import off_unit

MOST = 65_535
"""Descriptions: their places travel as 16-bit numbers."""

LARGEST_FILE = 64 * 2**20
"""Bytes of a catalogue on disk."""

SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a character; JSON can name one alone."""


@dataclass(frozen=True)
class Catalogue:
    """Public descriptions in a fixed order.

    Attributes:
        name: of the family or of the file's author's choice.
        version: goes up when descriptions change.
        descriptions: k different sentences.
        paraphrases: for each description others that say the same, none or some; empty where no
            description has any. What tells the entries apart is learnt from them.

    Raises:
        CatalogueError: for fewer than two descriptions or too many, equal or blank ones, those that
            UTF-8 cannot hold, no name, or a version below 1.
    """

    name: str
    version: int
    descriptions: tuple[str, ...]
    paraphrases: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        count = len(self.descriptions)
        if not 2 <= count <= MOST:
            raise CatalogueError(f"{self.name!r}: {count} descriptions; need 2 to {MOST}")
        if len(self.paraphrases) not in (0, count):
            raise CatalogueError(f"{self.name!r}: paraphrases of {len(self.paraphrases)}, not all")
        texts = [text for entry in self.wordings for text in entry]
        if len(set(texts)) < len(texts) or not all(map(_says_something, texts)):
            raise CatalogueError(f"{self.name!r}: some descriptions are equal, blank or no text")
        if not self.name or self.version < 1:
            raise CatalogueError(f"{self.name!r}, version {self.version}; need a name and 1 or up")

    @property
    def wordings(self) -> list[tuple[str, ...]]:
        """For each entry its description and its paraphrases."""
        others = self.paraphrases or ((),) * len(self.descriptions)
        return [(text, *more) for text, more in zip(self.descriptions, others, strict=True)]

    @property
    def facts(self) -> dict[str, Any]:
        """As plain JSON values; without paraphrases there is no word of them."""
        listed = {"descriptions": list(self.descriptions)}
        more = {"paraphrases": [list(one) for one in self.paraphrases]} if self.paraphrases else {}
        return {"name": self.name, "version": self.version, **listed, **more}

    @property
    def sha256(self) -> str:
        """Of the canonical JSON: ASCII, keys in order, no blanks."""
        text = json.dumps(self.facts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("ascii")).hexdigest()


def _says_something(text: str) -> bool:
    return bool(text.strip()) and not SURROGATE.search(text)


def write_catalogue(catalogue: Catalogue, path: Path) -> None:
    """Write a catalogue as JSON.

    Raises:
        ResultsError: when the file cannot be written.
    """
    facts = {"schema": 1, **catalogue.facts}
    write_atomically(path, json.dumps(facts, indent=1, ensure_ascii=False).encode() + b"\n")


def read_catalogue(path: Path) -> Catalogue:
    """Read a catalogue from JSON.

    Raises:
        CatalogueError: when the file cannot be read or holds something else.
    """
    facts = _facts(path)
    names = {"schema", "name", "version", "descriptions"}
    if not names <= set(facts) <= names | {"paraphrases"} or facts["schema"] != 1:
        raise CatalogueError(f"{path}: need exactly {sorted(names)}, and schema 1")
    name, version, texts = facts["name"], facts["version"], facts["descriptions"]
    if type(name) is not str or type(version) is not int or not _are_texts(texts):
        raise CatalogueError(f"{path}: need a text, a whole number and a list of texts")
    others = facts.get("paraphrases", [])
    if type(others) is not list or not all(map(_are_texts, others)):
        raise CatalogueError(f"{path}: paraphrases are a list of texts for each description")
    return Catalogue(name, version, tuple(texts), tuple(map(tuple, others)))


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(type(text) is str for text in value)


def _facts(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(read_bounded(path, LARGEST_FILE))
    except (OSError, ValueError, RecursionError) as error:
        raise CatalogueError(f"{path} cannot be read: {error}") from error
    if not isinstance(facts, dict):
        raise CatalogueError(f"{path}: a JSON {type(facts).__name__}; need an object")
    return facts


def check_rows(rows: np.ndarray) -> None:
    """Refuse what is not the embeddings of a catalogue.

    Args:
        rows: [k, d].

    Raises:
        CatalogueError: unless they are 2 to 65,535 finite unit rows.
    """
    if not isinstance(rows, np.ndarray):
        raise CatalogueError(f"embeddings are a {type(rows).__name__}; need an array")
    if rows.ndim != 2 or rows.dtype.kind != "f" or not 2 <= len(rows) <= MOST:
        raise CatalogueError(
            f"embeddings {rows.dtype} of shape {rows.shape}; need floats (k, d), k from 2 to {MOST}"
        )
    if (norm := off_unit(rows)) is not None:
        raise CatalogueError(f"an embedding of the catalogue has norm {norm:g}; need 1")


def nearest(embedding: np.ndarray, rows: np.ndarray) -> int:
    """The place of the description that is nearest by cosine, the first of equals.

    Args:
        embedding: [d].
        rows: [k, d] unit rows.
    """
    return int((rows @ embedding / np.linalg.norm(rows, axis=1)).argmax())
