"""A plot as inline SVG. Colours are the page's CSS variables, so that a plot follows light and dark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from markupsafe import Markup, escape

from diffmatch.records.counts import Floats
from diffmatch_reports.plots.spec import INK, Bars, Line, Panel, Plot, Style

Number = TypeVar("Number", float, Floats)
WIDTH = 324
LEFT, RIGHT, BETWEEN = 40, 8, 36
"""Room left of a row of panels, right of it, and between two columns."""
LETTER, LINE = 5.0, 11.0
"""Mean width of a character and height of a line at the plots' font size."""
COLORS = 5
"""How many colours for series the page has: --c1, --c2, ..."""
HATCH = Markup(
    '<svg width="0" height="0" aria-hidden="true" style="position:absolute">'
    '<pattern id="hatch" width="4" height="4" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<path d="M0 0h2.6v4h-2.6z" fill="var(--ground)"/></pattern></svg>'
)
"""Stripes that are laid over hatched bars; a page with plots has it once."""


def draw(plot: Plot, words: str) -> Markup:
    """The plot as one <svg>; `words` say what it shows to readers who do not see it."""
    parts, y = _legend(plot)
    unit = (WIDTH - LEFT - RIGHT - BETWEEN * (len(plot.widths) - 1)) / sum(plot.widths)
    for row, height in zip(plot.rows, plot.heights, strict=True):
        y += LINE * max(len(panel.title.splitlines()) for panel in row)
        left, below = float(LEFT), 0.0
        for panel, width in zip(row, plot.widths, strict=False):
            area = _Area(panel, left, y, left + unit * width, y + height)
            parts += area.drawn()
            left, below = area.right + BETWEEN, max(below, area.below)
        y += height + below
    return Markup(f'<svg role="img" viewBox="0 0 {WIDTH} {y:.0f}" aria-label="{escape(words)}">{"".join(parts)}</svg>')


def _legend(plot: Plot) -> tuple[list[str], float]:
    """Labels beside samples of their series, in rows, and the height of it all; one series needs no label."""
    parts, x, y = [], float(LEFT), 8.0
    for label, series in plot.legend.items() if len(plot.legend) > 1 else ():
        width = 32 + LETTER * len(label)
        if x + width > WIDTH and x > LEFT:
            x, y = LEFT, y + 13
        line, style = isinstance(series, Line), series.style
        sample = _stroke("M0 0h16", style) if line else _shape("M0-4h16v8h-16z", style)
        parts.append(f'<g transform="translate({x:.1f} {y:.1f})">{sample}{_text(20, 3, label, "start")}</g>')
        x += width
    return parts, y + 12 if parts else 6.0


@dataclass(frozen=True)
class _Area:
    """A panel and its place in the picture."""

    panel: Panel
    left: float
    top: float
    right: float
    bottom: float

    def x(self, value: Number) -> Number:
        axis = self.panel.x
        return self.left + (value - axis.low) / (axis.high - axis.low) * (self.right - self.left)

    def y(self, value: Number) -> Number:
        axis = self.panel.y
        return self.bottom - (value - axis.low) / (axis.high - axis.low) * (self.bottom - self.top)

    @property
    def longest(self) -> float:
        """Width of the longest name on the horizontal axis."""
        return LETTER * max(map(len, self.panel.x.names), default=0)

    @property
    def upright(self) -> bool:
        """Whether the names of classes have no room side by side."""
        return bool(self.panel.x.swatches) and self.longest > self.x(1) - self.x(0)

    @property
    def below(self) -> float:
        """Height of what is written below the panel, and of a gap."""
        axis = self.panel.x
        names = (self.longest if self.upright else LINE) * bool(axis.names)
        return 12 + names + LINE * (bool(axis.swatches) + bool(axis.label))

    def drawn(self) -> list[str]:
        """Everything in and around the panel, the grid first."""
        series = [self._bars(one) if isinstance(one, Bars) else self._curve(one) for one in self.panel.series]
        return [*self._grid(), *self._titles(), *self._ticks(), *series, *self._notes()]

    def _grid(self) -> list[str]:
        axis = self.panel.x
        lines = [f"M{self.left:.1f} {self.y(tick):.1f}H{self.right:.1f}" for tick in self.panel.y.ticks]
        if not axis.swatches:
            lines += [f"M{self.x(tick):.1f} {self.top:.1f}V{self.bottom:.1f}" for tick in axis.ticks]
        frame = f"M{self.left:.1f} {self.top:.1f}V{self.bottom:.1f}H{self.right:.1f}"
        paths = {"var(--grid)": "".join(lines), "currentColor": frame}
        return [f'<path d="{path}" fill="none" stroke-width=".7" stroke="{color}"/>' for color, path in paths.items()]

    def _titles(self) -> list[str]:
        middle, lines = (self.left + self.right) / 2, self.panel.title.splitlines()[::-1]
        return [
            *(_text(middle, self.top - 5 - LINE * n, line) for n, line in enumerate(lines)),
            _text(middle, self.bottom + 2 * LINE + 1, self.panel.x.label),
            _text(9, (self.top + self.bottom) / 2, self.panel.y.label, turned=True),
        ]

    def _ticks(self) -> list[str]:
        x, y = self.panel.x, self.panel.y
        parts = [_text(self.left - 4, self.y(at) + 3, name, "end") for at, name in zip(y.ticks, y.names, strict=True)]
        top = self.bottom + (LINE if x.swatches else 0)
        for at, name in zip(map(self.x, x.ticks), x.names, strict=False):
            upright = _text(at + 3, top + 2, name, "end", turned=True) if self.upright else ""
            parts.append(upright or _text(at, top + LINE, name))
        for at, color in zip(map(self.x, x.ticks), x.swatches, strict=False):
            square = f'd="M{at - 3:.1f} {self.bottom + 3:.1f}h6v6h-6z" fill="#{bytes(color).hex()}"'
            parts.append(f'<path {square} stroke="currentColor" stroke-width=".4"/>')
        return parts

    def _bars(self, bars: Bars) -> str:
        edges = self.x(bars.x - bars.width / 2), self.x(bars.x + bars.width / 2), self.y(bars.bottom), self.y(bars.top)
        corners = zip(*(edge.tolist() for edge in edges), strict=True)
        path = "".join(f"M{a:.1f} {low:.1f}V{high:.1f}H{b:.1f}V{low:.1f}z" for a, b, low, high in corners)
        return _shape(path, bars.style)

    def _curve(self, line: Line) -> str:
        points = [f"{x:.1f} {y:.1f}" for x, y in zip(map(self.x, line.x), map(self.y, line.y), strict=True)]
        dot = "" if len(points) > 1 else "m-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0"
        return _shape(f"M{points[0]}{dot}", line.style) if dot else _stroke("M" + "L".join(points), line.style)

    def _notes(self) -> list[str]:
        notes = [(self.x(x), self.y(y) - 3, text) for x, y, text in self.panel.notes]
        return [_text(x, y, t) if len(t) == 1 else _text(x + 3, y, t, "start", turned=True) for x, y, t in notes]


def _text(x: float, y: float, text: str, anchor: str = "middle", *, turned: bool = False) -> str:
    """A line of text, read from the left or, `turned`, from below."""
    place = f'transform="translate({x:.1f} {y:.1f}) rotate(-90)"' if turned else f'x="{x:.1f}" y="{y:.1f}"'
    return f'<text {place} text-anchor="{anchor}">{escape(text)}</text>' if text else ""


def _color(style: Style) -> str:
    return "currentColor" if style.color == INK else f"var(--c{style.color % COLORS + 1})"


def _shape(path: str, style: Style) -> str:
    color = _color(style)
    if style.filled:
        fills = [color, "url(#hatch)"] if style.hatch else [color]
        return "".join(f'<path d="{path}" fill="{fill}"/>' for fill in fills)
    fill = f'fill="{color}" fill-opacity="0.4"' if style.hatch else 'fill="var(--ground)"'
    return f'<path d="{path}" {fill} stroke="{color}"/>'


def _stroke(path: str, style: Style) -> str:
    dash = " ".join(f"{style.width * length:.3g}" for length in style.dash)
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<path d="{path}" fill="none" stroke="{_color(style)}" stroke-width="{style.width:g}"{dashed}/>'
