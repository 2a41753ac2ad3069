"""The terminal table: contents, order, names that are not markup, width."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from sglora_fed.report.table import results_table
from sglora_fed.report.words import duration, ordered_methods, ordered_splits, size


def shown(summary, width: int = 80, styled: bool = False) -> str:
    text = io.StringIO()
    console = Console(
        file=text, width=width, force_terminal=styled, color_system="standard" if styled else None
    )
    console.print(results_table(summary))
    return text.getvalue()


def test_each_row_has_means_half_intervals_and_costs(run):
    summary, _ = run
    lines = {line.split()[0]: line for line in shown(summary).splitlines() if line.strip()}
    for result in summary["results"]:
        half = 50 * (result["ci95"][1] - result["ci95"][0])
        assert f"{100 * result['mean']:.1f} ±{half:.1f}" in lines[result["method"]]
    assert lines["oracle"].split()[-3:] == ["0", "B", "7.25"]
    assert lines["ridge"].split()[-3:] == ["73.7", "kB", "0.11"]


def test_groups_come_in_reading_order_with_unknown_generators_among_the_generated(run):
    words = [line.strip().split("  ")[0] for line in shown(run[0]).splitlines()]
    wanted = ["no adapter", "zero_shot", "merged", "topk", "generated", "ridge", "mine"]
    wanted += ["one for all", "shared_lora", "trained locally", "oracle"]
    places = [words.index(word) for word in wanted]
    assert places == sorted(places)


def test_best_without_training_is_green_and_the_adopted_bold(run):
    lines = {}
    for line in shown(run[0], styled=True).splitlines():
        lines |= {name: line for name in ("ridge", "shared_lora", "oracle") if f" {name} " in line}
    assert lines["ridge"].count("\x1b[1;32m") == 1  # bold and green on new_rule only
    assert lines["shared_lora"].count("\x1b[32m") == 1  # green on combo only
    assert "32m" not in lines["oracle"]


def test_four_splits_and_all_methods_fit_80_columns(planted):
    methods = ("zero_shot", "generated_5shot", "local_5shot", "oracle", "ridge")
    splits = ("new_rule", "new_topic", "combo", "new_domain")
    text = shown(planted({split: dict.fromkeys(methods, 0.1) for split in splits})[0])
    assert "…" not in text
    assert all(name in text for name in (*methods, *splits))


def test_more_splits_go_on_below_and_are_still_whole(planted):
    splits = ("new_rule", "new_topic", "five_topics", "exception", "priority")
    methods = ("generated_5shot", "functional")
    gains = {split: dict.fromkeys(methods, place / 20) for place, split in enumerate(splits)}
    summary, _ = planted(gains)
    text = shown(summary)
    assert "…" not in text
    assert text.count("bold: adopted") == 1
    rows = [line.split() for line in text.splitlines() if line.startswith(" functional")]
    assert [len([cell for cell in row if cell.startswith("±")]) for row in rows] == [3, 2]
    means = {r["split"]: r["mean"] for r in summary["results"] if r["method"] == "functional"}
    told = [cell for row in rows for cell in row[1:-3] if not cell.startswith("±")]
    assert told == [f"{100 * means[split]:.1f}" for split in ordered_splits(splits)]


def test_retrieval_shows_both_directions_within_80_columns(retrieval):
    summary, _ = retrieval
    text = shown(summary)
    assert "…" not in text
    assert "R@1 item to text/text to item, %" in text
    means = {(r["method"], r["split"], r["metric"]): r for r in summary["results"]}
    row = next(line for line in text.splitlines() if line.startswith(" ridge")).split()
    for place, split in enumerate(("new_combination", "new_element")):
        ways = [means["ridge", split, f"{way}_r1"]["mean"] for way in ("i2t", "t2i")]
        low, high = means["ridge", split, "r1"]["ci95"]
        wanted = [f"{100 * ways[0]:.1f}/{100 * ways[1]:.1f}", f"±{50 * (high - low):.1f}"]
        assert row[1 + 2 * place : 3 + 2 * place] == wanted


def test_one_client_has_a_mean_and_no_interval(planted):
    text = shown(planted({"combo": {"zero_shot": 0.1, "ridge": 0.3}}, clients=1)[0])
    assert "±" not in text.split("\n", 1)[1]


def test_names_are_text_and_not_markup(planted):
    summary, _ = planted({"[/]": {"[red]x": 0.1, "zero_shot": 0.0}})
    text = shown(summary)
    assert "[/]" in text
    assert "[red]x" in text


def test_known_splits_come_first():
    assert ordered_splits({"zebra", "new_domain", "apple", "new_rule"}) == [
        "new_rule",
        "new_domain",
        "apple",
        "zebra",
    ]


def test_no_method_is_lost():
    names = {"oracle", "zero_shot", "mine", "shuffled", "another"}
    ordered = ordered_methods(names)
    assert sorted(name for _, members in ordered for name in members) == sorted(names)
    assert dict(ordered)["generated"] == ["another", "mine"]


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (999, "999 B"), (1548, "1.5 kB"), (73728, "73.7 kB")]
)
def test_sizes(value, text):
    assert size(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.00123, "1.2 ms"), (0.05, "50 ms"), (7.25, "7.2 s"), (300, "5.0 min")]
)
def test_durations(value, text):
    assert duration(value) == text
