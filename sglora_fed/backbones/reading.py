"""What a checkpoint's tokeniser makes of texts, without its model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from sglora_fed.errors import BackboneFileError, BackboneInputError
from sglora_fed.tasks.types import Item

TOKENIZER_FILE = "tokenizer.json"
MINILM = "all-MiniLM-L6-v2"

MINILM_SCALE = 20.0
"""Factor on its cosines where the configuration names none."""

MINILM_TOKENS = 256
"""Word pieces that MiniLM was trained for (its model card); longer texts are cut."""

CLIP_TOKENS = 77
"""Where config.json does not say it (Radford et al. 2021)."""

MARKS = 2
"""Places of a text that its two marks take."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One text as a model gets it.

    Attributes:
        pieces: ids of its word pieces, without marks, cut at the model's length.
        unknown: how many of them stand for something that the vocabulary lacks.
    """

    pieces: tuple[int, ...]
    unknown: int


class TextReader:
    """The tokeniser of a checkpoint.

    Args:
        folder: of the checkpoint.
        longest: word pieces that its model takes, marks included.

    Raises:
        BackboneFileError: when the tokeniser's files are missing or damaged.
    """

    def __init__(self, folder: Path, longest: int) -> None:
        self._longest = longest - MARKS
        if (folder / TOKENIZER_FILE).is_file():
            self._encode, self._unknown = _from_file(folder / TOKENIZER_FILE)
        else:
            self._encode, self._unknown = _from_transformers(folder)

    def read(self, texts: Sequence[str]) -> list[Reading]:
        """Each text's pieces."""
        cut = [tuple(row[: self._longest]) for row in self._encode(list(texts))] if texts else []
        return [Reading(row, row.count(self._unknown)) for row in cut]


def only_texts(items: Sequence[Item]) -> list[str]:
    """Items that must be texts.

    Raises:
        BackboneInputError: for a picture.
    """
    texts = [item for item in items if isinstance(item, str)]
    if len(texts) < len(items):
        raise BackboneInputError(f"{len(items) - len(texts)} items are pictures; texts are read")
    return texts


def text_length(folder: Path) -> int:
    """Word pieces, marks included, that a CLIP checkpoint's text tower takes.

    Raises:
        BackboneFileError: when its config.json cannot be read.
    """
    path = folder / "config.json"
    try:
        text = json.loads(path.read_bytes()).get("text_config") or {}
        return int(text.get("max_position_embeddings", CLIP_TOKENS))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise BackboneFileError(
            f"{path} cannot be read ({type(error).__name__}); fetch the checkpoint again"
        ) from error


def tokenizer_of(folder: Path) -> Any:
    """The tokenizer in a checkpoint's ``tokenizer.json``, of the tokenizers library.

    Raises:
        BackboneFileError: when the file cannot be read.
    """
    path = folder / TOKENIZER_FILE
    try:
        json.loads(path.read_bytes())
        return Tokenizer.from_file(str(path))
    # The library raises no class of its own.
    except Exception as error:
        raise BackboneFileError(
            f"{path} cannot be read ({type(error).__name__}); fetch the checkpoint again"
        ) from error


Encode = Callable[[list[str]], list[list[int]]]


def _from_file(path: Path) -> tuple[Encode, int]:
    """By the tokenizers library, which is imported in a hundredth of the time of transformers."""
    tokenizer = tokenizer_of(path.parent)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    unknown = getattr(tokenizer.model, "unk_token", None)
    number = tokenizer.token_to_id(unknown) if unknown else None

    def encode(texts: list[str]) -> list[list[int]]:
        rows: Any = tokenizer.encode_batch(texts, add_special_tokens=False)
        return [row.ids for row in rows]

    return encode, -1 if number is None else number


def _from_transformers(folder: Path) -> tuple[Encode, int]:
    """For a checkpoint with the files of older tokenisers alone (vocab.json, merges.txt)."""
    from sglora_fed.backbones.checkpoint import read_tokenizer

    tokenizer = read_tokenizer(folder)
    number = tokenizer.unk_token_id

    def encode(texts: list[str]) -> list[list[int]]:
        rows: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
        return rows

    return encode, -1 if number is None else int(number)
