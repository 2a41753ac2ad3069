"""What a few clients see and what methods make of it, for people to look at.

It holds clients' own words and pictures, so it is made only where all of them are at hand anyway:
in a simulation.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sglora_fed.errors import ResultsError
from sglora_fed.files import write_atomically

GALLERY = "gallery.json"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Exhibit:
    """One client and its first test picture.

    Attributes:
        client: its name.
        split: what is unseen about it.
        sentence: that its adapter was made for.
        scene: PNG of what is there, where the client's own picture shows it otherwise; else None.
        picture: PNG of what the client has.
        right: texts that belong to it.
        best: method -> the candidate texts that it puts first.
        shares: method -> share of all its test pictures whose right text comes first.
    """

    client: str
    split: str
    sentence: str
    scene: bytes | None
    picture: bytes
    right: tuple[str, ...]
    best: Mapping[str, tuple[str, ...]]
    shares: Mapping[str, float]


def write_gallery(folder: Path, exhibits: Sequence[Exhibit]) -> None:
    """Write ``gallery.json``, its pictures as base64; nothing without exhibits.

    Raises:
        ResultsError: when the disk is full.
    """
    if exhibits:
        text = json.dumps(
            [asdict(exhibit) for exhibit in exhibits],
            indent=1,
            ensure_ascii=False,
            default=lambda picture: base64.b64encode(picture).decode(),
        )
        write_atomically(folder / GALLERY, text.encode())


def read_gallery(folder: Path) -> list[Exhibit]:
    """The exhibits of a finished run; none where it has no ``gallery.json``.

    Raises:
        ResultsError: when the file is damaged.
    """
    path = folder / GALLERY
    if not path.exists():
        return []
    try:
        return [_exhibit(one) for one in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultsError(
            f"{path} is damaged ({type(error).__name__}: {error}); without it the page has no"
            " pictures of clients"
        ) from error


def _exhibit(found: Mapping[str, Any]) -> Exhibit:
    return Exhibit(
        client=str(found["client"]),
        split=str(found["split"]),
        sentence=str(found["sentence"]),
        scene=None if found["scene"] is None else _png(found["scene"]),
        picture=_png(found["picture"]),
        right=_texts(found["right"]),
        best={str(name): _texts(found["best"][name]) for name in found["shares"]},
        shares={str(name): float(share) for name, share in found["shares"].items()},
    )


def _texts(found: Sequence[Any]) -> tuple[str, ...]:
    return tuple(str(text) for text in found)


def _png(found: str) -> bytes:
    data = base64.b64decode(found, validate=True)
    if not data.startswith(PNG_SIGNATURE):
        raise ValueError("a picture is no PNG")
    return data
