"""Curves over training steps: the paper's Figure 8, and the losses of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from diffmatch_reports.load import Series
from diffmatch_reports.plots.spec import Line, Panel, Plot, Style, number_axis

MOST_POINTS = 160
"""Points of a curve that are drawn."""


@dataclass(frozen=True)
class Curves:
    """What one panel shows: curves by label, of which empty ones are left out, and their styles.

    Attributes:
        height: in points.
        top: upper limit; without it, a little over the highest value.
        ticks: at most this many and one.
    """

    curves: Mapping[str, Series]
    styles: Mapping[str, Style]
    unit: str
    title: str = ""
    height: float = 110
    top: float | None = None
    ticks: int = 6


def over_steps(panels: Sequence[Curves], unit: str = "step") -> Plot:
    """Panels one below the other, from step 0 to the last one of any curve."""
    last = max(step for panel in panels for curve in panel.curves.values() for step in curve)
    axis = number_axis(0, last, unit)
    rows = []
    for panel in panels:
        values = [0.0, *(value for curve in panel.curves.values() for value in curve.values())]
        scale = number_axis(min(values), panel.top or 1.05 * max(values), panel.unit, panel.ticks)
        lines = [Line(label, panel.styles[label], *_points(curve)) for label, curve in panel.curves.items() if curve]
        rows.append([Panel(axis if panel is panels[-1] else axis.bare, scale, lines, panel.title)])
    return Plot(rows, [panel.height for panel in panels])


def _points(curve: Series) -> tuple[list[int], list[float]]:
    """Steps, in order, and values, as many as a plot can show; the first and the last one stay."""
    steps = sorted(curve)
    steps = [*steps[: -1 : -(-len(steps) // MOST_POINTS)], steps[-1]]
    return steps, [curve[step] for step in steps]
