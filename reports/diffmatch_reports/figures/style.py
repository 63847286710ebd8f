"""How every figure looks: styles that differ without colour, class swatches, title, caption. No pyplot: nothing global is kept."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from diffmatch.card import Card

INK = "#111111"
PAPER = "#ffffff"
GRID = "#d4d4d4"
CAPTION = 7.0
CHARACTERS = 20
"""Of a caption, to an inch."""
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
    "figure.titlesize": 10,
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
_HATCHES = ("", "///", "...", "xxx", "\\\\\\", "---", "ooo", "+++", "|||", "/-", "o-", "\\|", "x.", "*", "/o", "+.")
_MARKERS = "osD^vPX<>"
_DASHES: tuple[Any, ...] = ("-", "--", "-.", (0, (1, 1.2)))
LOOKS = tuple(
    Look(_COLORS[i % len(_COLORS)], hatch, _MARKERS[i % len(_MARKERS)], _DASHES[i % len(_DASHES)]) for i, hatch in enumerate(_HATCHES)
)
"""One a method, the first one for the first method. Colours: Okabe and Ito's, told apart by the colour-blind."""


def plain(text: str) -> str:
    """A name as one line of printable characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def named(text: str, width: int = 24) -> str:
    """A name for a legend or a heading: shortened and broken into lines."""
    return "\n".join(textwrap.wrap(textwrap.shorten(plain(text), LONGEST, placeholder=" ...") or plain(text)[:LONGEST], width))


def sheet(width: float, height: float) -> SubFigure:
    """The part of a new figure, in inches, that lies between title and caption."""
    body: SubFigure = Figure(figsize=(width, height), layout="constrained").subfigures()
    return body


def finish(body: SubFigure, title: str, caption: str) -> Figure:
    """Put the title above and the caption, broken to the figure's width, below; the figure grows by the caption's lines."""
    figure = body.figure
    assert isinstance(figure, Figure)
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(caption, max(40, int((width - 0.2) * CHARACTERS)))
    figure.set_size_inches(width, height + len(lines) * CAPTION * 1.25 / 72)
    figure.suptitle(plain(title))
    figure.supxlabel("\n".join(lines), x=0.1 / width, ha="left", fontsize=CAPTION, multialignment="left")
    return figure


def legend(body: SubFigure, handles: Sequence[Any], width: float = 1.6) -> None:
    """One legend above all panels.

    Args:
        width: of an entry, in inches.
    """
    columns = int(body.figure.get_figwidth() // width)
    body.legend(handles=handles, loc="outside upper center", ncols=max(1, min(len(handles), columns)))


def class_ticks(axes: Axes, which: Literal["x", "y"], indices: Sequence[int], card: Card, room: float, size: float = 7.5) -> None:
    """Ticks named by classes, each with a swatch of its colour on the card.

    Args:
        room: inches between two ticks: names that are wider stand upright.
    """
    places = list(range(len(indices)))
    names = [named(card.names[c], 18) for c in indices]
    colors = [tuple(channel / 255 for channel in card.classes[c].color) for c in indices]
    off = [-0.02] * len(places)
    swatch: Any = {"c": colors, "marker": "s", "s": size * 2.4, "edgecolors": INK, "linewidths": 0.4, "clip_on": False}
    if which == "x":
        widest = max(len(line) for name in names for line in name.splitlines())
        upright = widest * size * 0.6 / 72 > room
        axes.set_xticks(places, names, rotation=90 if upright else 0, fontsize=size)
        axes.tick_params("x", length=0, pad=7)
        axes.scatter(places, off, transform=axes.get_xaxis_transform(), **swatch)
    else:
        axes.set_yticks(places, names, fontsize=size)
        axes.tick_params("y", length=0, pad=7)
        axes.scatter(off, places, transform=axes.get_yaxis_transform(), **swatch)
