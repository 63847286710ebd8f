"""A plot as data: panels, axes, bars and lines. `svg` draws it for a page, `figures.drawing` for the paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from diffmatch.card import Card
from diffmatch.records.counts import Floats

INK = -1
"""The colour of text. Other colours are numbers into the palette of a page or of the figures."""
LONGEST = 22
"""Characters of a class's name that an axis shows."""


@dataclass(frozen=True)
class Style:
    """How a series looks: colour, and what tells it from others without colour.

    Attributes:
        dash: of a line: lengths of strokes and gaps in widths of the line; empty for a solid one.
        filled: whether bars are. The others have an outline of the colour; with a hatch what lies below shows through.
        hatch, marker: as matplotlib names them. A page has one hatch for all and no markers.
    """

    color: int
    dash: tuple[float, ...] = ()
    width: float = 1.5
    filled: bool = True
    hatch: str = ""
    marker: str = ""


_DASHES = ((), (3.7, 1.6), (6.4, 1.6, 1, 1.6), (1, 1.2))
_MARKERS = "osD^vPX<>"
_LINES = ("", "///", "...", "xxx", "\\\\\\", "---", "ooo", "+++", "|||", "***", "/-", "\\|")
_HATCHES = (*_LINES, *(2 * (line + dot) for dot in ".o*" for line in "/\\-|"))
STYLES = tuple(Style(i % 7, _DASHES[i % 4], hatch=h, marker=_MARKERS[i % 9]) for i, h in enumerate(_HATCHES))
"""The first one for the first series of a plot, and so on."""
TRUTH = Style(INK, dash=(4, 2.5), width=1.2, filled=False)


@dataclass(frozen=True)
class Bars:
    """Upright bars of a width around each `x`, from `bottom` to `top`, in the data's units."""

    label: str
    style: Style
    width: float
    x: Floats
    top: Floats
    bottom: Floats


@dataclass(frozen=True)
class Line:
    """Points joined in order; a single one is a dot."""

    label: str
    style: Style
    x: Sequence[float] | Floats
    y: Sequence[float] | Floats


@dataclass(frozen=True)
class Axis:
    """Limits and ticks. Ticks of classes have `swatches` in the classes' colours, ticks of numbers grid lines."""

    low: float
    high: float
    label: str = ""
    ticks: Sequence[float] = ()
    names: Sequence[str] = ()
    swatches: Sequence[tuple[int, int, int]] = ()

    @property
    def bare(self) -> Axis:
        """The same axis with nothing written at it, for a panel above one that has it."""
        return replace(self, label="", names=(), ticks=() if self.swatches else self.ticks, swatches=())


@dataclass(frozen=True)
class Panel:
    """One plotting area. `notes` are (x, y, text): text that stands on a point of the data."""

    x: Axis
    y: Axis
    series: Sequence[Bars | Line]
    title: str = ""
    notes: Sequence[tuple[float, float, str]] = ()


@dataclass(frozen=True)
class Plot:
    """Panels in rows and columns below one legend.

    Attributes:
        rows: panels; the last rows may be shorter than the first.
        heights: of the rows' panels in points, without what is written around them.
        widths: of the columns, relative to each other.
        inches: width of a figure on paper; on a page all plots have one width.
    """

    rows: Sequence[Sequence[Panel]]
    heights: Sequence[float]
    widths: Sequence[float] = (1,)
    inches: float = 5.6

    @property
    def legend(self) -> dict[str, Bars | Line]:
        """Label -> a series that has it, in the order of the panels."""
        return {series.label: series for row in self.rows for panel in row for series in panel.series if series.label}


def number_axis(low: float, high: float, label: str = "", most: int = 6) -> Axis:
    """An axis of numbers with round ticks, 1, 2 or 5 times a power of ten apart, at most `most` + 1 of them."""
    high = high if high > low else low + 1
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(power * m for m in (1, 2, 5, 10) if power * m * most >= (high - low) * (1 - 1e-9))
    ticks = [n * step for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    return Axis(low, high, label, ticks, [short(tick) for tick in ticks])


def class_axis(card: Card, classes: Sequence[int]) -> Axis:
    """An axis with a place for each of the classes, the first at 0."""
    names = [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in (card.names[c] for c in classes)]
    return Axis(-0.6, len(classes) - 0.4, "", range(len(classes)), names, [card.classes[c].color for c in classes])


def short(value: float) -> str:
    """A number as a tick has it: `0.25`, `1200`, `10k`, `2M`, `4e-4`."""
    if 0 < abs(value) < 1e-3:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    size, unit = next((u for u in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if abs(value) >= max(u[0], 1e4)), (1, ""))
    return f"{value / size:.4g}{unit}"
