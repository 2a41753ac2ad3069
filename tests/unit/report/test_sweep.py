"""Runs side by side: the table, the figure and the page."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from sglora_fed.report.sweep import Finished, sweep_figure, sweep_table, write_page

HOSTILE = "<script>alert(1)</script>[red]$x"


@pytest.fixture(scope="module")
def runs(planted: Callable[..., tuple]) -> list[Finished]:
    """One run adopts ridge, the other topk on one split more."""
    first, _ = planted({"combo": {"ridge": 0.1, "topk": 0.3}, "new_rule": {"ridge": 0.2}})
    gains = {"ridge": 0.0, "topk": 0.4}
    second, _ = planted(dict.fromkeys(("new_rule", HOSTILE), gains), facts={"generator": "topk"})
    return [
        Finished("01-ridge", ("generator=ridge",), first),
        Finished("02-topk", ("generator=topk", f"name='{HOSTILE}'"), second),
    ]


def mean(run: Finished, method: str, split: str) -> float:
    results = run.summary["results"]
    return next(r["mean"] for r in results if (r["method"], r["split"]) == (method, split))


def test_the_table_has_the_adopted_methods_means(runs: list[Finished]) -> None:
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(sweep_table(runs))
    lines = console.export_text().splitlines()
    head = next(line for line in lines if "new_rule" in line)
    assert head.split() == ["run", "new_rule", "combo", HOSTILE]
    ridge = next(line for line in lines if "generator=ridge" in line)
    shown = re.findall(r"(\d+\.\d) ±", ridge)
    assert shown == [
        f"{100 * mean(runs[0], 'ridge', split):.1f}" for split in ("new_rule", "combo")
    ]
    topk = next(line for line in lines if "generator=topk" in line)
    assert re.findall(r"(\d+\.\d) ±", topk)[0] == f"{100 * mean(runs[1], 'topk', 'new_rule'):.1f}"
    low, high = runs[0].adopted["combo"]["ci95"]
    assert f"±{50 * (high - low):.1f}" in ridge


def test_a_narrow_terminal_cuts_no_number(runs: list[Finished]) -> None:
    console = Console(width=50, file=io.StringIO(), record=True)
    console.print(sweep_table(runs * 2))
    text = console.export_text()
    assert "…" not in text
    assert text.count("±") == 1 + 2 * 4


def test_bars_are_the_adopted_methods_means_on_named_axes(runs: list[Finished]) -> None:
    axes = sweep_figure(runs).axes
    assert [axis.get_title("left") for axis in axes][:2] == ["new_rule", "combo"]
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["01-ridge", "02-topk"]
    assert axes[0].get_ylabel() == "run"
    assert all(axis.get_xlabel() == "accuracy, %" for axis in axes)
    bars = [bar.get_width() for bar in axes[0].patches]
    wanted = [100 * mean(runs[0], "ridge", "new_rule"), 100 * mean(runs[1], "topk", "new_rule")]
    assert bars == pytest.approx(wanted)
    assert [bar.get_width() for bar in axes[1].patches] == pytest.approx(
        [100 * mean(runs[0], "ridge", "combo")]
    )
    low, high = (100 * bound for bound in runs[0].adopted["combo"]["ci95"])
    (segment,) = axes[1].collections[0].get_segments()
    assert segment[:, 0].tolist() == pytest.approx([low, high])


class Links(HTMLParser):
    """The tags, the places that a page names, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.text += data


def test_the_page_is_whole_links_the_reports_and_escapes(
    runs: list[Finished], tmp_path: Path
) -> None:
    page = Links(write_page(tmp_path, runs).read_text())
    first, second, image = page.links
    assert (first, second) == ("01-ridge/report.html", "02-topk/report.html")
    data = base64.b64decode(image.removeprefix("data:image/png;base64,"))
    assert Image.open(io.BytesIO(data)).format == "PNG"
    assert "script" not in page.tags
    assert page.text.count(HOSTILE) == 2  # the option and the split
    assert f"{100 * mean(runs[0], 'ridge', 'combo'):.1f}" in page.text
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.html"]
