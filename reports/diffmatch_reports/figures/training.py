"""Pseudo-label counts through training: the paper's Figure 8."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from matplotlib.figure import Figure

from diffmatch_reports.figures.comparison import Comparison
from diffmatch_reports.figures.style import INK, LOOKS, finish, legend, named, sheet
from diffmatch_reports.load import RunView, Series


def usable(run: RunView) -> bool:
    """Whether the run's pseudo-labels were audited."""
    return bool(run.series("audit/predicted") and run.series("audit/truth"))


def label_counts(found: Comparison) -> Figure:
    """Figure 8: pixels of the most frequent head and the rarest tail class, pseudo-labels and truth, by step, mean over seeds."""
    head, tail = found.first.ranks()
    body = sheet(5.6, 4.4)
    panels = body.subplots(2, 1, sharex=True)
    for axes, what, name in zip(panels, ("head", "tail"), (head[0], tail[-1]), strict=True):
        truth = _mean(found.runs, "audit/truth", name)
        axes.plot(list(truth), list(truth.values()), color=INK, linestyle=(0, (6, 3)), linewidth=1.2, label="truth")
        for group, look in zip(found.groups, LOOKS, strict=False):
            curve = _mean(group.runs, "audit/predicted", name)
            style = {"color": look.color, "linestyle": look.dash, "marker": look.marker}
            axes.plot(list(curve), list(curve.values()), label=named(group.name), **style)
        axes.set_title(f"{what} class: {named(name)}")
        axes.set_ylabel("pixels")
        axes.set_ylim(bottom=0)
        axes.grid(axis="y")
    panels[1].set_xlabel("training step")
    legend(body, panels[0].get_lines())
    items = found.first.record.settings.get("train", {}).get("audit_items")
    shown = f"audits of a fixed sample of the unlabelled pool{f' (at most {items} items)' if items else ''}"
    note = "Mean over seeds, every pseudo-label counted, accepted or not; training does not see the truth"
    return finish(body, f"{found.title}, {found.card.title}", found.caption(shown, note))


def _mean(runs: Sequence[RunView], series: str, name: str) -> Series:
    """A class's curve, mean over the runs at the steps that all of them audited."""
    curves = [run.series(series).get(name, {}) for run in runs]
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    return {step: fmean(curve[step] for curve in curves) for step in steps}
