"""Confusion matrices, the paper's Figure 5. A page has them as a table, which can be read aloud and copied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from diffmatch.records.counts import Floats, Ints
from diffmatch.scoring.metrics import ratio
from diffmatch_reports.wording import big, share

DENSE = 25
"""A matrix of more classes has colours alone."""
HOT = 0.85
"""From this share on, a cell of a page is dark enough for light letters."""


@dataclass(frozen=True)
class Matrix:
    """Counts (C, C), rows truth, columns prediction."""

    names: Sequence[str]
    counts: Ints

    @property
    def dense(self) -> bool:
        return len(self.names) > DENSE

    @property
    def shares(self) -> Floats:
        """What part of each true class was predicted as each class, (C, C); NaN in the row of a class without truth."""
        return ratio(self.counts, np.broadcast_to(self.counts.sum(1, keepdims=True), self.counts.shape))

    @property
    def gist(self) -> str:
        """The largest share off the diagonal, in words."""
        wrong = self.shares * (1 - np.eye(len(self.names)))
        if not np.isfinite(wrong).any():
            return ""
        t, p = divmod(int(np.nanargmax(wrong)), len(self.names))
        most = f"{100 * wrong[t, p]:.0f} % of {self.names[t]} is predicted as {self.names[p]}"
        return f"The most frequent confusion: {most}."

    @property
    def body(self) -> Markup:
        """The rows of the page's table. A template would be slow: 81 classes have 6,561 cells."""
        names = [str(escape(name)) for name in self.names]
        rows = zip(names, self.shares.tolist(), self.counts.sum(1).tolist(), strict=True)
        return Markup("\n".join(self._row(truth, names, shares, pixels) for truth, shares, pixels in rows))

    def _row(self, truth: str, names: Sequence[str], shares: Sequence[float], pixels: int) -> str:
        cells = "".join(self._cell(truth, name, value) for name, value in zip(names, shares, strict=True))
        return f'<tr><th scope="row">{truth}</th>{cells}<td class="num">{big(pixels)}</td></tr>'

    def _cell(self, truth: str, predicted: str, value: float) -> str:
        """A share; blank where there is none, and in a dense matrix below half a per mille."""
        if np.isnan(value) or (self.dense and value < 0.0005):
            return "<td></td>"
        text, hot = share(value), " hot" if value >= HOT else ""
        title = f"{truth} predicted as {predicted}: {text} %"
        return f'<td class="num heat{hot}" style="--v:{value:.3f}" title="{title}">{"" if self.dense else text}</td>'
