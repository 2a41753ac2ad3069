"""The page: whole, self-contained, safe, and true to the numbers."""

from __future__ import annotations

import base64
import copy
import io
import json
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from sglora_fed.report.page import render, write_report
from sglora_fed.results.files import read_rows, read_summary, write_rows, write_summary
from sglora_fed.results.rows import Row

VOID = {"meta", "img", "br", "hr", "link", "input"}
PLACES = {"src", "href", "srcset", "action", "data", "poster", "background", "xlink:href"}


class Page(HTMLParser):
    """Checks that tags close in order and collects what the page shows and loads."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.handlers: list[str] = []
        self.rows: list[list[str]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == [], f"not closed: {self.open}"
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [str(value) for name, value in attrs if name in PLACES]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("style", "script"):
            return
        self.words.append(data)
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def written(run, tmp_path_factory):
    summary, rows = run
    return write_report(tmp_path_factory.mktemp("run"), summary, rows)


@pytest.fixture(scope="module")
def page(written) -> Page:
    return Page(written.read_text())


def test_page_loads_nothing_from_elsewhere(written, page):
    assert all(place.startswith("data:image/png;base64,") for place in page.loads)
    assert not {"script", "link", "iframe", "object", "embed"} & set(page.tags)
    assert not re.search(r"@import|url\(|https?://", written.read_text())


def test_images_are_those_in_the_folder_and_small(written, page):
    files = {path.read_bytes() for path in (written.parent / "figures").iterdir()}
    images = {base64.b64decode(place.partition(",")[2]) for place in page.loads}
    assert images == files
    assert len(files) == 6
    for data in files:
        assert len(data) < 300_000
        assert Image.open(io.BytesIO(data)).size[0] >= 600


def test_images_are_shown_on_one_scale(written):
    shown = re.findall(r'--width: (\d+)px"[^>]*base64,([^"]+)"', written.read_text())
    assert len(shown) == 6
    for width, data in shown:
        image = Image.open(io.BytesIO(base64.b64decode(data)))
        assert int(width) == pytest.approx(image.size[0] / 1.5, abs=1)


def test_table_holds_every_mean_of_the_summary(run, page):
    summary, _ = run
    header = next(row for row in page.rows if row[0] == "method")
    assert header[1:3] == ["new_rule", "combo"]
    table = {row[0].strip(): row[1:] for row in page.rows if len(row) == len(header)}
    for result in summary["results"]:
        cell = table[result["method"]][header.index(result["split"]) - 1]
        low, high = (f"{100 * bound:.1f}" for bound in result["ci95"])
        assert cell.startswith(f"{100 * result['mean']:.1f} [{low}, {high}]")
    assert table["mine"][0] == ""
    assert table["oracle"][-1] == "7.25"
    assert table["ridge"][-2] == "73.7 kB"


def test_differences_are_those_of_the_adopted_generator(run, page):
    summary, _ = run
    start = next(place for place, row in enumerate(page.rows) if row[0] == "ridge minus")
    table = {row[0]: row[1:] for row in page.rows[start + 1 :]}
    for result in summary["results"]:
        if result["method"] == "ridge":
            column = ["new_rule", "combo"].index(result["split"])
            for other, difference in result["minus"].items():
                assert table[other][column].startswith(f"{100 * difference['mean']:+.1f} [")
    assert "▼" in table["shared_lora"][1]
    assert "▲" in table["shared_lora"][0]


def test_page_says_what_was_run_and_promised(page):
    for words in (
        "40 experts",
        "40 unseen clients",
        "1 seed.",
        "1.5 kB up",
        "73.7 kB down",
        "1.2 ms",
        "no promise",
        "one description, local",
        "numpy 2.3",
        "ab" * 8,
        "sglora-fed simulate seeds=[0]",
        "a generator of your own",
        "fine-tuned by the client on all its data",
    ):
        assert words in page.text


PRIVACY = {"mechanism": "gaussian", "epsilon": 4.0, "delta": 1e-6, "unit": "one description"}


def test_page_names_the_privacy_that_was_bought(planted):
    gains = {"combo": {"zero_shot": 0.0, "ridge": 0.1}}
    summary, _ = planted(gains, facts={"privacy": PRIVACY})
    text = Page(render(summary, {})).text
    assert "ε = 4 privacy of one description" in text
    assert "ε 4, δ 1e-06" in text
    assert "made private by gaussian" in text
    assert "no promise" not in text
    assert "sum" not in text


def test_page_adds_up_the_releases_of_all_seeds(planted):
    gains = {"combo": {"zero_shot": 0.0, "ridge": 0.1}}
    summary, _ = planted(gains, facts={"privacy": PRIVACY, "seeds": (0, 1, 2)})
    text = Page(render(summary, {})).text
    assert (
        "ε = 12 privacy of one description: the sum of 3 releases, one for each seed, of ε = 4"
        in text
    )
    assert "ε 12, δ 3e-06: 3 releases of each client" in text


def test_page_says_how_many_clients_lack_something(planted):
    gains = {"combo": {"zero_shot": 0.0, "ridge": 0.1}}
    summary, _ = planted(gains)
    assert "incomplete" not in Page(render(summary, {})).text
    summary["counts"]["incomplete_clients"] = 1
    assert "1 client incomplete" in Page(render(summary, {})).text


def test_hostile_names_are_only_text(planted, tmp_path):
    hostile = "<script>alert(1)</script><img src=x onerror=alert(1)>$\\frac{$"
    gains = {hostile: {"zero_shot": 0.0, "oracle": 0.3, "topk": 0.1, hostile: 0.2}}
    facts = {
        "name": hostile,
        "generator": hostile,
        "versions": {hostile: hostile},
        "command": hostile,
        "privacy": {"mechanism": hostile, "epsilon": 1.0, "delta": 0.1, "unit": hostile},
    }
    summary, rows = planted(gains, facts=facts)
    rows += [Row(hostile, hostile, 0, method, "accuracy", 0.5) for method in gains[hostile]]
    page = Page(write_report(tmp_path, summary, rows).read_text())
    assert "script" not in page.tags
    assert page.tags.count("img") == len(list((tmp_path / "figures").iterdir()))
    assert page.handlers == []
    assert hostile in page.text


def test_retrieval_has_a_block_per_split_with_both_directions(retrieval):
    summary, _ = retrieval
    columns = [f"{way}_r{k}" for way in ("i2t", "t2i") for k in (1, 5, 10)]
    page = Page(render(summary, {}))
    starts = [place for place, row in enumerate(page.rows) if row[1:] == ["R@1", "R@5", "R@10"] * 2]
    assert [page.rows[place - 1] for place in starts] == [["", "item to text", "text to item"]] * 2
    for split, start in zip(("new_combination", "new_element"), starts, strict=True):
        table = {row[0]: row[1:] for row in page.rows[start : start + 10] if len(row) == 7}
        for result in summary["results"]:
            if result["split"] == split and result["metric"] != "r1":
                cell = table[result["method"]][columns.index(result["metric"])]
                assert cell.startswith(f"{100 * result['mean']:.1f} [")
    assert "mean R@1: methods" in page.text
    assert "i2t" not in page.text


@pytest.mark.parametrize(
    "gains",
    [
        {"combo": {"zero_shot": 0.0}},
        {"combo": {"oracle": 0.2, "ridge": 0.1}},
        {f"s{number}": {"zero_shot": 0.0, "topk": 0.1} for number in range(6)},
        {"a": {"zero_shot": 0.0, "oracle": 0.2, "ridge": 0.1}, "b": {"topk": 0.1, "ridge": 0.1}},
    ],
)
def test_runs_with_few_methods_have_a_page_too(planted, tmp_path, gains):
    summary, rows = planted(gains, clients=2)
    Page(write_report(tmp_path, summary, rows).read_text())


def test_a_page_drawn_again_from_disk_is_the_same(run, written, tmp_path):
    summary, rows = run
    again = write_report(tmp_path, json.loads(json.dumps(summary)), copy.deepcopy(rows))
    assert again.read_bytes() == written.read_bytes()


def test_experts_that_were_not_used_are_told_beside_those_that_were(planted):
    summary, _ = planted({"new_rule": {"functional": 0.5}})
    assert "distrusted" not in Page(render(summary, {})).text
    summary["counts"] |= {"experts": 47, "distrusted_experts": 1}
    assert "47 experts of the zoo, 1 more distrusted, " in Page(render(summary, {})).text


def test_a_page_of_the_files_is_that_of_the_run(run, tmp_path):
    summary, rows = run
    write_rows(tmp_path, rows, "")
    write_summary(tmp_path, summary)
    first = write_report(tmp_path, summary, rows).read_bytes()
    again = write_report(tmp_path, read_summary(tmp_path), read_rows(tmp_path)).read_bytes()
    assert again == first
