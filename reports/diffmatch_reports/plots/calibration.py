"""Accuracy against confidence: the paper's Figure 4."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from diffmatch.records.counts import BINS, CONFIDENCE, CONFIDENCE_UNIT, CORRECT, COUNT, Ints
from diffmatch.scoring.metrics import calibration_error, ratio
from diffmatch_reports.plots.spec import INK, Bars, Line, Panel, Plot, Style, number_axis
from diffmatch_reports.wording import percent

MOST_COLUMNS = 4
"""Reliability diagrams side by side."""
GAP, PERFECT = Style(1, filled=False, hatch="//////"), Style(INK, dash=(4, 3), width=1)


def reliability(diagrams: Mapping[str, Ints]) -> Plot:
    """Figure 4: accuracy against confidence, and below it each bin's share of the pixels; an empty bin has no bar.

    Args:
        diagrams: heading, which may be empty -> (3, BINS) as in `Counts.top`.
    """
    columns = min(MOST_COLUMNS, len(diagrams))
    pairs = [_diagram(heading, bins, n % columns == 0) for n, (heading, bins) in enumerate(diagrams.items())]
    starts = range(0, len(pairs), columns)
    rows = [row for start in starts for row in zip(*pairs[start : start + columns], strict=True)]
    return Plot(rows, [150, 50] * len(starts), [1] * columns, max(5.0, 2.4 * columns))


def _diagram(heading: str, bins: Ints, first: bool) -> tuple[Panel, Panel]:
    """The two panels of one diagram; those of the first diagram of a row name the vertical axes."""
    full = np.flatnonzero(bins[COUNT])
    count = bins[COUNT, full]
    accuracy, confidence = ratio(bins[CORRECT, full], count), ratio(bins[CONFIDENCE, full] / CONFIDENCE_UNIT, count)
    low, high = np.minimum(accuracy, confidence), np.maximum(accuracy, confidence)
    shares = 100 * count / max(count.sum(), 1)
    middles, ground, width = (full + 0.5) / BINS, np.zeros(len(full)), 0.9 / BINS
    error = float(calibration_error(bins))
    title = f"{heading}\n{'no pixel to calibrate' if np.isnan(error) else f'ECE {percent(error)} %'}".strip()
    upper: list[Bars | Line] = [
        Bars("accuracy", Style(0), width, middles, accuracy, ground),
        Bars("gap to confidence", GAP, width, middles, high, low),
        Line("perfect", PERFECT, [0, 1], [0, 1]),
    ]
    axis, scale = number_axis(0, 1, "confidence"), number_axis(0, 1, "accuracy" if first else "")
    percents = number_axis(0, 1.05 * float(shares.max(initial=0)), "pixels %" if first else "", most=2)
    lower = Bars("", Style(4), width, middles, shares, ground)
    return Panel(axis.bare, scale, upper, title), Panel(axis, percents, [lower])
