"""Normalised performance by class: the paper's Figure 6."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from diffmatch.domain import InputError
from diffmatch.scoring.metrics import ratio
from diffmatch_reports.figures.comparison import Comparison
from diffmatch_reports.figures.style import LOOKS, class_ticks, finish, legend, named, sheet
from diffmatch_reports.load import RunView
from diffmatch_reports.wording import class_metric


def usable(run: RunView) -> bool:
    """Whether the run's test numbers by class are known."""
    return bool(run.metrics("test").get("per_class"))


def normalised(found: Comparison) -> Figure:
    """Figure 6: each class's score over that of its best method, classes in order of their labelled pixels.

    Raises:
        InputError: there is only one method.
    """
    if len(found.groups) < 2:
        raise InputError(f"{found.title}: needs two methods or more, here is only {found.groups[0].name}")
    card, pixels = found.card, found.first.labelled_pixels
    members = sorted(card.scored if card.metric == "mean_dice" else range(len(card.classes)), key=lambda c: -pixels[c])
    key, metric = class_metric(card)
    scores = np.array([[_mean(group.runs, card.names[c], key) for c in members] for group in found.groups])
    best = np.nanmax(np.where(np.isnan(scores), -1, scores), axis=0)
    relative = ratio(scores, np.broadcast_to(best, scores.shape))
    width = min(16.0, max(5.5, 2 + 0.3 * len(members)))
    body = sheet(width, 3.6)
    axes = body.subplots()
    for group, values, look in zip(found.groups, relative, LOOKS, strict=False):
        axes.plot(
            range(len(members)), values, color=look.color, linestyle=look.dash, marker=look.marker, linewidth=1, label=named(group.name)
        )
    class_ticks(axes, "x", members, card, (width - 1) / len(members))
    axes.set_ylabel(f"{metric} / best {metric}")
    axes.set_ylim(max(0.0, np.floor(10 * np.nanmin(relative, initial=1.0)) / 10 - 0.1), 1.03)
    axes.set_xlim(-0.5, len(members) - 0.5)
    axes.grid()
    legend(body, axes.get_lines())
    note = f"{metric}, mean over seeds, over the best of the methods shown; classes from most to least labelled pixels"
    return finish(body, f"{found.title}, {card.title}", found.caption(note=note))


def _mean(runs: list[RunView], name: str, key: str) -> float:
    """Mean over the seeds that have the number; NaN where none has."""
    known = [row[key] for run in runs if key in (row := run.metrics("test")["per_class"].get(name, {}))]
    return float(np.mean(known)) if known else float("nan")
