"""Matplotlib figures as inline SVG that follows the page's theme: ink and series colours are placeholders for CSS variables."""

from __future__ import annotations

import io
import itertools
import re
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from diffmatch.metrics import BINS, CONFIDENCE, CONFIDENCE_UNIT, CORRECT, COUNT, Ints, calibration_error, ratio
from diffmatch_reports.wording import big, percent, share

INK, GRID = "#010101", "#020202"
BLUE, ORANGE, GREEN, PINK, SKY = SERIES = ("#030301", "#030302", "#030303", "#030304", "#030305")
_CSS = {INK: "currentColor", GRID: "var(--grid)"} | {color: f"var(--c{i})" for i, color in enumerate(SERIES, 1)}

WIDTH = 4.5
MAX_POINTS = 400
_serial = itertools.count(1)
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
} | dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK)


def reliability(bins: Ints, name: str) -> Markup:
    """Accuracy against confidence (the paper's Figure 4), and below it how many pixels each bin holds.

    Args:
        bins: (3, BINS) as in `Counts.top`.
        name: what was scored, for the alternative text.
    """
    count = bins[COUNT]
    accuracy, confidence = ratio(bins[CORRECT], count), ratio(bins[CONFIDENCE] / CONFIDENCE_UNIT, count)
    centres, width = (np.arange(BINS) + 0.5) / BINS, 0.9 / BINS
    with matplotlib.rc_context(_STYLE):
        figure = _figure(3.9)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        upper.bar(centres, np.nan_to_num(accuracy), width, color=BLUE, label="accuracy")
        low = np.nan_to_num(np.minimum(accuracy, confidence))
        gap = np.nan_to_num(np.abs(accuracy - confidence))
        full = count > 0
        upper.bar(
            centres[full],
            gap[full],
            width,
            bottom=low[full],
            facecolor="none",
            edgecolor=ORANGE,
            hatch="////",
            linewidth=1,
            label="gap to confidence",
        )
        upper.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle="--", label="perfect")
        upper.set(ylabel="accuracy", ylim=(0, 1), xlim=(0, 1))
        upper.legend(loc="upper left")
        lower.bar(centres, count / max(count.sum(), 1) * 100, width, color=SKY)
        lower.set(xlabel="confidence", ylabel="pixels %")
        lower.yaxis.set_major_locator(MaxNLocator(3))
    error = float(calibration_error(bins))
    last = int(np.flatnonzero(count)[-1])
    gist = (
        f"Reliability diagram, {name}: ECE {percent(error)} %. "
        f"The most confident bin holds {share(count[last] / count.sum())} % of the pixels, "
        f"with accuracy {percent(accuracy[last])} % at mean confidence {percent(confidence[last])} %."
    )
    return _svg(figure, gist)


def lines(curves: dict[str, pd.Series[float]], ylabel: str, name: str) -> Markup:
    """Curves over training steps; the first is drawn in ink, the others in the series colours."""
    with matplotlib.rc_context(_STYLE):
        figure = _figure(2.6)
        axes = figure.subplots()
        styles = [(INK, "-"), *((color, dash) for dash in ("-", "--", ":") for color in SERIES)]
        for (label, curve), (color, dash) in zip(curves.items(), styles, strict=False):
            _line(axes, curve, label, color=color, linestyle=dash, linewidth=1.2)
        axes.set(xlabel="step", ylabel=ylabel)
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        if len(curves) > 1:
            axes.legend()
    ends = "; ".join(f"{label} from {curve.iloc[0]:.3g} to {curve.iloc[-1]:.3g}" for label, curve in curves.items())
    return _svg(figure, f"{name} over training steps: {ends}.")


def pseudo_labels(shares: dict[str, pd.Series[float]], rates: dict[str, pd.Series[float]], name: str) -> Markup | None:
    """One class's share of the pixels over training (the paper's Figure 8) and below it acceptance and precision.

    Args:
        shares: of `truth`, `pseudo-labels` and `training views`, fractions; any may be missing.
        rates: `accepted`, `correct`, fractions of the pseudo-labels.
        name: of the class.
    """
    if not shares:
        return None
    looks = {
        "truth": (INK, "--", 1.6),
        "pseudo-labels": (BLUE, "-", 2.0),
        "training views": (SKY, "-", 0.9),
        "accepted": (ORANGE, "-", 1.6),
        "correct": (GREEN, "-.", 1.6),
    }
    with matplotlib.rc_context(_STYLE):
        figure = _figure(3.6)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        for axes, curves in ((upper, shares), (lower, rates)):
            for label, curve in curves.items():
                color, dash, width = looks[label]
                _line(axes, curve * 100, label, color=color, linestyle=dash, linewidth=width)
            axes.set_ylim(bottom=0)
            if curves:
                axes.legend()
        upper.set(ylabel="share of pixels %")
        lower.set(ylabel="of pseudo-labels %", xlabel="step", ylim=(0, 105))
    ends = ", ".join(f"{label} {share(float(curve.iloc[-1]))} %" for label, curve in (shares | rates).items() if len(curve))
    return _svg(figure, f"Pseudo-labels of class {name} over training. At the end: {ends}.")


def distribution(names: list[str], counts: dict[str, Ints], name: str) -> Markup:
    """Pixels per class in the truth and in the pseudo-labels on one logarithmic axis (the paper's Figure 1, a and b)."""
    looks = {"truth": ("|", INK, 13.0), "predicted": ("o", BLUE, 6.0), "accepted": ("x", ORANGE, 6.0)}
    rows = np.arange(len(names))
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH, max(2.2, 1.0 + 0.26 * len(names))), layout="constrained")  # names differ in width
        axes = figure.subplots()
        drawn = np.stack([np.where(c > 0, c, np.nan) for c in counts.values()])
        for row, column in zip(rows, drawn.T, strict=True):
            if np.isfinite(column).any():
                axes.plot([np.nanmin(column), np.nanmax(column)], [row, row], color=GRID, linewidth=3, solid_capstyle="butt")
        for (label, _), values in zip(counts.items(), drawn, strict=True):
            marker, color, size = looks[label]
            axes.plot(values, rows, marker, color=color, markersize=size, markeredgewidth=2, label=label)
        axes.set(xscale="log", xlabel="pixels", yticks=rows, ylim=(len(names) - 0.5, -0.5))
        axes.set_yticklabels(names)
        axes.grid(visible=False, axis="y")
        figure.legend(loc="outside upper center", ncols=len(counts), fontsize=8)
    gist = "; ".join(f"{n}: " + ", ".join(f"{k} {big(float(v[i]))}" for k, v in counts.items()) for i, n in enumerate(names[:25]))
    return _svg(figure, f"Pixels per class, {name}. {gist}.")


def _figure(height: float) -> Figure:
    """A figure with margins fixed in inches: no layout engine, which takes as long as the drawing, and panels line up down the page."""
    figure = Figure(figsize=(WIDTH, height))
    figure.subplots_adjust(left=0.55 / WIDTH, right=1 - 0.1 / WIDTH, bottom=0.45 / height, top=1 - 0.12 / height, hspace=0.12)
    return figure


def _line(axes: Axes, curve: pd.Series[float], label: str, **style: Any) -> None:
    """A curve thinned to what a screen can show; a single point as a marker."""
    thin = curve.iloc[:: max(1, -(-len(curve) // MAX_POINTS))]
    axes.plot(thin.index.to_numpy(), thin.to_numpy(), marker="o" if len(thin) == 1 else None, label=label, **style)


def _svg(figure: Figure, gist: str) -> Markup:
    """The figure as an <svg> without size, namespaces or fonts of its own; ids made unique so that many share one page."""
    buffer = io.StringIO()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": gist}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    view = re.search(r'viewBox="([^"]+)"', text)
    assert view is not None
    body = re.sub(r"<metadata>.*?</metadata>", "", text[text.index(">") + 1 :], flags=re.S)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', body))
    body = re.sub(r' id="([^"]+)"', lambda m: m[0] if m[1] in used else "", body)
    prefix = f"s{next(_serial)}-"
    body = body.replace(' id="', f' id="{prefix}').replace("url(#", f"url(#{prefix}").replace('xlink:href="#', f'href="#{prefix}')
    body = re.sub(r"'DejaVu Sans'(, [^;\"]*)?", "system-ui, sans-serif", body)
    for placeholder, css in _CSS.items():
        body = body.replace(placeholder, css)
    return Markup(f'<svg role="img" viewBox="{view[1]}" aria-label="{escape(gist)}">{body}')
