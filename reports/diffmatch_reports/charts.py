"""The run page's plots: reliability, curves over training, pseudo-labels by class, class distribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from diffmatch.records.counts import BINS, CONFIDENCE, CONFIDENCE_UNIT, CORRECT, COUNT, Ints
from diffmatch.scoring.metrics import calibration_error, ratio
from diffmatch_reports.load import Series
from diffmatch_reports.svg import GRID, INK, LEFT, LETTER, SERIES, Look, Panel, legend, picture, sample, symbol
from diffmatch_reports.wording import big, percent, share

BLUE, ORANGE, GREEN, _, SKY = SERIES
MAX_POINTS = 160
XLABEL = 28
"""Room below a panel for its numbers and label."""


def reliability(bins: Ints, name: str) -> Markup:
    """Accuracy against confidence (the paper's Figure 4), and below it how many pixels each bin holds.

    Args:
        bins: (3, BINS) as in `Counts.top`.
        name: what was scored, for the alternative text.
    """
    count = bins[COUNT]
    accuracy, confidence = ratio(bins[CORRECT], count), ratio(bins[CONFIDENCE] / CONFIDENCE_UNIT, count)
    shares = count / max(count.sum(), 1)
    keys, top = legend([
        ("accuracy", f'<rect y="-4" width="16" height="8" fill="{BLUE}"/>'),
        ("gap to confidence", f'<rect y="-4" width="16" height="8" fill="none" stroke="{ORANGE}"/>'),
        ("perfect", sample(Look(INK, "4 3", 1))),
    ])  # fmt: skip
    upper = Panel(top, 150, (0, 1), (0, 1))
    lower = Panel(top + 160, 50, (0, 1), (0, max(100 * float(shares.max()), 1e-9)))
    upper.axes(ylabel="accuracy", xnumbers=False)
    lower.axes("confidence", "pixels %", yticks=2)
    for b in np.flatnonzero(count):
        left, right = (b + 0.05) / BINS, (b + 0.95) / BINS
        upper.bar(left, right, 0, float(accuracy[b]), BLUE)
        upper.bar(left, right, float(accuracy[b]), float(confidence[b]), ORANGE, outline=True)
        lower.bar(left, right, 0, 100 * float(shares[b]), SKY)
    upper.line([(0, 0), (1, 1)], Look(INK, "4 3", 1))
    last = int(np.flatnonzero(count)[-1])
    gist = (
        f"Reliability diagram, {name}: ECE {percent(float(calibration_error(bins)))} %. "
        f"The most confident bin holds {share(shares[last])} % of the pixels, "
        f"with accuracy {percent(accuracy[last])} % at mean confidence {percent(confidence[last])} %."
    )
    return picture(top + 210 + XLABEL, [*keys, *upper.parts, *lower.parts], gist)


def lines(curves: Mapping[str, Series], ylabel: str, name: str) -> Markup:
    """Curves over training steps; the first is drawn in ink, the others in the series colours."""
    looks = [Look(INK, width=1.2), *(Look(color, dash, 1.2) for dash in ("", "5 3", "1.5 2") for color in SERIES)]
    drawn = dict(zip(curves, looks, strict=False))
    keys, top = legend([(label, sample(look)) for label, look in drawn.items()]) if len(curves) > 1 else ([], 6)
    panel = Panel(top, 140, _span(curves), _range(curves))
    panel.axes("step", ylabel)
    for label, look in drawn.items():
        panel.line(_points(curves[label]), look)
    ends = "; ".join(f"{label} from {_first(curve):.3g} to {_last(curve):.3g}" for label, curve in curves.items())
    return picture(top + 140 + XLABEL, [*keys, *panel.parts], f"{name} over training steps: {ends}.")


LOOKS = {
    "truth": Look(INK, "5 3"),
    "pseudo-labels": Look(BLUE, width=2),
    "training views": Look(SKY, "1 1", 1.2),
    "accepted": Look(ORANGE),
    "correct": Look(GREEN, "6 2 1.5 2"),
}


def pseudo_labels(shares: Mapping[str, Series], rates: Mapping[str, Series], name: str) -> Markup | None:
    """One class's share of the pixels over training (the paper's Figure 8) and below it acceptance and precision.

    Args:
        shares: of `truth`, `pseudo-labels` and `training views`, fractions; any may be missing.
        rates: `accepted`, `correct`, fractions of the pseudo-labels.
        name: of the class.
    """
    if not shares:
        return None
    keys, top = legend([(label, sample(LOOKS[label])) for label in (*shares, *rates)])
    span = _span({**shares, **rates})
    upper = Panel(top, 110, span, (0, max(100 * _range(shares)[1], 1e-9)))
    lower = Panel(top + 122, 70, span, (0, 105))
    upper.axes(ylabel="share of pixels %", xnumbers=False)
    lower.axes("step", "of pseudo-labels %", yticks=2)
    for panel, curves in ((upper, shares), (lower, rates)):
        for label, curve in curves.items():
            panel.line([(step, 100 * value) for step, value in _points(curve)], LOOKS[label])
    ends = ", ".join(f"{label} {share(_last(curve))} %" for label, curve in {**shares, **rates}.items())
    return picture(
        top + 192 + XLABEL, [*keys, *upper.parts, *lower.parts], f"Pseudo-labels of class {name} over training. At the end: {ends}."
    )


MARKS = {"truth": ("bar", INK), "predicted": ("dot", BLUE), "accepted": ("cross", ORANGE)}


def distribution(names: Sequence[str], counts: Mapping[str, Ints], name: str) -> Markup:
    """Pixels per class in the truth and in the pseudo-labels on one logarithmic axis (the paper's Figure 1, a and b)."""
    shown = [n if len(n) <= 22 else n[:21] + "…" for n in names]
    left = min(130.0, max(LEFT, 10 + LETTER * max(map(len, shown))))
    present = [int(v) for values in counts.values() for v in values if v > 0] or [1]
    keys, top = legend([(label, symbol(MARKS[label][0], 8, 0, MARKS[label][1])) for label in counts], left=left)
    panel = Panel(top, 18 * len(names), (min(present) * 0.8, max(present) * 1.25), (len(names) - 0.5, -0.5), left, log=True)
    panel.axes("pixels", yticks=0)
    for row, label in enumerate(shown):
        panel.text(left - 6, panel.py(row) + 3, label, "end")
        found = [int(values[row]) for values in counts.values() if values[row] > 0]
        if found:
            panel.segment(panel.px(min(found)), panel.py(row), panel.px(max(found)), panel.py(row), GRID, 3)
        for kind, values in counts.items():
            if values[row] > 0:
                panel.mark(MARKS[kind][0], int(values[row]), row, MARKS[kind][1])
    gist = "; ".join(f"{n}: " + ", ".join(f"{k} {big(float(v[i]))}" for k, v in counts.items()) for i, n in enumerate(names[:25]))
    return picture(top + 18 * len(names) + XLABEL, [*keys, *panel.parts], f"Pixels per class, {name}. {gist}.")


def _points(curve: Series) -> list[tuple[float, float]]:
    """Sorted and thinned to what a plot can show; the first and the last point stay."""
    points: list[tuple[float, float]] = sorted(curve.items())
    stride = -(-len(points) // MAX_POINTS)
    return points if stride == 1 else [*points[:-1:stride], points[-1]]


def _span(curves: Mapping[str, Series]) -> tuple[float, float]:
    steps = [step for curve in curves.values() for step in curve]
    return min(steps), max(steps)


def _range(curves: Mapping[str, Series]) -> tuple[float, float]:
    """From 0, or the lowest value if that is below, to a little over the highest."""
    values = [value for curve in curves.values() for value in curve.values()]
    return min(0.0, *values), max(values) * 1.05 if max(values) > 0 else 1.0


def _first(curve: Series) -> float:
    return curve[min(curve)]


def _last(curve: Series) -> float:
    return curve[max(curve)]
