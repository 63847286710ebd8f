"""Pixels by class in predictions and truth: the paper's Figure 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffmatch.card import Card
from diffmatch_reports.plots.spec import STYLES, TRUTH, Bars, Panel, Plot, class_axis, number_axis

UNSEEN = 0.01
"""A bar that is lower than this share of its panel's highest has its number written above it."""

ByClass = Mapping[str, NDArray[Any]]
"""Label of a series -> its numbers, (C,)."""


def class_counts(card: Card, groups: Mapping[str, Sequence[int]], pixels: ByClass, scores: ByClass) -> Plot:
    """Figure 1: pixels of each class in the truth and in predictions, and below them the predictions' IoU.

    Args:
        groups: heading of a column -> its classes.
        pixels: `truth`, drawn in ink, and the predictions.
        scores: IoU of some of the predictions; NaN has no bar.
    """
    columns = {heading: list(classes) for heading, classes in groups.items() if classes}
    upper: list[Panel] = []
    lower: list[Panel] = []
    for heading, classes in columns.items():
        units = ("", "") if upper else ("pixels", "IoU")
        highest = max(float(np.nanmax(counts[classes])) for counts in pixels.values())
        scales = number_axis(0, 1.05 * highest, units[0]), number_axis(0, 1, units[1])
        bars = [_grouped_bars(series, list(pixels), classes) for series in (pixels, scores)]
        notes = [_low_numbers(series) for series in bars]
        names = class_axis(card, classes)
        upper.append(Panel(names.bare, scales[0], bars[0], heading, notes[0]))
        lower.append(Panel(names, scales[1], bars[1], "", notes[1]))
    widths = [len(classes) for classes in columns.values()]
    return Plot([upper, lower], [110, 110], widths, min(14.0, max(6.5, 1.6 + 0.16 * len(pixels) * sum(widths))))


def _grouped_bars(series: ByClass, labels: Sequence[str], classes: list[int]) -> list[Bars]:
    """A group of bars a class, one bar a series; NaN has none. The order of all `labels` decides on styles."""
    styles = {"truth": TRUTH} | dict(zip((label for label in labels if label != "truth"), STYLES, strict=False))
    width = 0.84 / len(series)
    bars = []
    for position, (label, numbers) in enumerate(series.items()):
        heights = np.asarray(numbers[classes], np.float64)
        exists = np.flatnonzero(np.isfinite(heights))
        middles = exists.astype(np.float64) - 0.42 + (position + 0.5) * width
        bars.append(Bars(label, styles[label], width, middles, heights[exists], np.zeros(len(exists))))
    return bars


def _low_numbers(series: Sequence[Bars]) -> list[tuple[float, float, str]]:
    """The numbers of bars too low to be seen, above them."""
    highest = max((bars.top.max(initial=0) for bars in series), default=0)
    low = [(x, y) for bars in series for x, y in zip(bars.x, bars.top, strict=True) if y <= UNSEEN * highest]
    return [(x, y, f"{y:.0f}" if y >= 1 or y == 0 else f"{y:.1g}") for x, y in low]
