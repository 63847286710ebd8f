"""How every figure looks: styles that differ without colour, class swatches, title, caption. No pyplot: nothing global is kept."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.transforms import ScaledTranslation

from diffmatch.card import Card

INK = "#111111"
PAPER = "#ffffff"
GRID = "#d4d4d4"
CAPTION = 7.0
TITLE = 10.0
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
    "lines.linewidth": 1.5,
    "lines.markersize": 5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
} | dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK)


@dataclass(frozen=True)
class Look:
    """Of one method: its hatch, or its marker and dash, tell it from the others without colour."""

    color: str
    hatch: str
    marker: str
    dash: Any


_COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999")
_HATCHES = (
    *("", "///", "...", "xxx", "\\\\\\", "---", "ooo", "+++", "|||", "***", "/-", "\\|"),
    *(2 * (line + dot) for dot in (".", "o", "*") for line in "/\\-|"),
)
_MARKERS = "osD^vPX<>"
_DASHES: tuple[Any, ...] = ("-", "--", "-.", (0, (1, 1.2)))
LOOKS = tuple(
    Look(_COLORS[i % len(_COLORS)], hatch, _MARKERS[i % len(_MARKERS)], _DASHES[i % len(_DASHES)]) for i, hatch in enumerate(_HATCHES)
)
"""One a method, the first one for the first method. Colours: Okabe and Ito's, told apart by the colour-blind."""


def plain(text: str) -> str:
    """A name as one line of printable characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


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


def _wrapped(body: SubFigure, text: str, size: float) -> list[str]:
    """Text of `size` points broken to the figure's width."""
    return textwrap.wrap(plain(text), max(20, int((body.figure.get_figwidth() - 0.2) * CHARACTERS / size)))


def finish(body: SubFigure, title: str, caption: str) -> Figure:
    """Put the title above the figure and the caption below it."""
    above, below = _wrapped(body, title, TITLE), _wrapped(body, caption, CAPTION)
    figure = _grow(body, len(below), CAPTION)
    figure.suptitle("\n".join(above), fontsize=TITLE)
    figure.supxlabel("\n".join(below), x=0.1 / figure.get_figwidth(), ha="left", fontsize=CAPTION, multialignment="left")
    return figure


def legend(body: SubFigure, handles: Sequence[Any]) -> None:
    """One legend above all panels."""
    names = [str(handle.get_label()) for handle in handles]
    width = 0.6 + 0.07 * max(len(line) for name in names for line in name.splitlines())
    columns = max(1, min(len(handles), int(body.figure.get_figwidth() / width)))
    rows = [names[i :: -(-len(names) // columns)] for i in range(-(-len(names) // columns))]
    _grow(body, sum(max(name.count("\n") + 1 for name in row) for row in rows), STYLE["legend.fontsize"])
    body.legend(handles=handles, loc="outside upper center", ncols=columns)


def class_ticks(axes: Axes, which: Literal["x", "y"], indices: Sequence[int], card: Card, room: float, size: float = 7.5) -> None:
    """Ticks named by classes, each with a swatch of its colour on the card.

    Args:
        room: inches between two ticks: names that are wider stand upright.
    """
    places = list(range(len(indices)))
    names = [named(card.names[c], 18) for c in indices]
    colors = [tuple(channel / 255 for channel in card.classes[c].color) for c in indices]
    edge = [0.0] * len(places)
    swatch: Any = {"c": colors, "marker": "s", "s": 18, "edgecolors": INK, "linewidths": 0.4, "clip_on": False}
    if which == "x":
        widest = max(len(line) for name in names for line in name.splitlines())
        upright = widest * size * 0.6 / 72 > room
        axes.set_xticks(places, names, rotation=90 if upright else 0, fontsize=size)
        axes.tick_params("x", length=0, pad=2 * SWATCH)
        below = ScaledTranslation(0, -SWATCH / 72, axes.figure.dpi_scale_trans)
        axes.scatter(places, edge, transform=axes.get_xaxis_transform() + below, **swatch)
    else:
        axes.set_yticks(places, names, fontsize=size)
        axes.tick_params("y", length=0, pad=2 * SWATCH)
        beside = ScaledTranslation(-SWATCH / 72, 0, axes.figure.dpi_scale_trans)
        axes.scatter(edge, places, transform=axes.get_yaxis_transform() + beside, **swatch)
