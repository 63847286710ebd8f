"""A plot drawn by matplotlib, with title, legend and caption. No pyplot: nothing global is kept."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.transforms import ScaledTranslation

from diffmatch_reports.figures.comparison import Comparison, plain
from diffmatch_reports.plots.spec import Axis, Bars, Line, Panel, Plot

INK, PAPER, GRID = "#111111", "#ffffff", "#d4d4d4"
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999", INK)
"""Okabe and Ito's, told apart by the colour-blind; the last one is ink."""
CAPTION, TITLE, CLASS_NAME = 7.0, 10.0, 7.5
"""Sizes of text in points."""
CHARACTERS = 126
"""Of text of one point, to an inch."""
SWATCH = 4.5
"""Points from an axis to the middle of a class swatch."""
LONGEST = 60
"""Characters of a name that are shown."""

STYLE: Any = {
    "text.parse_math": False,
    "text.usetex": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "diffmatch",
    "pdf.fonttype": 42,
    "savefig.dpi": 200,
    "font.size": 8,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "lines.markersize": 5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
} | dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK)


def draw(compared: Comparison, plot: Plot, note: str, drawn: str = "") -> Figure:
    """The whole figure. `note` and `drawn` are for its caption."""
    body = sheet(plot.inches, sum(plot.heights) / 72 + 0.45 * len(plot.rows) + 0.4)
    ratios: Any = {"width_ratios": plot.widths, "height_ratios": plot.heights}
    places = body.subplots(len(plot.rows), len(plot.widths), squeeze=False, **ratios)
    room = (plot.inches - 1) / sum(panel.x.high - panel.x.low for panel in plot.rows[0])
    handles: dict[str, Any] = {}
    for row, line in zip(plot.rows, places, strict=True):
        for panel, axes in zip_longest(row, line):
            if panel:
                handles |= _panel(axes, panel, room)
            else:
                axes.remove()
    legend(body, [handles[label] for label in plot.legend])
    return finish(compared, body, note, drawn)


def _panel(axes: Axes, panel: Panel, room: float) -> dict[str, Any]:
    """Draw a panel, and return what stands for its series in a legend."""
    _axis(axes, "x", panel.x, room)
    _axis(axes, "y", panel.y, room)
    axes.set_title("\n".join(map(named, panel.title.splitlines())))
    for x, y, text in panel.notes:
        axes.text(x, y, text, ha="center", va="bottom", fontsize=6, rotation=90 if len(text) > 1 else 0)
    return {series.label: _series(axes, series) for series in panel.series}


def _axis(axes: Axes, which: Literal["x", "y"], axis: Axis, room: float) -> None:
    if axis.swatches:
        class_ticks(axes, which, axis, room)
    else:
        axes.set(**{f"{which}ticks": axis.ticks, f"{which}ticklabels": axis.names or [""] * len(axis.ticks)})
        axes.grid(axis=which)
    axes.set(**{f"{which}lim": (axis.low, axis.high), f"{which}label": axis.label})


def _series(axes: Axes, series: Bars | Line) -> Any:
    style, color, label = series.style, COLORS[series.style.color], named(series.label)
    if isinstance(series, Bars):
        hollow = "none" if style.hatch else PAPER
        inside, outline = (color, INK) if style.filled else (hollow, color)
        look: Any = {"facecolor": inside, "edgecolor": outline, "hatch": style.hatch, "linewidth": 0.7}
        return axes.bar(series.x, series.top - series.bottom, series.width, series.bottom, label=label, **look)
    look = {"color": color, "linewidth": style.width, "linestyle": (0, style.dash) if style.dash else "-"}
    marker = style.marker or ("o" if len(series.x) == 1 else "")
    return axes.plot(series.x, series.y, label=label, marker=marker, clip_on=False, **look)[0]


def class_ticks(axes: Axes, which: Literal["x", "y"], axis: Axis, room: float, size: float = CLASS_NAME) -> None:
    """Ticks named by classes, each with a swatch of its colour on the card.

    Args:
        room: inches between two ticks: on the horizontal axis, names that are wider stand upright.
    """
    horizontal = which == "x"
    upright = horizontal and max(map(len, axis.names)) * size * 0.6 / 72 > room
    axes.set(**{f"{which}ticks": axis.ticks, f"{which}ticklabels": [plain(name) for name in axis.names]})
    axes.tick_params(which, length=0, pad=2 * SWATCH, labelsize=size, labelrotation=90 if upright else 0)
    right, up = (0, -SWATCH / 72) if horizontal else (-SWATCH / 72, 0)
    shift = ScaledTranslation(right, up, axes.figure.dpi_scale_trans)
    along = axes.get_xaxis_transform() if horizontal else axes.get_yaxis_transform()
    places = [axis.ticks, [0.0] * len(axis.ticks)]
    look: Any = {"marker": "s", "s": 18, "edgecolors": INK, "linewidths": 0.4, "clip_on": False}
    look["c"] = [f"#{bytes(color).hex()}" for color in axis.swatches]
    axes.scatter(*(places if horizontal else places[::-1]), transform=along + shift, **look)


def named(text: str, width: int = 28) -> str:
    """A name for a legend or a heading: shortened and broken into lines."""
    text = plain(text)
    return "\n".join(textwrap.wrap(text if len(text) <= LONGEST else f"{text[:LONGEST]} ...", width))


def sheet(width: float, height: float) -> SubFigure:
    """The part of a new figure, in inches, that lies between title and caption."""
    body = Figure(figsize=(width, height), layout="constrained").subfigures()
    assert isinstance(body, SubFigure)
    return body


def _grow(body: SubFigure, lines: int, size: float) -> Figure:
    """Make room for lines of text of `size` points, and return the whole figure."""
    figure = body.figure
    assert isinstance(figure, Figure)
    figure.set_figheight(figure.get_figheight() + lines * size * 1.3 / 72)
    return figure


def finish(compared: Comparison, body: SubFigure, note: str, drawn: str = "") -> Figure:
    """Put the title above the figure and the caption below it."""
    width = body.figure.get_figwidth()
    texts = ((plain(f"{compared.kind}, {compared.card.title}"), TITLE), (compared.caption(note, drawn), CAPTION))
    above, below = (textwrap.wrap(text, max(20, int((width - 0.2) * CHARACTERS / size))) for text, size in texts)
    figure = _grow(body, len(below), CAPTION)
    figure.suptitle("\n".join(above), fontsize=TITLE)
    figure.supxlabel("\n".join(below), x=0.1 / width, ha="left", fontsize=CAPTION, multialignment="left")
    return figure


def legend(body: SubFigure, handles: Sequence[Any]) -> None:
    """One legend above all panels."""
    names = [str(handle.get_label()) for handle in handles]
    width = 0.6 + 0.07 * max(len(line) for name in names for line in name.splitlines())
    columns = max(1, min(len(handles), int(body.figure.get_figwidth() / width)))
    rows = [names[i :: -(-len(names) // columns)] for i in range(-(-len(names) // columns))]
    _grow(body, sum(max(name.count("\n") + 1 for name in row) for row in rows), STYLE["legend.fontsize"])
    body.legend(handles=handles, loc="outside upper center", ncols=columns)
