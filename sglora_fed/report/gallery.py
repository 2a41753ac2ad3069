"""Clients to look at: what the page says of them, and one figure of them all."""

from __future__ import annotations

import base64
import io
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from sglora_fed.report.drawing import COLOURS, INK, SOFT, png, short_label
from sglora_fed.report.plain import plain_matplotlib
from sglora_fed.report.words import ordered_splits, percent
from sglora_fed.results.gallery import Exhibit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEADINGS: Mapping[str, str] = {
    "zero_shot": "without an adapter",
    "shared_lora": "with the shared LoRA",
    "oracle": "fine-tuned by the client",
}
"""Method -> what it is called here; all others are generated."""

RIGHT, WRONG = "✓", "✗"
PICTURE, WORDS = 1.0, 2.3
"""Inches of a column with pictures, and of one with words."""

LETTERS = 30
"""In a line of a column with words."""


def heading(method: str) -> str:
    """What a method is called in the gallery."""
    return HEADINGS.get(method, f"generated ({method})")


def data_uri(picture: bytes) -> str:
    """A PNG file within a page."""
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def by_split(exhibits: Sequence[Exhibit]) -> list[tuple[str, list[Exhibit]]]:
    """The clients of each split, in reading order."""
    splits = ordered_splits(exhibit.split for exhibit in exhibits)
    return [(split, [e for e in exhibits if e.split == split]) for split in splits]


def draw_gallery(exhibits: Sequence[Exhibit]) -> dict[str, bytes]:
    """``gallery.png`` with all clients; nothing when there are none."""
    shown = [exhibit for _, members in by_split(exhibits) for exhibit in members]
    return {"gallery.png": draw_strip(shown, list(shown[0].shares))} if shown else {}


@plain_matplotlib()
def draw_strip(rows: Sequence[Exhibit], methods: Sequence[str], best: int = 3) -> bytes:
    """PNG with a row for each client.

    Args:
        rows: clients; scenes are shown where all have one.
        methods: whose answers are shown, each a column.
        best: candidate texts of each.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    pictured = ["scene", "picture"] if all(row.scene for row in rows) else ["picture"]
    widths = [PICTURE] * len(pictured) + [WORDS] * (1 + len(methods))
    figure = Figure(figsize=(sum(widths), 0.35 + 1.12 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), len(widths), squeeze=False, width_ratios=widths)
    titles = {"scene": "what is there", "picture": "what it sees"}
    names = [*(titles[part] for part in pictured), "what it says of itself"]
    for axis, name in zip(axes[0], [*names, *map(heading, methods)], strict=True):
        axis.set_title(name, fontsize=8, color=INK)
    for row, exhibit in zip(axes, rows, strict=True):
        for axis, part in zip(row, pictured, strict=False):
            _show(axis, getattr(exhibit, part))
        _sentence(row[len(pictured)], exhibit)
        for axis, method in zip(row[len(pictured) + 1 :], methods, strict=True):
            _answers(axis, exhibit, method, best)
    figure.align_titles()
    with warnings.catch_warnings():
        # The font lacks most of the world's letters; the page has them all.
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        return png(figure)


def _show(axis: Axes, picture: bytes) -> None:
    """Pixels as they are, however small the picture."""
    axis.imshow(np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")), interpolation="nearest")
    axis.set_anchor("N")
    axis.set_axis_off()


def _sentence(axis: Axes, exhibit: Exhibit) -> None:
    _write(axis, 0.55, f"“{exhibit.sentence}”", 6, color=INK, style="italic")
    _below(axis, short_label(exhibit.split))


def _answers(axis: Axes, exhibit: Exhibit, method: str, best: int) -> None:
    """Candidate texts from above, the right ones marked and coloured."""
    good, texts = COLOURS["trained locally"], exhibit.best[method][:best]
    for number, text in enumerate(texts):
        is_right = text in exhibit.right
        mark, colour = (RIGHT, good) if is_right else (WRONG, SOFT)
        place = 1 - (number + 0.4) / len(texts)
        _write(axis, place, f"{mark} {text}", 4 // len(texts) + 1, color=colour)
    _below(axis, f"right first for {percent(exhibit.shares[method])} % of its pictures")


def _below(axis: Axes, text: str) -> None:
    """A line under what a column shows."""
    axis.text(0, -0.04, text, fontsize=6, color=SOFT)


def _write(axis: Axes, height: float, text: str, lines: int, **style: Any) -> None:
    """A few lines that come from outside: as text, and not without end."""
    wrapped = textwrap.fill(text, LETTERS, max_lines=lines, placeholder=" …")
    axis.set_axis_off()
    axis.text(0, height, wrapped, fontsize=7, va="center", parse_math=False, **style)
