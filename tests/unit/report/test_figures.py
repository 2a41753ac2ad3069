"""Figures hold the numbers they claim to, with named axes, and leave no global state."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import product

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from scipy.optimize import isotonic_regression

from sglora_fed.report import figures
from sglora_fed.report.drawing import spread
from sglora_fed.report.figures import draw_figures

GONE = ("combo-3", "oracle")
"""A client without any value of a method."""


@pytest.fixture
def drawn(run, monkeypatch) -> dict[str, Figure]:
    """The figures of the run, kept before they become pixels."""
    kept: list[Figure] = []
    real = figures.png

    def keep(figure: Figure) -> bytes:
        kept.append(figure)
        return real(figure)

    monkeypatch.setattr(figures, "png", keep)
    return dict(zip(draw_figures(*run), kept, strict=True))


def test_bars_are_as_long_as_the_means(run, drawn):
    summary, _ = run
    means = {(r["method"], r["split"]): 100 * r["mean"] for r in summary["results"]}
    names = [label.get_text() for label in drawn["means.png"].axes[0].get_yticklabels()]
    for axis in drawn["means.png"].axes:
        split = axis.get_title("left")
        places = dict(zip(np.round(axis.get_yticks(), 6), names, strict=True))
        bars = {
            places[np.round(bar.get_y() + bar.get_height() / 2, 6)]: bar.get_width()
            for bar in axis.patches
        }
        wanted = {method: mean for (method, other), mean in means.items() if other == split}
        assert bars == pytest.approx(wanted)


def test_dots_are_the_clients(run, drawn):
    _, rows = run
    axis = drawn["trained.png"].axes[0]
    (cloud,) = [c for c in axis.collections if c.get_label() == "ridge"]
    values = {(row.client, row.method): 100 * row.value for row in rows if row.split == "new_rule"}
    wanted = {
        (round(value, 6), round(values[client, "ridge"], 6))
        for (client, method), value in values.items()
        if method == "oracle"
    }
    assert {(round(x, 6), round(y, 6)) for x, y in cloud.get_offsets()} == wanted


def test_gap_dots_are_the_shares(run, drawn):
    summary, _ = run
    shares = {
        round(100 * result["gap_closed"], 6)
        for result in summary["results"]
        if result["split"] == "combo" and result["method"] not in ("zero_shot", "oracle")
    }
    axis = drawn["gap.png"].axes[1]
    dots = [line for line in axis.lines if line.get_marker() == "o"]
    assert {round(float(line.get_xdata()[0]), 6) for line in dots} == shares


def test_confidence_dots_are_gains_over_zero_shot(run, drawn):
    summary, rows = run
    values = {(row.client, row.method): 100 * row.value for row in rows}
    wanted = {
        (round(similarity, 6), round(values[client, "ridge"] - values[client, "zero_shot"], 6))
        for client, (similarity, *_) in summary["confidence"].items()
    }
    clouds = drawn["confidence.png"].axes[0].collections
    found = {(round(x, 6), round(y, 6)) for cloud in clouds for x, y in cloud.get_offsets()}
    assert found == wanted


def test_coverage_goes_from_the_surest_client_to_all(run, drawn):
    summary, rows = run
    values = {(row.client, row.method): 100 * row.value for row in rows}
    trust = summary["confidence"]
    gains = {client: values[client, "ridge"] - values[client, "shared_lora"] for client in trust}
    surest = max(trust, key=lambda client: trust[client][2])
    line = drawn["coverage.png"].axes[1].lines[0]
    assert line.get_xdata()[0] == pytest.approx(100 / len(trust))
    assert line.get_ydata()[0] == pytest.approx(gains[surest] / len(trust))
    assert line.get_ydata()[-1] == pytest.approx(np.mean(list(gains.values())))


def test_names_are_not_formulas(planted):
    gains = {"$\\frac{$": {"zero_shot": 0.0, "$x^{$": 0.1, "oracle": 0.3, "topk": 0.1}}
    assert len(draw_figures(*planted(gains, facts={"generator": "$x^{$"}))) == 5


def test_every_axis_is_named_with_its_unit(drawn):
    names = ("means", "gap", "trained", "cost", "confidence", "coverage")
    assert set(drawn) == {f"{name}.png" for name in names}
    for figure in drawn.values():
        assert all(axis.get_xlabel() for axis in figure.axes)
        first = figure.axes[0]
        assert first.get_ylabel() or any(label.get_text() for label in first.get_yticklabels())


def test_nothing_drawn_is_cut_off(drawn, retrieval):
    summary, rows = retrieval
    values = figures._client_values(summary, rows)
    more = [figures.recall_figure(summary), figures.trained_figure(summary, values)]
    for figure in more:
        figures.png(figure)
    for figure in [*drawn.values(), *more]:
        edge = figure.bbox
        box = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
        assert box.x0 >= edge.x0 - 1
        assert box.y0 >= edge.y0 - 1
        assert box.x1 <= edge.x1 + 1
        assert box.y1 <= edge.y1 + 1


def test_drawing_leaves_matplotlib_as_it_was(run):
    before = dict(matplotlib.rcParams)
    draw_figures(*run)
    assert dict(matplotlib.rcParams) == before
    assert matplotlib._pylab_helpers.Gcf.figs == {}


def test_recall_lines_are_the_means(retrieval):
    summary, _ = retrieval
    axes = figures.recall_figure(summary).axes
    means = {(r["metric"], r["split"], r["method"]): 100 * r["mean"] for r in summary["results"]}
    places = product(("new_combination", "new_element"), ("i2t", "t2i"))
    for axis, (split, way) in zip(axes, places, strict=True):
        assert axis.get_title("left") == split
        lines = {line.get_label(): list(line.get_ydata()) for line in axis.lines}
        assert set(lines) == {"zero_shot", "topk", "ridge", "shared_full"}
        for method, found in lines.items():
            assert found == pytest.approx([means[f"{way}_r{k}", split, method] for k in (1, 5, 10)])


def test_retrieval_is_drawn_by_the_mean_of_both_directions(retrieval):
    summary, rows = retrieval
    assert set(draw_figures(summary, rows)) >= {"recall.png", "means.png", "confidence.png"}
    values = figures._client_values(summary, rows)
    own = [
        row.value
        for row in rows
        if row.client == "new_element-0"
        and row.method == "ridge"
        and row.metric in ("i2t_r1", "t2i_r1")
    ]
    found = values["new_element"]
    place = found.clients.index("new_element-0")
    assert found.of("ridge")[place] == pytest.approx(100 * np.mean(own))


def test_means_are_over_the_seeds_that_a_client_has(planted):
    """Beside a mean of each client's own list, with every seventh row away."""
    summary, rows = planted({"combo": {"zero_shot": 0.0, "ridge": 0.1, "oracle": 0.3}})
    rows = [replace(row, seed=seed, value=row.value / seed) for seed in (1, 2, 3) for row in rows]
    rows = [row for n, row in enumerate(rows) if n % 7 and (row.client, row.method) != GONE]
    own = defaultdict(list)
    for row in rows:
        own[row.client, row.method].append(100 * row.value)
    found = figures._client_values(summary, rows)["combo"]
    for method in ("zero_shot", "ridge", "oracle"):
        wanted = [np.mean(own[c, method]) if own[c, method] else np.nan for c in found.clients]
        np.testing.assert_allclose(found.of(method), wanted)
    assert np.isnan(found.of("oracle")).sum() == 1
    assert np.isnan(found.of("topk")).all()


def test_confidence_is_optional(planted):
    summary, rows = planted({"combo": {"zero_shot": 0.0, "ridge": 0.1}}, facts={"confidence": {}})
    assert set(draw_figures(summary, rows)) == {"means.png", "cost.png"}


@given(st.lists(st.floats(0, 100), min_size=1, max_size=12), st.floats(0.1, 20))
def test_spread_is_the_least_squares_solution(values, gap):
    values.sort()
    steps = gap * np.arange(len(values))
    assert spread(values, gap) == pytest.approx(
        list(isotonic_regression(np.array(values) - steps).x + steps), abs=1e-6
    )


@given(st.lists(st.floats(0, 100), min_size=2, max_size=12), st.floats(0.1, 20))
def test_spread_keeps_the_distance(values, gap):
    assert np.diff(spread(sorted(values), gap)).min() >= gap - 1e-6
