"""Pseudo-labels of the unlabelled pool against the hidden truth: the paper's Figures 1, 4 and 5."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from diffmatch.records.counts import BINS, CONFIDENCE, CONFIDENCE_UNIT, CORRECT, COUNT, Ints
from diffmatch.scoring.metrics import calibration_error, iou, ratio
from diffmatch_reports.confusion import matrix
from diffmatch_reports.figures.comparison import Comparison
from diffmatch_reports.figures.style import GRID, INK, LOOKS, PAPER, class_ticks, finish, legend, named, sheet
from diffmatch_reports.load import RunView
from diffmatch_reports.wording import ece_scope, percent

MOST_NUMBERS = 25
"""Classes of a confusion matrix whose cells can hold a number."""
UNSEEN = 0.01
"""A bar that is lower than this share of the highest has its number written above it."""


def usable(run: RunView) -> bool:
    """Whether pixels of the pool were scored."""
    return "unlabeled" in run.scores and bool(run.scores["unlabeled"].counts.confusion.any())


def label_counts(found: Comparison) -> Figure:
    """Figure 1: pixels of each head and tail class in truth and pseudo-labels, and the pseudo-labels' IoU.

    Counts are means over seeds, IoU is of the seeds' counts added up.
    """
    card = found.card
    pooled = [group.pooled(found.split).confusion for group in found.groups]
    truth = sum(confusion.sum(1) for confusion in pooled) / len(found.runs)
    predicted = {g.name: c.sum(0) / len(g.runs) for g, c in zip(found.groups, pooled, strict=True)}
    scores = {g.name: iou(c) for g, c in zip(found.groups, pooled, strict=True)}
    ranks = [[card.names.index(name) for name in names] for names in found.first.ranks()]
    bars = (len(found.groups) + 1) * sum(map(len, ranks))
    width = min(14.0, max(6.5, 1.6 + 0.16 * bars))
    body = sheet(width, 4.6)
    panels = body.subplots(2, 2, width_ratios=[max(1, len(rank)) for rank in ranks])
    for column, (what, members) in enumerate(zip(("head", "tail"), ranks, strict=True)):
        _bars(panels[0, column], {"truth": truth} | predicted, members)
        _bars(panels[1, column], scores, members)
        for axes in panels[:, column]:
            class_ticks(axes, "x", members, card, (width - 1.5) / sum(map(len, ranks)))
        panels[0, column].set_title(f"{what} classes")
        panels[1, column].set_ylim(0, 1)
    panels[0, 0].set_ylabel("pixels")
    panels[1, 0].set_ylabel("IoU")
    legend(body, panels[0, 0].containers)
    note = "Pixels are the mean over seeds, every pseudo-label counted, accepted or not; IoU is of the seeds' counts added up"
    return finish(body, f"{found.title}, {card.title}", found.caption(note=note))


def _bars(axes: Axes, series: dict[str, NDArray[np.float64]], members: list[int]) -> None:
    """A group of bars a class, one bar a series; a number that does not exist has none, one too low to be seen is told."""
    width = 0.84 / len(series)
    looks = {"truth": (PAPER, "")} | {n: (k.color, k.hatch) for n, k in zip((n for n in series if n != "truth"), LOOKS, strict=False)}
    for i, (name, values) in enumerate(series.items()):
        color, hatch = looks[name]
        places = np.arange(len(members)) - 0.42 + (i + 0.5) * width
        heights = values[members]
        known = np.isfinite(heights)
        axes.bar(places[known], heights[known], width, facecolor=color, edgecolor=INK, hatch=hatch, linewidth=0.7, label=named(name))
    highest = max((float(patch.get_height()) for patch in axes.patches), default=0.0)  # type: ignore[attr-defined]
    for patch in axes.patches:
        place, height = patch.get_x() + width / 2, patch.get_height()  # type: ignore[attr-defined]
        if height <= highest * UNSEEN:
            text = f"{height:.0f}" if height >= 1 or height == 0 else f"{height:.1g}"
            axes.text(place, height, text, ha="center", va="bottom", fontsize=6, rotation=90 if len(text) > 1 else 0)
    axes.set_xlim(-0.6, len(members) - 0.4)
    axes.grid(axis="y")


def reliability(found: Comparison) -> Figure:
    """Figure 4: accuracy against confidence, and each bin's share of the pixels; the seeds' counts are added up."""
    columns = min(4, len(found.groups))
    rows = -(-len(found.groups) // columns)
    body = sheet(max(5.0, 2.4 * columns), 3.5 * rows + 0.4)
    panels = body.subplots(2 * rows, columns, sharex=True, squeeze=False, height_ratios=[3, 1] * rows)
    for axes in panels.ravel():
        axes.set_visible(False)
    for i, group in enumerate(found.groups):
        row, column = divmod(i, columns)
        upper, lower = panels[2 * row : 2 * row + 2, column]
        counts = group.pooled(found.split)
        bins = counts.foreground if found.card.foreground_calibration else counts.top
        error = float(calibration_error(bins))
        upper.set_title(f"{named(group.name)}\n{'no pixel to calibrate' if np.isnan(error) else f'ECE {percent(error)} %'}")
        _reliability(upper, lower, bins)
        if column == 0:
            upper.set_ylabel("accuracy")
            lower.set_ylabel("pixels %")
    legend(body, [*panels[0, 0].containers, *panels[0, 0].get_lines()])
    note = f"ECE over {ece_scope(found.card)}, {BINS} bins of equal width; the seeds' counts are added up"
    return finish(body, f"{found.title}, {found.card.title}", found.caption(note=note))


def _reliability(upper: Axes, lower: Axes, bins: Ints) -> None:
    """A bin's accuracy, its gap to the mean confidence, and its share of the pixels; an empty bin has no bar."""
    full = np.flatnonzero(bins[COUNT])
    count = bins[COUNT][full]
    accuracy, confidence = ratio(bins[CORRECT][full], count), ratio(bins[CONFIDENCE][full] / CONFIDENCE_UNIT, count)
    centres, width = (full + 0.5) / BINS, 0.9 / BINS
    blue, orange, sky = LOOKS[0].color, LOOKS[1].color, LOOKS[4].color
    for axes in (upper, lower):
        axes.set_visible(True)
    upper.bar(centres, accuracy, width, color=blue, label="accuracy")
    gap: Any = {"facecolor": "none", "edgecolor": orange, "hatch": "//////", "linewidth": 1, "label": "gap to confidence"}
    upper.bar(centres, np.abs(accuracy - confidence), width, bottom=np.minimum(accuracy, confidence), **gap)
    upper.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle="--", label="perfect")
    upper.set(ylim=(0, 1), xlim=(0, 1))
    lower.bar(centres, 100 * count / max(count.sum(), 1), width, color=sky, edgecolor=INK, linewidth=0.4)
    lower.set(xlabel="confidence")
    lower.tick_params(labelbottom=True)


def confusions(found: Comparison) -> Figure:
    """Figure 5: what the pixels of each true class (a row) are taken for; the seeds' counts are added up."""
    card, every = found.card, list(range(len(found.card.classes)))
    side = min(8.0, max(2.2, 0.22 * len(every)))
    columns = max(1, min(len(found.groups), int(14 // side)))
    rows = -(-len(found.groups) // columns)
    body = sheet(max(5.0, (side + 0.25) * columns + 2.2), (side + 1) * rows + 0.3)
    panels = body.subplots(rows, columns, squeeze=False, sharey=True)
    size = 7.5 if len(every) <= MOST_NUMBERS else 5
    for axes in panels.ravel()[len(found.groups) :]:
        axes.set_visible(False)
    for group, axes in zip(found.groups, panels.ravel(), strict=False):
        shares = matrix(group.pooled(found.split).confusion, card.names).shares
        axes.set_facecolor(GRID)
        drawn = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100)
        axes.set_title(named(group.name))
        axes.set_xlabel("pseudo-label")
        class_ticks(axes, "x", every, card, side / len(every), size)
        class_ticks(axes, "y", every, card, side / len(every), size)
        if len(every) <= MOST_NUMBERS:
            for (row, column), value in np.ndenumerate(shares):
                if np.isfinite(value):
                    axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=6, color=PAPER if value > 0.5 else INK)
    body.supylabel("truth", fontsize=8)
    body.colorbar(drawn, ax=panels, shrink=0.7, label="share of the true class %")
    note = "Rows add up to 100 %, a class without a pixel in the truth is left grey; the seeds' counts are added up"
    return finish(body, f"{found.title}, {card.title}", found.caption(note=note))
