"""Methods side by side in plots: the paper's Figures 1, 4, 5, 6 and 8."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np
from matplotlib.figure import Figure

from diffmatch.domain import InputError
from diffmatch.records.counts import BINS
from diffmatch.scoring.metrics import iou, ratio
from diffmatch_reports.figures.comparison import Comparison
from diffmatch_reports.figures.drawing import CLASS_NAME, GRID, INK, PAPER, class_ticks, draw, finish, named, sheet
from diffmatch_reports.load import RunView, Series
from diffmatch_reports.plots.calibration import reliability
from diffmatch_reports.plots.class_counts import class_counts
from diffmatch_reports.plots.confusion import Matrix
from diffmatch_reports.plots.spec import STYLES, TRUTH, Line, Panel, Plot, class_axis, number_axis
from diffmatch_reports.plots.training import Curves, over_steps
from diffmatch_reports.wording import class_metric, ece_scope


def pool_counts(compared: Comparison) -> Figure:
    """Figure 1: pixels of each head and tail class in truth and pseudo-labels, and the pseudo-labels' IoU."""
    confusions = [group.pooled(compared.split).confusion for group in compared.groups]
    pixels = {"truth": sum(confusion.sum(1) for confusion in confusions) / len(compared.runs)}
    pixels |= {group.name: c.sum(0) / len(group.runs) for group, c in zip(compared.groups, confusions, strict=True)}
    scores = {group.name: iou(c) for group, c in zip(compared.groups, confusions, strict=True)}
    head, tail = compared.card.ranked(compared.first.labelled_pixels)
    plot = class_counts(compared.card, {"head classes": head, "tail classes": tail}, pixels, scores)
    note = "Pixels: mean over seeds, every pseudo-label counted, accepted or not; IoU: of the seeds' counts added up"
    return draw(compared, plot, note)


def pool_calibration(compared: Comparison) -> Figure:
    """Figure 4: accuracy against confidence, and each bin's share of the pixels; the seeds' counts are added up."""
    counts = {group.name: group.pooled(compared.split) for group in compared.groups}
    foreground = compared.card.foreground_calibration
    diagrams = {name: one.foreground if foreground else one.top for name, one in counts.items()}
    note = f"ECE over {ece_scope(compared.card)}, {BINS} bins of equal width; the seeds' counts are added up"
    return draw(compared, reliability(diagrams), note)


def pool_confusion(compared: Comparison) -> Figure:
    """Figure 5: what the pixels of each true class (a row) are taken for; the seeds' counts are added up."""
    classes = class_axis(compared.card, range(len(compared.card.classes)))
    side = min(8.0, max(2.2, 0.22 * len(classes.ticks)))
    columns = max(1, min(len(compared.groups), int(14 // side)))
    rows = -(-len(compared.groups) // columns)
    body = sheet(max(5.0, (side + 0.25) * columns + 2.2), (side + 1) * rows + 0.3)
    panels = body.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in panels.ravel()[len(compared.groups) :]:
        axes.set_visible(False)
    for group, axes in zip(compared.groups, panels.ravel(), strict=False):
        confusion = Matrix(compared.card.names, group.pooled(compared.split).confusion)
        axes.set_facecolor(GRID)
        drawn = axes.imshow(100 * confusion.shares, cmap="Blues", vmin=0, vmax=100)
        axes.set(title=named(group.name), xlabel="pseudo-label")
        for which in ("x", "y"):
            class_ticks(axes, which, classes, side / len(classes.ticks), 5 if confusion.dense else CLASS_NAME)
        for (row, column), value in [] if confusion.dense else np.ndenumerate(confusion.shares):
            if np.isfinite(value):
                color = PAPER if value > 0.5 else INK
                axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=6, color=color)
    body.supylabel("truth", fontsize=8)
    body.colorbar(drawn, ax=panels, shrink=0.7, label="share of the true class %")
    note = "Rows add up to 100 %, a class without a pixel in the truth is left grey; the seeds' counts are added up"
    return finish(compared, body, note)


def relative_scores(compared: Comparison) -> Figure:
    """Figure 6: each class's score over that of its best method, classes in order of their labelled pixels.

    Raises:
        InputError: there is only one method.
    """
    if len(compared.groups) < 2:
        raise InputError(f"{compared.kind}: needs two methods or more, here is only {compared.groups[0].name}")
    card, pixels = compared.card, compared.first.labelled_pixels
    members = sorted(card.scored if card.metric == "mean_dice" else range(len(card.classes)), key=lambda c: -pixels[c])
    key, metric = class_metric(card)
    scores = np.array([[_mean_score(group.runs, card.names[c], key) for c in members] for group in compared.groups])
    best = np.nanmax(np.where(np.isnan(scores), -1, scores), axis=0)
    relative = ratio(scores, np.broadcast_to(best, scores.shape))
    lines = [
        Line(group.name, style, range(len(members)), values)
        for group, values, style in zip(compared.groups, relative, STYLES, strict=False)
    ]
    lowest = float(np.floor(10 * np.nanmin(relative, initial=1.0))) / 10 - 0.05
    panel = Panel(class_axis(card, members), number_axis(lowest, 1.03, f"{metric} / best {metric}"), lines)
    plot = Plot([[panel]], [190], inches=min(16.0, max(5.5, 2 + 0.3 * len(members))))
    note = f"{metric}, mean over seeds, over the best of the methods shown; classes from most to least labelled pixels"
    return draw(compared, plot, note)


def _mean_score(runs: Sequence[RunView], name: str, key: str) -> float:
    """Mean over the seeds that have the number; NaN where none has."""
    known = [row[key] for run in runs if key in (row := run.metrics("test")["per_class"].get(name, {}))]
    return fmean(known) if known else float("nan")


def pool_over_steps(compared: Comparison) -> Figure:
    """Figure 8: pixels of the most frequent head and the rarest tail class, pseudo-labels and truth, by step."""
    head, tail = compared.first.ranks()
    styles = {"truth": TRUTH} | {group.name: style for group, style in zip(compared.groups, STYLES, strict=False)}
    panels = []
    for rank, name in (("head", head[0]), ("tail", tail[-1])):
        curves = {"truth": _mean_curve(compared.runs, "audit/truth", name)}
        curves |= {group.name: _mean_curve(group.runs, "audit/predicted", name) for group in compared.groups}
        panels.append(Curves(curves, styles, "pixels", title=f"{rank} class: {name}"))
    items = compared.first.record.settings.get("train", {}).get("audit_items")
    audited = f"audits of a fixed sample of the unlabelled pool{f' (at most {items} items)' if items else ''}"
    note = "Mean over seeds, every pseudo-label counted, accepted or not; training does not see the truth"
    return draw(compared, over_steps(panels, "training step"), note, audited)


def _mean_curve(runs: Sequence[RunView], series: str, name: str) -> Series:
    """A class's curve, mean over the runs at the steps that all of them audited."""
    curves = [run.series(series).get(name, {}) for run in runs]
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    return {step: fmean(curve[step] for curve in curves) for step in steps}
