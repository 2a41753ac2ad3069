"""The runs of a sweep side by side: a table, a figure and one self-contained page."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from sglora_fed.files import write_atomically
from sglora_fed.report.drawing import ADOPTED, INK, PANELS, bar, panels, png, short_label
from sglora_fed.report.page import environment, width
from sglora_fed.report.plain import plain_matplotlib
from sglora_fed.report.table import mean_text
from sglora_fed.report.words import adopted_method, cells, main_metric, metric_label, ordered_splits

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = "sweep.html"


@dataclass(frozen=True)
class Finished:
    """A run of a sweep that has results.

    Attributes:
        folder: its name below the sweep's folder.
        swept: the overrides in which it differs from the other runs.
        summary: of its results.
    """

    folder: str
    swept: tuple[str, ...]
    summary: Mapping[str, Any]

    @property
    def adopted(self) -> dict[str, Mapping[str, Any]]:
        """Split -> main result of the method that the clients adopted."""
        found = cells(self.summary, main_metric(self.summary))
        adopted = adopted_method(self.summary)
        return {split: result for (method, split), result in found.items() if method == adopted}


def sweep_table(runs: Sequence[Finished]) -> Table:
    """A row per run: the adopted method's means in per cent with half of the 95 % interval."""
    splits = _splits(runs)
    table = Table(
        title=Text(f"{_metric(runs)} of what clients adopt, % (± half of the 95 % interval)"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 0, 0, 1),
    )
    # In a narrow terminal nine splits and a run's options take more lines, but no number is cut.
    table.add_column("run", overflow="fold")
    for split in splits:
        # Names come from task files: text, not markup.
        table.add_column(Text(split), justify="right", overflow="fold")
    for run in runs:
        name = Text("\n".join(run.swept) or run.folder)
        table.add_row(name, *(mean_text(run.adopted.get(split)) for split in splits))
    return table


def sweep_figure(runs: Sequence[Finished]) -> Figure:
    """Bars of the adopted method with 95 % intervals, a bar per run and a panel per split."""
    splits, metric = _splits(runs), _metric(runs)
    figure, axes = panels(len(splits), 2.35, 0.21 * len(runs) + 0.95)
    for number, (axis, split) in enumerate(zip(axes, splits, strict=True)):
        for place, run in enumerate(runs):
            if result := run.adopted.get(split):
                bar(axis, -place, result, ADOPTED)
        axis.set(xlim=(0, 118), ylim=(0.4 - len(runs), 0.6), xlabel=f"{metric}, %")
        axis.set_xticks(range(0, 101, 25))
        axis.set_title(short_label(split), fontsize=9, loc="left", color=INK)
        names = [short_label(run.folder) if number % PANELS == 0 else "" for run in runs]
        axis.set_yticks([-place for place in range(len(runs))], names)
        axis.tick_params(axis="y", length=0)
        axis.grid(visible=False, axis="y")
    axes[0].set_ylabel("run")
    return figure


@plain_matplotlib()
def write_page(output: Path, runs: Sequence[Finished]) -> Path:
    """Write ``sweep.html``, which needs no other file; its links lead to the runs' own reports.

    Returns:
        The page.

    Raises:
        ResultsError: when the disk is full.
    """
    page = output / PAGE
    write_atomically(page, render(runs, png(sweep_figure(runs))).encode())
    return page


def render(runs: Sequence[Finished], figure: bytes) -> str:
    """The page as text; everything that came from outside is escaped."""
    template = environment().get_template("sweep.html")
    return template.render(
        runs=runs,
        adopted=[adopted_method(run.summary) for run in runs],
        splits=_splits(runs),
        metric=_metric(runs),
        width=width(figure),
        figure=base64.b64encode(figure).decode(),
    )


def _splits(runs: Sequence[Finished]) -> list[str]:
    return ordered_splits(split for run in runs for split in run.adopted)


def _metric(runs: Sequence[Finished]) -> str:
    """The main metric; the names of all, when a sweep over backbones has several."""
    return ", ".join(dict.fromkeys(metric_label(main_metric(run.summary)) for run in runs))
