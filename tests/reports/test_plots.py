"""Plots are laid out once: page and figure have the same bars, curves and text. A page's plot is told in words, too."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text

from diffmatch.domain import Card
from diffmatch.records.counts import BINS, CONFIDENCE_UNIT
from diffmatch_reports.figures.comparison import Comparison, Group
from diffmatch_reports.figures.drawing import STYLE
from diffmatch_reports.figures.drawing import draw as draw_figure
from diffmatch_reports.load import load_run
from diffmatch_reports.plots import run_page, svg
from diffmatch_reports.plots.calibration import reliability
from diffmatch_reports.plots.class_counts import class_counts
from diffmatch_reports.plots.confusion import DENSE, Matrix
from diffmatch_reports.plots.spec import STYLES, TRUTH, Plot, Style, number_axis, short
from diffmatch_reports.plots.training import MOST_POINTS, Curves, over_steps
from diffmatch_reports.wording import big

NUMBER = re.compile(r"-?[\d.]+")


def bins() -> np.ndarray:
    """Three bins: a confident one that is too sure, one that is not sure enough, one of a single pixel."""
    content = np.zeros((3, BINS), np.int64)
    content[:, -1] = 80, 60, 80 * CONFIDENCE_UNIT
    content[:, 7] = 19, 15, round(9.5 * CONFIDENCE_UNIT)
    content[:, 5] = 1, 0, round(0.4 * CONFIDENCE_UNIT)
    return content


def plots(card: Card) -> dict[str, Plot]:
    """One of each kind."""
    curves = {"truth": {10: 5.0, 20: 5.0}, "a": {10: 1.0, 20: 4.0, 30: 6.0}, "b": {20: 2.0}}
    styles = {"truth": TRUTH, "a": STYLES[0], "b": STYLES[1]}
    pixels = {"truth": np.array([900, 40, 30, 30]), "a": np.array([950, 50, 0, 2]), "b": np.array([900, 40, 30, 30])}
    scores = {"a": np.array([0.9, 0.5, np.nan, 0.001]), "b": np.ones(4)}
    return {
        "class counts": class_counts(card, {"head": [0, 3], "none": [], "tail": [1, 2]}, pixels, scores),
        "reliability": reliability({f"method {n}": bins() for n in range(5)}),
        "curves": over_steps([Curves(curves, styles, "pixels"), Curves({"b": curves["b"]}, styles, "%", top=105)]),
    }


@pytest.fixture
def comparison(make_run: Callable[..., Any]) -> Comparison:
    run = load_run(make_run())
    return Comparison("Kind", "unlabeled", [Group("diffmatch", [run])], [], [])


def panels_of(picture: str) -> list[list[list[float]]]:
    """For each panel its frame (left, top, bottom, right), then the numbers in the path of each series."""
    panels: list[list[list[float]]] = []
    for path in ElementTree.fromstring(picture).findall("path"):  # those of the legend lie deeper
        numbers = [float(number) for number in NUMBER.findall(path.get("d", ""))]
        fill, width = path.get("fill", ""), path.get("stroke-width")
        if width == ".7" and path.get("stroke") == "currentColor":
            panels.append([numbers])
        elif width not in (".7", ".4") and fill != "url(#hatch)":
            panels[-1].append(numbers)
    return panels


@pytest.mark.parametrize("name", ["class counts", "reliability", "curves"])
def test_page_and_figure_draw_the_same(comparison: Comparison, name: str) -> None:
    """Every corner of a bar and every point of a curve is where matplotlib has it, as shares of the panel's sides."""
    plot = plots(comparison.card)[name]
    with matplotlib.rc_context(STYLE):
        figure = draw_figure(comparison, plot, "note")
    on_page = panels_of(svg.draw(plot, "words"))
    assert len(figure.axes) == len(on_page) == sum(map(len, plot.rows))
    for axes, (frame, *series) in zip(figure.axes, on_page, strict=True):
        left, top, bottom, right = frame
        (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()

        def x(value: float, left: float = left, right: float = right, x0: float = x0, x1: float = x1) -> float:
            return left + (value - x0) / (x1 - x0) * (right - left)

        def y(value: float, top: float = top, bottom: float = bottom, y0: float = y0, y1: float = y1) -> float:
            return bottom - (value - y0) / (y1 - y0) * (bottom - top)

        expected = [
            [
                number
                for bar in container.patches
                for low, high in [(y(bar.get_y()), y(bar.get_y() + bar.get_height()))]
                for number in (x(bar.get_x()), low, high, x(bar.get_x() + bar.get_width()), low)
            ]
            for container in axes.containers
        ] + [[number for a, b in line.get_xydata() for number in (x(a), y(b))] for line in axes.get_lines()]
        assert len(series) == len(expected)
        for numbers, wanted in zip(series, expected, strict=True):
            dot = len(wanted) == 2
            assert (numbers[:2] if dot else numbers) == pytest.approx(wanted, abs=0.06)


@pytest.mark.parametrize("name", ["class counts", "reliability", "curves"])
def test_page_and_figure_write_the_same(comparison: Comparison, name: str) -> None:
    """Titles, units, names of ticks and of series, numbers above low bars; the figure may break lines."""
    plot = plots(comparison.card)[name]
    with matplotlib.rc_context(STYLE):
        figure = draw_figure(comparison, plot, "note")
        figure.draw_without_rendering()
    outside = (figure.get_suptitle(), figure.get_supxlabel())
    texts = [t.get_text() for t in figure.findobj(Text) if t.get_visible() and t.get_text() not in ("", *outside)]
    on_page = [element.text for element in ElementTree.fromstring(svg.draw(plot, "words")).iter("text")]
    assert sorted(on_page) == sorted(line for text in texts for line in text.splitlines())


@given(low=st.floats(-1e6, 1e6), width=st.floats(1e-3, 1e6), most=st.integers(2, 8))
def test_ticks_are_round_lie_inside_and_are_few(low: float, width: float, most: int) -> None:
    ticks = number_axis(low, low + width, most=most).ticks
    slack = width * 1e-6
    assert len(ticks) <= most + 1 and all(low - slack <= tick <= low + width + slack for tick in ticks)
    assert number_axis(0, width, most=most).ticks[0] == 0
    assert len(number_axis(0, width, most=most).ticks) >= most / 2.5


@pytest.mark.parametrize(
    ("low", "high", "names"),
    [
        (0, 1, "0 0.2 0.4 0.6 0.8 1"),
        (0, 600, "0 100 200 300 400 500 600"),
        (-3, 2, "-3 -2 -1 0 1 2"),
        (0, 0, "0 0.2 0.4 0.6 0.8 1"),
        (0, 25_000, "0 5000 10k 15k 20k 25k"),
        (0, 0.001, "0 2e-4 4e-4 6e-4 8e-4 0.001"),
    ],
)
def test_ticks_have_short_names(low: float, high: float, names: str) -> None:
    assert number_axis(low, high).names == names.split()
    assert short(2e6) == "2M" and short(-3e4) == "-30k"


def test_a_bar_too_low_to_be_seen_has_its_number_and_a_missing_one_nothing(comparison: Comparison) -> None:
    (upper, lower) = plots(comparison.card)["class counts"].rows
    assert [panel.title for panel in upper] == ["head", "tail"]
    assert [text for _, _, text in upper[1].notes] == ["0"], "2 of 40 is seen, 0 is not"
    assert [len(bars.x) for bars in lower[1].series] == [1, 2]
    assert upper[0].x.names == () and lower[0].x.names == ["background", "LV"]
    assert [text for _, _, text in lower[0].notes] == ["0.001"]


def test_curves_are_thinned_begin_at_step_0_and_keep_their_ends() -> None:
    curve = {step: float(step) for step in range(7, 5000)}
    (((panel,),)) = over_steps([Curves({"loss": curve}, {"loss": Style(0)}, "loss")]).rows
    (line,) = panel.series
    assert (line.x[0], line.x[-1]) == (7, 4999) and MOST_POINTS / 2 < len(line.x) <= MOST_POINTS + 1
    assert list(line.y) == list(line.x) and (panel.x.low, panel.x.high) == (0, 4999)


def test_the_least_curves_can_be_drawn(parse: Any) -> None:
    """A single point, only zeros, a label of every length: inside the picture, in as many rows as it takes."""
    curves = {f"a long label {n}": {0: 0.0} for n in range(6)}
    picture = svg.draw(over_steps([Curves(curves, dict(zip(curves, STYLES, strict=False)), "loss")]), "words")
    corners = [
        tuple(map(float, NUMBER.findall(g.get("transform"))))[:2] for g in ElementTree.fromstring(picture).iter("g")
    ]
    assert len({y for _, y in corners}) > 1 and all(0 < x < svg.WIDTH for x, _ in corners)
    assert parse(picture)


def test_a_page_without_a_pool_has_no_plot_of_it(make_run: Callable[..., Any]) -> None:
    run = load_run(make_run(full=False))
    assert run_page.pool_counts(run) is None
    assert run_page.pseudo_labels(run) == run_page.training(run) == run_page.reliability_diagrams(run, "test") == []


def test_plots_say_in_words_what_they_show_and_follow_the_theme(make_run: Callable[..., Any], parse: Any) -> None:
    picture = run_page.reliability_diagram(bins(), "test split")
    assert "test split: ECE 25.9 %. The most confident bin holds 80.0 % of the pixels" in picture
    assert "with accuracy 75.0 % at mean confidence 100.0 %" in picture
    assert ">ECE 25.9 %</text>" in picture
    assert "currentColor" in picture and "var(--c1)" in picture and not re.search(r"#[0-9a-f]{6}", picture)
    run = load_run(make_run())
    truth, predicted = (run.scores["unlabeled"].counts.confusion.sum(axis) for axis in (1, 0))
    counts = str(run_page.pool_counts(run))
    for c, name in enumerate(run.card.names):
        assert f"{name}: truth {big(int(truth[c]))}, predicted {big(int(predicted[c]))}, accepted" in counts
    pictures = [run_page.pool_counts(run), *(p for *_, p in (*run_page.pseudo_labels(run), *run_page.training(run)))]
    assert len(pictures) == 8 and all(picture.count('role="img"') == 1 and parse(picture) for picture in pictures)
    assert "Losses over training steps: total from" in pictures[5]


def test_names_are_escaped(comparison: Comparison) -> None:
    evil = '<script>"&'
    plot = over_steps([Curves({evil: {0: 1.0, 1: 2.0}, "b": {0: 1.0}}, {evil: STYLES[0], "b": STYLES[1]}, evil, evil)])
    card = comparison.card
    named = card.model_copy(update={"classes": tuple(c.model_copy(update={"name": evil}) for c in card.classes)})
    counts = class_counts(named, {evil: [0, 1]}, {"truth": np.ones(4)}, {"truth": np.ones(4)})
    for picture in (svg.draw(plot, evil), svg.draw(counts, evil), Matrix([evil] * 2, np.eye(2, dtype=np.int64)).body):
        assert "<script" not in picture and "&lt;script&gt;" in picture


def test_confusion_rows_are_shares_of_the_truth(make_run: Callable[..., Any]) -> None:
    run = load_run(make_run())
    counts = run.scores["test"].counts.confusion
    counts[1] = 0  # a class without truth has no shares
    confusion = run_page.confusion(run, "test")
    assert np.isnan(confusion.shares[1]).all()
    assert np.nansum(confusion.shares[0]) == pytest.approx(1)
    assert confusion.shares[2, 3] == counts[2, 3] / counts[2].sum()
    assert confusion.body.count("<td></td>") == 4, "blank, not 0"
    assert confusion.gist.startswith("The most frequent confusion: ")
    dense = Matrix([f"class {n}" for n in range(DENSE + 1)], np.eye(DENSE + 1, dtype=np.int64))
    assert dense.body.count('title="') == DENSE + 1 and ">100.0</td>" not in dense.body


def test_a_runs_page_is_drawn_without_matplotlib() -> None:
    """It takes two seconds to import where the disk is cold."""
    code = "import sys, diffmatch_reports.site; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_bar_below_a_gap_is_seen(comparison: Comparison) -> None:
    """Where a bin is not sure enough the gap lies over its accuracy, which has to show through."""
    plot = reliability({"": bins()})
    with matplotlib.rc_context(STYLE):
        upper = draw_figure(comparison, plot, "").axes[0]
        faces = [container.patches[0].get_facecolor() for container in upper.containers]  # type: ignore[attr-defined]
    assert faces[0][3] == 1 and faces[1][3] == 0
    solid, gap = (f'fill="var(--c{n})"' for n in (1, 2))
    picture = str(svg.draw(plot, ""))
    assert f"{solid}/>" in picture and f'{gap} fill-opacity="0.4"' in picture
