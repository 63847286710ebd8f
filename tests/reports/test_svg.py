"""Axes have round numbers, points land where the scale says, and a plot tells in words what it shows."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffmatch_reports import charts, svg
from diffmatch_reports.svg import RIGHT, WIDTH, Look, Panel, decades, legend, ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 600, [0, 200, 400, 600]),
        (0, 4.3, [0, 1, 2, 3, 4]),
        (-3, 2, [-3, -2, -1, 0, 1, 2]),
        (5, 5, [5]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


@given(low=st.floats(-1e6, 1e6), width=st.floats(1e-3, 1e6))
def test_ticks_lie_inside_and_are_few(low: float, width: float) -> None:
    found = ticks(low, low + width)
    slack = width * 1e-6
    assert 1 <= len(found) <= 6 and low - slack <= found[0] and found[-1] <= low + width + slack


def test_decades() -> None:
    assert decades(80, 120_000) == [100, 1000, 10_000, 100_000]
    assert decades(1, 1e12) == [1, 1e3, 1e6, 1e9, 1e12]


def test_a_panel_maps_its_corners() -> None:
    panel = Panel(10, 100, (0, 50), (0, 2), left=40)
    assert (panel.px(0), panel.px(50), panel.py(0), panel.py(2), panel.py(1)) == (40, WIDTH - RIGHT, 110, 10, 60)
    logarithmic = Panel(0, 10, (1, 100), (0, 1), left=0, log=True)
    assert logarithmic.px(10) == pytest.approx((WIDTH - RIGHT) / 2)


def test_a_curve_of_one_point_is_a_dot_and_of_none_is_not_drawn() -> None:
    panel = Panel(0, 10, (0, 1), (0, 1))
    panel.line([(0.5, 0.5)], Look("red"))
    assert panel.parts[0].startswith("<circle")
    assert charts.pseudo_labels({}, {}, "x") is None


def test_a_legend_breaks_into_rows_inside_the_picture() -> None:
    parts, height = legend([(f"a long label {n}", "") for n in range(6)])
    corners = [re.search(r"translate\(([\d.]+) ([\d.]+)\)", part) for part in parts]
    assert len({corner[2] for corner in corners if corner}) > 1 and height > 30
    assert all(float(corner[1]) < WIDTH for corner in corners if corner)


def test_curves_are_thinned_and_keep_their_ends() -> None:
    drawn = charts.lines({"loss": dict.fromkeys(range(5000), 1.0)}, "loss", "Losses")
    path = max(re.findall(r'd="M([^"]+)"', drawn), key=len)
    assert 100 < len(path.split("L")) < 400
    assert path.split("L")[-1].startswith(f"{WIDTH - RIGHT}.0 ")
    assert "loss from 1 to 1" in drawn


def test_names_are_escaped() -> None:
    evil = '<script>"&'
    for drawn in (
        charts.lines({evil: {0: 1.0, 1: 2.0}, "b": {0: 1.0}}, evil, evil),
        charts.pseudo_labels({"truth": {0: 0.5}}, {}, evil),
    ):
        assert drawn is not None and "<script" not in drawn and 'aria-label="' in drawn


def test_ticks_are_short_enough_for_their_margin():
    assert [svg._number(v) for v in (0, 0.25, 1200, 1e4, 2e6, 4e-4, 2.5e-4, -3e-5, 1e-15)] == [
        "0", "0.25", "1200", "10k", "2M", "4e-4", "2.5e-4", "-3e-5", "0",
    ]  # fmt: skip
