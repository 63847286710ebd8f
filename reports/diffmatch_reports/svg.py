"""Plots as inline SVG, drawn straight from numbers: colours are the page's CSS variables, so that a plot follows light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

WIDTH = 324
LEFT, RIGHT = 40, 8
LETTER = 5.0
"""Mean width of a character at the plots' font size."""


@dataclass(frozen=True)
class Look:
    """How a curve is drawn: a colour and a dash pattern of its own, so that it is told apart without colour too."""

    color: str
    dash: str = ""
    width: float = 1.6


INK, GRID = "currentColor", "var(--grid)"
SERIES = tuple(f"var(--c{n})" for n in range(1, 6))


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) within [low, high], at most `most` + 1 of them."""
    if not high > low:
        return [low]
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [n * step for n in range(first, last + 1)]


def decades(low: float, high: float) -> list[float]:
    """Powers of ten within [low, high]; every second or third where there are many."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    return [10.0**n for n in range(first, last + 1, 1 + (last - first) // 6)]


@dataclass
class Panel:
    """A plotting area; what is drawn is collected in `parts`.

    Attributes:
        top, height: in units of the picture, whose width is `WIDTH`.
        x, y: (low, high) of the data; `log` takes x logarithmically.
    """

    top: float
    height: float
    x: tuple[float, float]
    y: tuple[float, float]
    left: float = LEFT
    log: bool = False
    parts: list[str] = field(default_factory=list)

    def px(self, value: float) -> float:
        low, high = (math.log10(v) for v in self.x) if self.log else self.x
        at = math.log10(value) if self.log else value
        return self.left + (at - low) / ((high - low) or 1.0) * (WIDTH - RIGHT - self.left)

    def py(self, value: float) -> float:
        low, high = self.y
        return self.top + self.height * (1 - (value - low) / ((high - low) or 1.0))

    def axes(self, xlabel: str = "", ylabel: str = "", *, yticks: int = 5, xnumbers: bool = True) -> None:
        """Grid, numbers and labels; drawn first, below everything else."""
        bottom = self.top + self.height
        for value in decades(*self.x) if self.log else ticks(*self.x):
            at = self.px(value)
            self.segment(at, self.top, at, bottom)
            if xnumbers:
                self.text(at, bottom + 11, _number(value), "middle")
        for value in ticks(*self.y, yticks) if yticks else ():
            at = self.py(value)
            self.segment(self.left, at, WIDTH - RIGHT, at)
            self.text(self.left - 4, at + 3, _number(value), "end")
        self.segment(self.left, bottom, WIDTH - RIGHT, bottom, INK)
        self.segment(self.left, self.top, self.left, bottom, INK)
        if xlabel:
            self.text((self.left + WIDTH - RIGHT) / 2, bottom + 23, xlabel, "middle")
        if ylabel:
            middle = self.top + self.height / 2
            self.parts.append(f'<text transform="translate(9 {middle:.1f}) rotate(-90)" text-anchor="middle">{escape(ylabel)}</text>')

    def segment(self, x1: float, y1: float, x2: float, y2: float, color: str = GRID, width: float = 0.7) -> None:
        """A straight line in units of the picture."""
        self.parts.append(f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{color}" stroke-width="{width}"/>')

    def text(self, x: float, y: float, text: str, anchor: str = "start") -> None:
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>')

    def line(self, points: Sequence[tuple[float, float]], look: Look) -> None:
        """A curve; a single point as a dot."""
        if len(points) == 1:
            self.mark("dot", *points[0], look.color)
            return
        path = "L".join(f"{self.px(x):.1f} {self.py(y):.1f}" for x, y in points)
        dash = f' stroke-dasharray="{look.dash}"' if look.dash else ""
        self.parts.append(f'<path d="M{path}" fill="none" stroke="{look.color}" stroke-width="{look.width}"{dash}/>')

    def bar(self, x1: float, x2: float, y1: float, y2: float, color: str, *, outline: bool = False) -> None:
        """A rectangle in units of the data, filled or outlined."""
        left, right, top, bottom = self.px(x1), self.px(x2), self.py(max(y1, y2)), self.py(min(y1, y2))
        paint = f'fill="none" stroke="{color}"' if outline else f'fill="{color}"'
        self.parts.append(f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}" {paint}/>')

    def mark(self, shape: str, x: float, y: float, color: str) -> None:
        """`dot`, `bar` (upright) or `cross` at a point of the data."""
        self.parts.append(symbol(shape, self.px(x), self.py(y), color))


def symbol(shape: str, x: float, y: float, color: str) -> str:
    """A marker in units of the picture: `dot`, `bar` (upright) or `cross`."""
    if shape == "dot":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>'
    path = f"M{x:.1f} {y - 6:.1f}v12" if shape == "bar" else f"M{x - 3:.1f} {y - 3:.1f}l6 6m0 -6l-6 6"
    return f'<path d="{path}" fill="none" stroke="{color}" stroke-width="2"/>'


def legend(entries: Sequence[tuple[str, str]], top: float = 0, left: float = LEFT) -> tuple[list[str], float]:
    """Keys in rows: (label, the SVG of its sample, drawn around 8, 0). Returns the parts and the height that they take."""
    parts, x, y = [], left, top + 8
    for label, sample in entries:
        width = 24 + LETTER * len(label) + 8
        if x + width > WIDTH and x > left:
            x, y = left, y + 13
        parts.append(f'<g transform="translate({x:.1f} {y:.1f})">{sample}<text x="20" y="3">{escape(label)}</text></g>')
        x += width
    return parts, y + 8 - top


def sample(look: Look) -> str:
    """A legend's piece of a curve."""
    dash = f' stroke-dasharray="{look.dash}"' if look.dash else ""
    return f'<path d="M0 0h16" stroke="{look.color}" stroke-width="{look.width}"{dash}/>'


def picture(height: float, parts: Sequence[str], gist: str) -> Markup:
    """The whole as one <svg>, named by what it shows in words."""
    return Markup(f'<svg role="img" viewBox="0 0 {WIDTH} {height:.0f}" aria-label="{escape(gist)}">{"".join(parts)}</svg>')


def _number(value: float) -> str:
    """A tick's label: `0.25`, `1200`, `10k`, `2M`, `4e-4`."""
    if 1e-12 < abs(value) < 1e-3:
        mantissa, exponent = f"{value:.3e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= max(size, 1e4):
            return f"{value / size:g}{unit}"
    return f"{0.0 if abs(value) < 1e-12 else value:.6g}"
